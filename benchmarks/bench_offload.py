"""How much memory does sampling take when only the decoder in use is loaded, and how much longer does it take?

Makes a run folder of the multistage CIFAR-10 network with random weights, and draws one image from it in 6 steps with
every decoder loaded, and with `offload`, each in a process of its own. Memory is the largest resident size (VmHWM)
above what stood before the network was loaded (after imports and a sampling of a tiny network). Prints one JSON line.
Aim, never asserted: encoder + largest decoder, and the activations of a call.

`python benchmarks/bench_offload.py --runs 3 --size full`
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {"small": (32, (48, 48, 48)), "full": (128, (192, 128, 16))}
"""Channels of the encoder and of the decoders."""


def status(key: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def recipe_of(size: str) -> Any:
    import msdk

    encoder, decoders = SIZES[size]
    settings = [f"decoders.{index}.channels={width}" for index, width in enumerate(decoders)]
    return msdk.load_recipe("recipes/cifar10/dpm-multistage.toml", [f"encoder.channels={encoder}", *settings])


def make_run(place: Path, size: str) -> dict[str, int]:
    """A run folder with random weights; bytes of the encoder and of each decoder."""
    from safetensors.torch import save_file

    import msdk

    recipe = recipe_of(size)
    network = msdk.build(recipe).network
    folder = place / "checkpoints" / "00000001"
    folder.mkdir(parents=True)
    (place / "recipe.toml").write_text(msdk.recipe.to_toml(recipe))
    (folder / "state.json").write_text("{}")
    save_file(network.state_dict(), folder / "ema.safetensors")
    parts = {"encoder": network.encoders, **{f"decoder {k}": part for k, part in enumerate(network.decoders)}}
    return {name: sum(4 * value.numel() for value in part.state_dict().values()) for name, part in parts.items()}


def measured(place: Path, *, offload: bool) -> dict[str, float]:
    """Memory and time of drawing an image; to be called in a fresh process."""
    import torch

    import msdk

    torch.set_num_threads(1)
    warm = msdk.load_recipe("recipes/digits/unified.toml")
    msdk.sample(msdk.build(warm).eval(), warm.sampler, 2, [0])
    Path("/proc/self/clear_refs").write_text("5")
    before, begun = status("VmRSS"), time.perf_counter()
    denoiser = msdk.load_run(place, offload=offload)
    recipe = msdk.load_recipe(place / "recipe.toml")
    msdk.sample(denoiser, recipe.sampler, 6, [0])
    return {"bytes": status("VmHWM") - before, "seconds": time.perf_counter() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--measure", choices=("all", "offload"), help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measured(asked.place, offload=asked.measure == "offload")))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        weights = make_run(place, asked.size)
        found: dict[str, dict[str, float]] = {}
        for way in ("all", "offload"):
            command = [sys.executable, __file__, "--measure", way, "--place", str(place)]
            lines = [json.loads(subprocess.check_output(command)) for _ in range(asked.runs)]
            found[way] = {key: statistics.median(line[key] for line in lines) for key in ("bytes", "seconds")}
    expected = weights["encoder"] + max(size for name, size in weights.items() if name != "encoder")
    results = {**found, "weights": weights, "encoder_and_largest_decoder": expected}
    print(
        json.dumps(
            {"benchmark": "offload", "size": asked.size, "python": platform.python_version(), "results": results}
        )
    )


if __name__ == "__main__":
    main()
