"""The denoising loss of real images by stage, at the same times and with the same noise each time."""

import math
from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number
from msdk.noise_levels.base import NoiseLevel
from msdk.weightings.base import Weighting


@attrs.frozen(kw_only=True)
class DenoisingLoss(Metric):
    """The weighted squared error of the denoised image, w(t) |x_0 estimate - x_0|^2, by stage.

    It is of held-out images where `data.held_out` keeps some from training, else of those that were learned. Each has
    in each stage a time of its own, spread as the recipe's law of training times says, and its own noise, by its
    content: two runs of one data set, weighting and law can be compared, and any two where both are said here. The
    whole is the mean over stages by their natural shares. It needs no extractor.
    Source: ours; the loss is the paper's Eq. 2.

    Args:
        images: Real images that are looked at, at most.
        batch_size: Images at a time.
        weighting: Weight of the loss by noise level; the recipe's when not given.
        noise: The law of times; that of the recipe's training when not given.
    """

    title: ClassVar[str] = "denoising-loss"
    reads: ClassVar = "denoiser"

    images: int = attrs.field(default=2048, validator=ge(1))
    batch_size: int = attrs.field(default=64, validator=ge(1))
    weighting: Weighting | None = None
    noise: NoiseLevel | None = None

    def score(self, evidence: Evidence) -> Found:
        from msdk.metrics.stage_losses import stage_losses

        denoiser, recipe, real = evidence.denoiser, evidence.recipe, evidence.real
        if denoiser is None or recipe is None or real is None:
            raise PartError("denoising-loss is of a run, with its weights: images alone have none")
        training = attrs.evolve(recipe.training, noise=self.noise or recipe.training.noise)
        recipe = attrs.evolve(recipe, weighting=self.weighting or recipe.weighting, training=training)
        shares = recipe.natural_shares(denoiser.partition)
        losses = stage_losses(denoiser, recipe, real, evidence.hashes, self.batch_size)
        whole = math.fsum(share * losses[stage] for stage, share in enumerate(shares) if share > 0)
        return Found((Number("", whole), *(Number(f"stage {stage}", loss) for stage, loss in losses.items())))
