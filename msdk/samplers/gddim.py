"""gDDIM for critically damped Langevin diffusion."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs.validators import ge, le

from msdk.errors import PartError
from msdk.samplers.base import Denoise, Noise, OneCallSampler
from msdk.samplers.grids import Grid
from msdk.samplers.multistep import History, Multistep
from msdk.samplers.quadrature import gauss
from msdk.schedules.base import Schedule
from msdk.schedules.cld import CLD, DIFFUSION, DRIFT

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@attrs.frozen
class Running:
    """Memory of gDDIM.

    Attributes:
        past: The noise estimates, of x and v, of the last nodes.
        v: The velocity; None before the first step.
    """

    past: History
    v: "Tensor | None" = None


@attrs.frozen(kw_only=True)
class GDDIM(Multistep, OneCallSampler):
    """u_s = psi u_t + sum_j C_j eps_j of u = (x, v), with DEIS's polynomials in time.

    C_j integrates psi(tau, s) G G^T R(tau)^-T / 2 times the polynomial of node j over the step, where R solves dR/dt =
    F R + G G^T R^-T / 2, R(0) = sqrt(Sigma_0), so R R^T = Sigma, and eps = -R^T score. The score follows from the
    estimate of x_0, because the way from x_0 to u is Gaussian: -Sigma^-1 (u - psi x_0). The network is fed x and v as
    channels, one after the other. Only the schedule `cld` has velocities; on all others gDDIM is DDIM.
    Source: Zhang et al. 2023, arXiv 2206.05564, Eq. 19 and 20.

    Args:
        order: Estimates that the polynomial in time goes through, once there are as many.
    """

    feeds: ClassVar[int] = 2
    order: int = attrs.field(default=2, validator=[ge(1), le(4)])  # pyright: ignore[reportIncompatibleMethodOverride]
    grid: Grid = "quadratic-t"

    def check(self, schedule: Schedule, steps: int) -> None:
        if not isinstance(schedule, CLD):
            raise PartError(
                f"gddim is for the schedule cld, whose images have velocities; on {type(schedule).__name__} it is "
                "ddim: use that one"
            )
        super().check(schedule, steps)

    def init(self, times: Sequence[float]) -> Running:
        return Running(super().init(times))

    def step(
        self, denoise: Denoise, schedule: Schedule, x_t: "Tensor", t: float, s: float, memory: Running, noise: Noise
    ) -> "tuple[Tensor, Running]":
        assert isinstance(schedule, CLD)
        import torch

        v_t = noise(x_t, t, s) / 2 if memory.v is None else memory.v
        x_0 = denoise(torch.cat([x_t, v_t], dim=1), t)
        psi, inverse = schedule.transition(0.0, t), _inverse(schedule, t)
        off = (x_t - float(psi[0, 0]) * x_0, v_t - float(psi[1, 0]) * x_0)
        score = mapped(-inverse, off)
        if s == 0:  # one step of the reverse ODE's linear part, to t = 0
            drift, h = mapped(_array(DRIFT), (x_t, v_t)), t * schedule.beta(t)
            return x_t - h * drift[0], Running(memory.past, v_t - h * (drift[1] - DIFFUSION * score[1]))
        eps = mapped(-_root(schedule, t).T, score)
        past = memory.past.after(t, eps, self.order)
        times = tuple(u for u, _ in past.nodes)
        x_s, v_s = mapped(schedule.transition(t, s), (x_t, v_t))
        for weight, (_, each) in zip(_weights(schedule, times, t, s), past.nodes, strict=True):
            more = mapped(weight, each)
            x_s, v_s = x_s + more[0], v_s + more[1]
        return x_s, Running(past, v_s)


def mapped(matrix: "np.ndarray[Any, Any]", state: "tuple[Tensor, Tensor]") -> "tuple[Tensor, Tensor]":
    """A matrix [2, 2] times both components."""
    (a, b), (c, d) = matrix.tolist()
    x, v = state
    return a * x + b * v, c * x + d * v


def _array(rows: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    return np.array(rows)


@functools.lru_cache(maxsize=4096)
def _inverse(schedule: CLD, t: float) -> "np.ndarray[Any, Any]":
    import numpy as np

    return np.linalg.inv(schedule.covariance(t))


@functools.lru_cache(maxsize=4096)
def _weights(schedule: CLD, nodes: tuple[float, ...], t: float, s: float) -> "tuple[np.ndarray[Any, Any], ...]":
    """C_j of every node."""
    import numpy as np

    middle, half = (t + s) / 2, (s - t) / 2
    places = middle + half * np.array([place for place, _ in gauss()])
    shares = half * np.array([share for _, share in gauss()])
    roots = np.stack([_root(schedule, float(u)) for u in places])
    noise = np.diag([0.0, DIFFUSION / 2]) * schedule.beta(places)[:, None, None]
    integrand = schedule.transition(places, s) @ noise @ np.swapaxes(np.linalg.inv(roots), -1, -2)
    found: list[np.ndarray[Any, Any]] = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        basis = np.prod([(places - other) / (node - other) for other in others], axis=0) * np.ones_like(places)
        found.append(np.einsum("q,qab->ab", shares * basis, integrand))
    return tuple(found)


@functools.lru_cache(maxsize=65536)
def _root(schedule: CLD, t: float) -> "np.ndarray[Any, Any]":
    """R: the Cholesky factor of Sigma, turned by an angle whose rate follows from R's equation."""
    import numpy as np

    angle = _angle(schedule, t)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.linalg.cholesky(schedule.covariance(t)) @ turn


def _turning(schedule: CLD, times: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Rate of the angle: with R = L Q, Q' = (L^-1 (F + G G^T Sigma^-1 / 2) L - L^-1 L') Q, which is antisymmetric."""
    import numpy as np

    sigma, drift, noise = schedule.covariance(times), np.array(DRIFT), np.diag([0.0, DIFFUSION])
    low = np.linalg.cholesky(sigma)
    inverse = np.linalg.inv(low)
    change = drift @ sigma + sigma @ drift.T + noise
    inner = inverse @ change @ np.swapaxes(inverse, -1, -2)
    own = np.tril(inner)
    own[..., 0, 0] /= 2
    own[..., 1, 1] /= 2
    whole = inverse @ (drift + noise / 2 @ np.linalg.inv(sigma)) @ low
    return schedule.beta(times) * (whole - own)[..., 1, 0]


@functools.lru_cache(maxsize=8)
def _panels(schedule: CLD) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Times, dense near 0 where R turns fast, and the angle at each."""
    import numpy as np

    edges = np.concatenate([[0.0], np.geomspace(1e-7, 1.0, 120)])
    places, shares = (np.array(column) for column in zip(*gauss(), strict=True))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    rates = _turning(schedule, middle[:, None] + half[:, None] * places)
    return edges, np.concatenate([[0.0], np.cumsum(half * (rates * shares).sum(1))])


def _angle(schedule: CLD, t: float) -> float:
    import numpy as np

    edges, angles = _panels(schedule)
    panel = int(np.searchsorted(edges, t, side="right")) - 1
    places, shares = (np.array(column) for column in zip(*gauss(), strict=True))
    half = (t - edges[panel]) / 2
    return float(angles[panel] + half * (_turning(schedule, edges[panel] + half + half * places) * shares).sum())
