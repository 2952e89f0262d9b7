"""Recipes that tests share."""

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
