"""Stages that have learned enough: they go back to the weights of their best look, raw and averaged, and stay there.

What is left out of the draws has no gradient, so no optimiser moves it; its averages stay by not being updated.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from msdk.denoiser.weights import refuse_misfits
from msdk.recipe import Recipe
from msdk.recipe.watching import Stop
from msdk.runs.watched import Watched
from msdk.training.drawing import Feed
from msdk.training.sharding import local, put
from msdk.training.state import NETWORK
from msdk.training.step import TrainingStep
from msdk.training.summing import stage_of


class Freezing:
    """What goes by a held-out loss of its own, each with its stages: each stage, or all of them as one.

    Args:
        recipe: Its training stops.
        stop: When.
        step: Has the weights.
        feed: Draws no more for what stays as it is.

    Attributes:
        best: Number of one that goes on -> its weights at its best look, "raw/<name>" and "<average>/<name>".
    """

    def __init__(self, recipe: Recipe, stop: Stop, step: TrainingStep, feed: Feed) -> None:
        self.stop, self.step, self.feed, self.trained = stop, step, feed, recipe.trained
        stages = range(len(recipe.decoders))
        self.parts: list[tuple[int, ...]] = [(stage,) for stage in stages] if stop.by == "stage" else [tuple(stages)]
        self.best: dict[int, dict[str, Tensor]] = {}

    def judge(self, kept: Watched, losses: Sequence[float], loss: float, images: Sequence[int], at: int) -> Watched:
        """Takes in a look: what is better than ever is kept, and what has not been for long stays as it was then.

        Args:
            kept: What is known.
            losses: Of each stage; nan where it has none.
            loss: Of all.
            images: That each stage has trained on.
            at: The iteration.
        """
        best, waited = [*kept.best] or [None] * len(self.parts), [*kept.waited] or [0] * len(self.parts)
        frozen = [*kept.frozen]
        for number, stages in enumerate(self.parts):
            grown = any(images[stage] > kept.seen[stage] for stage in stages)
            if not grown or any(frozen[stage] is not None for stage in stages):
                continue
            value, least = losses[stages[0]] if self.stop.by == "stage" else loss, best[number]
            if value < float("inf") and (least is None or value < least):
                best[number], waited[number] = value, 0
                self.best[number] = {name: tensor.detach().clone() for name, tensor in self._own(number).items()}
                continue
            waited[number] += 1
            if least is not None and waited[number] >= self.stop.patience:
                for stage in stages:
                    frozen[stage] = at
                self._go_back(number)
                self.hold(stages)
        return attrs.evolve(kept, best=tuple(best), waited=tuple(waited), frozen=tuple(frozen), seen=tuple(images))

    def hold(self, stages: Sequence[int]) -> None:
        """Trains stages no more."""
        self.feed.leave_out(stages)
        for number, own in enumerate(self.parts):
            if own[0] in stages:
                names = self._names(number)
                weights = [weight for name, weight in self.step.trained.named_parameters() if name in names]
                for ema in self.step.emas:
                    ema.hold(weights)

    def _names(self, number: int) -> set[str]:
        """Names in `TrainingStep.trained` of what belongs to one alone; all where there is no other."""
        trained = self.step.trained
        names = trained.state_dict().keys()
        if len(self.parts) == 1:
            return set(names)
        return {name for name in names if stage_of(name, trained) == number}

    def _own(self, number: int) -> dict[str, Tensor]:
        """What belongs to one, raw and averaged, as it is now: the very tensors."""
        names = self._names(number)
        averaged = {name for name, _ in self.step.trained.named_parameters(remove_duplicate=False)} & names
        found = {f"raw/{name}": value for name, value in self.step.trained.state_dict().items() if name in names}
        for place, ema in enumerate(self.step.emas):
            found |= {f"{place}/{name}": value for name, value in ema.state_dict().items() if name in averaged}
        return found

    @torch.no_grad()
    def _go_back(self, number: int) -> None:
        best = self.best.pop(number)
        for name, tensor in self._own(number).items():
            local(tensor).copy_(local(best[name]))

    def kept(self) -> dict[str, Tensor]:
        """What checkpoints keep, "<number>/<raw or average>/<weight>"."""
        return {
            f"{number}/{name.replace(f'/{NETWORK}', '/', 1)}": tensor
            for number, best in self.best.items()
            for name, tensor in best.items()
        }

    def check(self, kept: Watched, found: Mapping[str, Tensor], source: Path) -> None:
        """Raises `RunError` where a checkpoint has not the best weights that it should."""
        wanted = {
            f"{number}/{name.replace(f'/{NETWORK}', '/', 1)}": tensor
            for number in self._going(kept)
            for name, tensor in self._own(number).items()
        }
        refuse_misfits(wanted, found, source, "recipe")

    def restore(self, kept: Watched, found: Mapping[str, Tensor]) -> None:
        """Takes up what a checkpoint that was checked left."""
        self.hold([stage for stage, at in enumerate(kept.frozen) if at is not None])
        for number in self._going(kept):
            self.best[number] = {}
            for name, tensor in self._own(number).items():
                self.best[number][name] = tensor.detach().clone()
                put(self.best[number][name], found[f"{number}/{name.replace(f'/{NETWORK}', '/', 1)}"])

    def _going(self, kept: Watched) -> list[int]:
        """The numbers of those that train, and had a best look."""
        return [
            number
            for number, (stages, best) in enumerate(zip(self.parts, kept.best, strict=False))
            if best is not None and kept.frozen[stages[0]] is None
        ]
