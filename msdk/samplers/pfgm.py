"""The Poisson flow: along the field lines of a charge on the data, down to it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
from attrs.validators import ge, gt

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, Sampler
from msdk.samplers.grids import time_grid
from msdk.samplers.runge_kutta import integrate, scipys_steps
from msdk.schedules import pfgm
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-5
"""Keeps the division by v_z finite."""


@attrs.frozen(kw_only=True)
class _Poisson(Sampler):
    """dx / dz = v_x / (v_z + 1e-5) with the field v = sqrt(D) d / (|d| + gamma), d = (x_0 - x, -z), of D dimensions.

    x_0 is the estimate of the network. Below `z_exp` v_z is replaced by sqrt(D) times -z / (rho + gamma), rho the
    distance that |v_x| stands for, which keeps lines from bending too early.
    Source: Xu et al. 2022, arXiv 2209.11178, Eq. 6 and appendix B.

    Args:
        gamma: Of the normalisation of the field.
        z_exp: Height below which v_z is replaced; 0 never.
        furthest: Largest norm of x at the start.
    """

    gamma: float = attrs.field(default=5.0, validator=gt(0))
    z_exp: float = attrs.field(default=5.0, validator=ge(0))
    furthest: float = attrs.field(default=3000.0, validator=gt(0))

    def check(self, schedule: Schedule, steps: int) -> None:
        if not isinstance(schedule, pfgm.PFGM):
            raise PartError(
                f"pfgm follows a Poisson field, not the diffusion {type(schedule).__name__}: use the schedule pfgm, or "
                "a sampler of diffusions, such as heun"
            )

    def start(self, schedule: Schedule, noise: Noise, like: "Tensor") -> "Tensor":
        """X far from the data: the direction of normal numbers, at the distance z_max |g| / |n| of two draws."""
        g, n = noise(like, schedule.t_max, schedule.t_max), noise(like, schedule.t_max, schedule.t_max)
        shape = (-1, *[1] * (like.ndim - 1))
        norm = g.flatten(1).norm(dim=1)
        far = (schedule.t_max * norm / n.flatten(1)[:, 0].abs()).clamp(1.0, self.furthest)
        return g * (far / norm).view(shape)

    def init(self, times: Sequence[float]) -> None:
        return None

    def field(self, x: "Tensor", x_0: "Tensor", z: "float | Tensor") -> "tuple[Tensor, Tensor]":
        """The field v at x, of the shape of x, and its component along z, [batch]; z is one height, or [batch]."""
        d = x_0 - x
        size = (d.flatten(1).square().sum(1) + z**2).sqrt()
        scale = math.sqrt(x[0].numel()) / (size + self.gamma)
        return d * scale.view(-1, *[1] * (x.ndim - 1)), -z * scale

    def slope(self, denoise: Denoise, x: "Tensor", z: float) -> "Tensor":
        """Dx / dz."""
        shape = (-1, *[1] * (x.ndim - 1))
        root = math.sqrt(x[0].numel())
        v_x, v_z = self.field(x, denoise(x, z), z)
        if z < self.z_exp:
            n = v_x.flatten(1).norm(dim=1) / root
            reach = ((self.gamma * n / (1 - n)) ** 2 + z**2).sqrt()
            v_z = -root * z / (reach + self.gamma)
        return v_x / (v_z + FLOOR).view(shape)


@attrs.frozen(kw_only=True)
class PFGM(_Poisson):
    """The Poisson flow by Dormand and Prince's method in log z, with adaptive steps. `steps` does not matter.

    Args:
        tolerance: Relative and absolute; 1e-4 takes about 104 calls.
    """

    adaptive: ClassVar[bool] = True
    tolerance: float = attrs.field(default=1e-4, validator=gt(0))

    @property
    def order(self) -> int:
        return 5

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return [schedule.t_max, schedule.t_min]

    def calls(self, steps: int) -> list[int]:
        return [8]  # two to choose the first step, six to make it

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        import torch

        def slope(log_z: float, state: "Tensor") -> "Tensor":
            z = math.exp(log_z)
            drift = z * self.slope(denoise, state[:, :-1].view(x_t.shape), z)
            return torch.cat([drift.flatten(1), torch.full_like(state[:, -1:], z)], dim=1)

        # z is integrated too, as published: its error has a say in the steps.
        state = torch.cat([x_t.flatten(1), torch.full_like(x_t.flatten(1)[:, :1], t)], dim=1)
        state = integrate(slope, state, math.log(t), math.log(s), scipys_steps(self.tolerance))
        return state[:, :-1].view(x_t.shape), None


@attrs.frozen(kw_only=True)
class PFGMEuler(_Poisson):
    """The Poisson flow on an even grid in log z: x + z dx/dz (exp(dt) - 1), with a correction or not.

    The correction takes the mean of that and of z' dx'/dz (1 - exp(-dt)) at the point that Euler's method reaches; the
    last step has none.

    Args:
        corrects: Whether it is made.
    """

    corrects: bool = True

    @property
    def order(self) -> int:
        return 2 if self.corrects else 1

    def times(self, schedule: Schedule, steps: int) -> list[float]:
        return time_grid("uniform-lam", schedule, steps, schedule.t_min, 1.0)

    def calls(self, steps: int) -> list[int]:
        return [2 if self.corrects else 1] * (steps - 1) + [1]

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: None, noise: Noise
    ) -> "tuple[Tensor, None]":
        dt = math.log(s / t)
        first = t * math.expm1(dt) * self.slope(denoise, x_t, t)
        if not self.corrects or s <= schedule.t_min:
            return x_t + first, None
        second = s * -math.expm1(-dt) * self.slope(denoise, x_t + first, s)
        return x_t + (first + second) / 2, None
