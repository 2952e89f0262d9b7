"""Recipes that tests share."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from msdk.recipe import Recipe, load_recipe


def tiny(*overrides: str) -> Recipe:
    """A three-stage recipe on the digits that trains in seconds, with `--set` overrides."""
    return load_recipe(
        "recipes/digits/base.toml",
        [
            'decoders=[{name="ddpmpp", channels=12}, {name="ddpmpp", channels=8}, {name="ddpmpp", channels=4}]',
            "stages.edges_ratio=[0.3, 2.5]",
            "encoder.channels=8",
            "encoder.blocks=1",
            "training.iterations=4",
            "training.batch_size=8",
            "training.warmup=2",
            "training.log_every=2",
            "training.checkpoint_every=100",
            "sampling.steps=4",
            "sampling.images=4",
            *overrides,
        ],
    )


AUTOENCODER = (
    '{name="vq-f4", channels=8, channel_mult=[1, 2], blocks=1, z_channels=2, latent_channels=2, groups=4, codes=16'
)
"""A tiny first stage for the digits, with latents of 2 channels and 4x4 pixels; the table is left open."""


def latent(folder: Path, *overrides: str) -> Recipe:
    """The tiny recipe on latents, with an autoencoder of random weights in a file."""
    spec = tiny(f"autoencoder={AUTOENCODER}, scale=2.5}}").autoencoder
    assert spec is not None
    torch.manual_seed(3)
    net = spec.build((1, 8, 8))
    torch.nn.init.normal_(net.quantizer.codes)
    save_file(net.state_dict(), folder / "vq.safetensors")
    return tiny(f'autoencoder={AUTOENCODER}, scale=2.5, weights="{folder / "vq.safetensors"}"}}', *overrides)
