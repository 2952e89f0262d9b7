"""The denoising loss of real images by stage, with the same times and noise each time."""

from typing import ClassVar

import attrs
from attrs.validators import ge

from msdk.errors import PartError
from msdk.metrics.base import Evidence, Found, Metric, Number


@attrs.frozen(kw_only=True)
class DenoisingLoss(Metric):
    """The weighted squared error of the denoised image, w(t) |x_0 estimate - x_0|^2, by stage.

    In each stage every image has its own time, stratified over the stage under the recipe's law of training times, and
    its own noise: a function of the seed and the image's place alone, so that two runs of one data set and weighting
    can be compared. The whole is the mean over stages by their natural shares. It needs no extractor.
    Source: ours; the loss is the paper's Eq. 2.

    Args:
        seed: Of times and noise.
        batch_size: Images at a time, which changes no number.
    """

    title: ClassVar[str] = "denoising-loss"
    reads: ClassVar = "denoiser"

    seed: int = attrs.field(default=0, validator=ge(0))
    batch_size: int = attrs.field(default=64, validator=ge(1))

    def score(self, evidence: Evidence) -> Found:
        from msdk.metrics.stage_losses import stage_losses

        denoiser, recipe, real = evidence.denoiser, evidence.recipe, evidence.real
        if denoiser is None or recipe is None or real is None:
            raise PartError("denoising-loss is of a run, with its weights: images alone have none")
        losses = stage_losses(denoiser, recipe, real, seed=self.seed, batch_size=self.batch_size)
        shares = recipe.natural_shares(denoiser.partition)
        whole = sum(share * loss for share, loss in zip(shares, losses, strict=True))
        by_stage = (Number(f"stage {index}", loss) for index, loss in enumerate(losses))
        return Found((Number("", whole), *by_stage))
