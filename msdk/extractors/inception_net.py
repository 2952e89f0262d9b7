"""torch-fidelity's network with weights of a local file."""

import importlib
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from msdk.errors import PartError
from msdk.extractors.base import Extracted, Opened
from msdk.extractors.files import found, read

if TYPE_CHECKING:
    from msdk.extractors.inception import Inception

CLASS = "inception-v3-compat"
"""What torch-fidelity calls the network, which has no weights of its own by this name."""

LAST, CLASSES = "2048", 1008


class _Opened(Opened):
    def __init__(self, spec: "Inception", net: Any, digest: str, device: str) -> None:
        self.net, self.digest, self.device, self.width = net.to(device), digest, device, int(spec.layer)
        self.classes = CLASSES if spec.layer == LAST else 0  # an inner layer needs nothing behind it

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        pixels = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return Extracted(*(each.cpu() for each in self.net(pixels.contiguous().to(self.device))))


def opened(spec: "Inception", device: str) -> Opened:
    """Reads the file; the network is torch-fidelity's own."""
    from msdk.extractors.inception import PUBLISHED

    path = found(PUBLISHED, spec.weights)
    try:
        module: Any = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError as error:
        raise PartError(
            "the extractor 'inception' needs the package torch-fidelity: pip install 'msdk-diffusion[evaluation]'"
        ) from error
    state, digest = read(path)
    held = io.BytesIO()
    torch.save(state, held)  # torch-fidelity unpickles what it is given, so it is given what was read safely
    held.seek(0)
    try:
        net = module.FeatureExtractorInceptionV3(
            CLASS,
            [spec.layer, *(["logits_unbiased"] if spec.layer == LAST else [])],
            feature_extractor_weights_path=held,
            feature_extractor_internal_dtype=spec.precision,
        )
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise PartError(f"{path} has no weights of {PUBLISHED.what}: {first}") from error
    return _Opened(spec, net, digest, device)
