"""timm's optimisers: `training.optimizer = { name = "timm", opt = "lamb" }`."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
from attrs.validators import ge, lt, min_len, optional

from msdk.errors import PartError
from msdk.optimizers.base import Optimizer

if TYPE_CHECKING:
    from torch import nn

MOMENTS = {"lion": 1, "sgd": 1, "muon": 1, "adagrad": 1, "novograd": 1, "lars": 1, "adafactor": 1, "adan": 4, "mars": 3}
"""Numbers kept for each weight by what a name contains; two for all others."""


@attrs.frozen(kw_only=True)
class TimmOptimizer(Optimizer):
    """An optimiser of timm by its name: lamb, lion, adan, muon, nadamw and about a hundred more.

    Weight decay acts on matrices and kernels alone, not on biases and norms, as everywhere in timm. Source:
    `timm.optim.create_optimizer_v2`; `timm.optim.list_optimizers()` has the names, and each its paper. Those with a
    prefix (`fused`, `bnb`) need packages of their own. Kron keeps lists of matrices, which checkpoints do not hold.

    Args:
        opt: Its name.
        betas: Decay of the moments; the optimiser's own when not given.
        eps: Added to the divisor; the optimiser's own when not given.
        momentum: Of those that have one.
        weight_decay: Decoupled or added to the gradient, as the optimiser has it.
    """

    opt: str = attrs.field(default="adamw", validator=min_len(1))
    betas: tuple[float, ...] | None = None
    eps: float | None = attrs.field(default=None, validator=optional(ge(0)))
    momentum: float = attrs.field(default=0.9, validator=[ge(0), lt(1)])
    weight_decay: float = attrs.field(default=0.0, validator=ge(0))

    @property
    def moments(self) -> int:
        return next((count for name, count in MOMENTS.items() if name in self.opt), 2)

    def build(self, parameters: "Sequence[nn.Parameter]", lr: float) -> Any:
        from timm import optim

        make: Any = cast("Any", optim).create_optimizer_v2
        known: list[str] = cast("Any", optim).list_optimizers()
        if self.opt not in known:
            near = difflib.get_close_matches(self.opt, known, n=3, cutoff=0.6)
            hint = f" Did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
            raise PartError(f"timm has no optimiser named '{self.opt}'.{hint} `timm.optim.list_optimizers()` has all.")
        more = {key: value for key, value in (("betas", self.betas), ("eps", self.eps)) if value is not None}
        # Without names, what biases and norms are is told by their shape, as timm itself does.
        decayed = [each for each in parameters if each.ndim > 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
        try:
            return make([group for group in groups if group["params"]], self.opt, lr=lr, momentum=self.momentum, **more)
        except Exception as error:  # timm asserts, and its optimisers refuse arguments in their own ways
            raise PartError(f"timm's optimiser '{self.opt}' cannot be made: {error}") from error
