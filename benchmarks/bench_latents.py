"""How much faster is training on latents that `msdk data encode` kept than encoding images in every step?

Made-up images of 32x32 are encoded by a VQ-f4 of random weights, and a small U-Net (32 channels) in three stages is
trained on its latents, from images and from what was kept, in turn. Prints one JSON line: images per second of each,
and their ratio. `--channels 128` is the VQ-f4 of the published LDM, and the figure of docs/data.md.

`python benchmarks/bench_latents.py --runs 3 --channels 128 --steps 8`
"""

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import attrs
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import msdk
from msdk.denoiser.building import build_autoencoder
from msdk.recipe import Recipe, load_recipe
from msdk.training.encoding import encode

BATCH = 8


def made_up(folder: Path, channels: int, steps: int) -> Recipe:
    """A recipe on latents of images in a folder."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(2 * BATCH):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    decoder = '{name="ddpmpp", channels=32}'
    recipe = load_recipe(
        "recipes/digits/base.toml",
        [
            f'data={{name="folder", path="{folder / "images"}", size=32}}',
            f'autoencoder={{name="vq-f4", channels={channels}}}',
            f"decoders=[{decoder}, {decoder}, {decoder}]",
            "stages.edges_ratio=[0.3, 2.5]",
            f"training.iterations={steps}",
            f"training.batch_size={BATCH}",
            f"training.checkpoint_every={steps}",
            f"training.log_every={steps}",
        ],
    )
    assert recipe.autoencoder is not None
    weights = folder / "vq.safetensors"
    save_file(build_autoencoder(recipe.autoencoder, recipe.data.shape).state_dict(), weights)
    return attrs.evolve(recipe, autoencoder=attrs.evolve(recipe.autoencoder, weights=weights))


def rate(recipe: Recipe, folder: Path, latents: Path | None) -> float:
    """Images per second of training."""
    recipe = attrs.evolve(recipe, training=attrs.evolve(recipe.training, latents=latents))
    return msdk.train(recipe, folder, force=True).last.images_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = made_up(folder, options.channels, options.steps)
        encode(recipe, folder / "latents")
        found = [
            (rate(recipe, folder / "a", None), rate(recipe, folder / "b", folder / "latents"))
            for _ in range(options.runs)
        ]
    results = {
        "channels": options.channels,
        "from images, images/s": round(statistics.median(each for each, _ in found), 2),
        "from latents, images/s": round(statistics.median(each for _, each in found), 2),
        "ratio": round(statistics.median(b / a for a, b in found), 2),
    }
    print(json.dumps({"results": results, "torch": torch.__version__, "machine": platform.processor()}))


if __name__ == "__main__":
    main()
