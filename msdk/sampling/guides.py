"""The run that guides another."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from msdk.batch import Condition
from msdk.denoiser import Denoiser
from msdk.errors import PartError
from msdk.recipe import Guide, Recipe
from msdk.runs import latest, load_run, run_recipe, weights_of
from msdk.runs.folder import checkpoint_at
from msdk.runs.forking import digest_of

if TYPE_CHECKING:
    from msdk.samplers.guidance import Estimate


def guide_told(recipe: Recipe, sampling: dict[str, Any]) -> dict[str, Any]:
    """What tells the guide of a recipe from another one, for stamps; takes the key out where there is none."""
    guide = recipe.sampling.guide
    if guide is None:
        sampling.pop("guide", None)
        return {}
    found = latest(guide.run) if guide.checkpoint is None else checkpoint_at(guide.run, guide.checkpoint)
    digest = digest_of(weights_of(found, run_recipe(guide.run), guide.weights))
    return {"guide": {"run": guide.run.name, "checkpoint": found.name, "weights": guide.weights, "sha256": digest}}


def guide_of(denoiser: Denoiser, guide: Guide) -> "Estimate":
    """The estimate of a run on the images of a denoiser, on its device and in its dtype.

    Raises:
        RunError: There is no such run, or it cannot be read.
        PartError: It sees other images, another noise, or other classes.
    """
    found = load_run(guide.run, weights=guide.weights, checkpoint=guide.checkpoint, device=denoiser.place.device)
    facts: dict[str, tuple[object, object]] = {
        "shape": (found.shape, denoiser.shape),
        "schedule": (found.schedule, denoiser.schedule),
        "range of pixels": (found.unit_range, denoiser.unit_range),
        "latents": (found.autoencoder is not None, denoiser.autoencoder is not None),
    }
    if found.classes:
        facts["number of classes"] = (found.classes, denoiser.classes)
    for what, (theirs, ours) in facts.items():
        if theirs != ours:
            raise PartError(
                f"sampling.guide.run: the {what} of {guide.run} is {theirs}, and of what it guides {ours}: take a run "
                "of the same data and schedule"
            )
    found = found.to(denoiser.place.dtype)

    def estimate(x_t: Tensor, t: float, condition: Condition) -> Tensor:
        return found(x_t, t, condition if found.classes else Condition())

    return estimate
