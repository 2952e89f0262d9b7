"""What all tests share: the outside data, and jaxtyping's shape checks on the modules that import torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from msdk.threads import VARIABLE, asked  # also tells OpenMP how threads wait, before anything imports torch

CHECKED = (
    "msdk.layers",
    "msdk.denoiser",
    "msdk.autoencoders.conv_net",
    "msdk.autoencoders.kl_net",
    "msdk.autoencoders.vq_net",
    "msdk.encoders.unet_net",
    "msdk.encoders.adapter_net",
    "msdk.encoders.dit_net",
    "msdk.encoders.uvit_net",
    "msdk.decoders.unet_net",
    "msdk.decoders.dit_net",
    "msdk.decoders.uvit_net",
)
"""Modules whose annotated shapes are checked at every call. Torch-free modules name their tensors only to readers."""

install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Each worker has one thread, and so have the commands it starts; MSDK_THREADS tells otherwise."""
    os.environ.setdefault(VARIABLE, "1")
    import torch

    torch.set_num_threads(asked() or 1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Counts are cached where no test finds those of a user, and no user those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSDK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def outside_data() -> Path:
    """The folder of golden vectors and CIFAR-10; set but missing is an error, unset skips."""
    place = os.environ.get("MSDK_TEST_DATA")
    if not place:
        pytest.skip("MSDK_TEST_DATA is not set: it names the folder with golden/ and data/")
    folder = Path(place)
    if not (folder / "golden").is_dir():
        pytest.fail(f"MSDK_TEST_DATA is {place}, which has no golden/")
    return folder
