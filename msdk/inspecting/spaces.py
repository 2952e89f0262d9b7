"""What `msdk inspect h-space` found, without torch."""

from typing import Any

import attrs

from msdk.recipe.results import to_json

Matrix = tuple[tuple[float, ...], ...]


@attrs.frozen(kw_only=True)
class Level:
    """A noise level that was looked at.

    Attributes:
        t: In the time of the run's schedule.
        ratio: sigma / alpha.
        stage: Whose encoder and decoder have it.
    """

    t: float
    ratio: float
    stage: int


@attrs.frozen(kw_only=True)
class Space:
    """The deepest features of a run's encoder, or of its encoders.

    Attributes:
        run: Its folder.
        checkpoint: Iteration of the weights.
        encoder: "shared" by stages, "separate", or "unified" where there is one stage.
        features: Shape of what the encoder hands on of one image; the first one's, where stages have encoders of
            different sizes.
        levels: Least noise first.
        similarity: CKA between the features at each two levels, [levels, levels].
        stages: Its mean over all pairs of different levels of each two stages, [stages, stages];
            None where there is no pair.
        sizes: Shapes by stage, of those with a level, where they differ; empty where `features` says it of all.
    """

    run: str
    checkpoint: int
    encoder: str
    features: tuple[int, ...]
    levels: tuple[Level, ...]
    similarity: Matrix
    stages: tuple[tuple[float | None, ...], ...]
    sizes: tuple[tuple[int, ...], ...] = ()


@attrs.frozen(kw_only=True)
class HSpace:
    """Of one run, or of two side by side.

    Attributes:
        images: How many were looked at: the same with the same noise at all levels, and in both runs.
        held_out: Whether they never trained.
        spaces: Of each run.
        across: CKA between the two runs at each level, at the same ratio; empty for one run.
    """

    images: int
    held_out: bool
    spaces: tuple[Space, ...]
    across: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object of `msdk inspect h-space --json`."""
        return to_json(self)
