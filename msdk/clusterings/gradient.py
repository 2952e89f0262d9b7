"""Stages between whose times a network's gradients agree."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, gt, le, optional

from msdk.clusterings.base import Clustering, Found, Need, Subject
from msdk.clusterings.segmentation import MOST_POINTS, Lengths, by_middle, grid

if TYPE_CHECKING:
    from torch import Tensor

FITS = 2**27
"""Numbers of all gradients of a network together that are kept as they are: 512 MB, and as much to compare them."""

CHUNK = 2**22
"""Entries that are projected at a time."""


@attrs.frozen(kw_only=True)
class Gradient(Clustering):
    """Contiguous stages whose loss gradients are most alike to those of their middles, in a network in training.

    The affinity of two times is the cosine between the gradients of the loss there, with respect to all weights, on one
    batch of images and noise; it is averaged over checkpoints of the training of one network for all times.
    Gradients that do not fit into 512 MB are projected at random to `projection` numbers (count sketch, Charikar et al.
    2002), whose cosines c have a standard error of at most sqrt((1 + c^2) / projection): 0.011 with the default.
    Source: Go et al. 2023, arXiv 2306.00354, section 3 and 4.2; the paper's Table 4, "gradient".

    Args:
        stages: Number of stages.
        points: Points of the time grid.
        shortest: Least length of a stage as a share of the grid; 1 / (2 stages) when not given.
        longest: Largest length; 3 / (2 stages) when not given.
        run: Run folder of a network for all times (`sharing = "unified"`), as `msdk train` leaves it; without one, one
            is trained for `iterations` with the recipe's own settings.
        iterations: How long it is trained.
        checkpoints: How many of the newest checkpoints are averaged; of its own training, that many are made.
        batch: Images and noises that a gradient is the mean of.
        projection: Numbers that a gradient is projected to where all of them would not fit.
        as_published: Whether every time has a noise of its own and dropout is on, as in the published program, instead
            of one noise for all times and a network that drops nothing, whose affinities vary less.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data", "models"})
    stages: int = attrs.field(default=3, validator=ge(2))
    points: int = attrs.field(default=100, validator=[ge(4), le(MOST_POINTS)])
    shortest: float | None = attrs.field(default=None, validator=optional(ge(0)))
    longest: float | None = attrs.field(default=None, validator=optional(gt(0)))
    run: Path | None = None
    iterations: int = attrs.field(default=500, validator=ge(1))
    checkpoints: int = attrs.field(default=3, validator=[ge(1), le(1000)])
    batch: int = attrs.field(default=128, validator=[ge(1), le(2**20)])
    projection: int = attrs.field(default=16384, validator=[ge(16), le(2**24)])
    as_published: bool = False

    def find(self, subject: Subject) -> Found:
        import torch

        lengths = Lengths.of_shares(self.points, self.stages, self.shortest, self.longest)
        times = grid(subject.schedule, self.points)
        models = subject.models(
            self.run,
            checkpoints=self.checkpoints,
            iterations=self.iterations,
            batch=self.batch,
            seed=subject.seed,
            **({"as_published": True} if self.as_published else {}),  # models of old plugins know no such mode
        )
        affinities: list[Tensor] = []
        projected = False
        for number, model in enumerate(models):
            gradients: list[Tensor] = []
            for index, t in enumerate(times.tolist()):
                gradient = model.gradient(t)
                projected = len(gradient) * self.points > FITS
                gradients.append(projection(gradient, self.projection) if projected else gradient)
                subject.progress(number * self.points + index + 1, self.checkpoints * self.points)
            unit = torch.nn.functional.normalize(torch.stack(gradients), dim=1)
            affinities.append((unit @ unit.T).double().cpu())
        affinity = torch.stack(affinities).mean(0)
        how = f"projected at random to {self.projection} numbers" if projected else "whole"
        if self.as_published:
            how += ", each of a noise of its own and with dropout"
        return Found(
            edges_t=tuple(times[by_middle(-affinity, self.stages, lengths)].tolist()),
            curves={"t": times.tolist()},
            matrices={"affinity": affinity.tolist()},
            notes=(f"Affinities are means over {len(affinities)} checkpoints; gradients were {how}.",),
        )


def projection(values: "Tensor", size: int) -> "Tensor":
    """A count sketch: every entry is added, with a random sign, to a random one of `size` numbers; the same each time.

    Inner products are kept in the mean, those of unit vectors with a standard error of at most sqrt(2 / size).
    Source: Charikar, Chen and Farach-Colton 2002, "Finding frequent items in data streams".

    Args:
        values: [p].
        size: Length of the result.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    sketch = torch.zeros(2 * size, device=values.device, dtype=torch.float32)
    for piece in values.split(CHUNK):
        # One number says both the place and the sign.
        places = torch.randint(2 * size, (len(piece),), generator=generator)
        sketch.index_add_(0, places.to(values.device), piece.float())
    return sketch[:size] - sketch[size:]
