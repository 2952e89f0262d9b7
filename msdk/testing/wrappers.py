"""Laws of wrappers. Options: `schedule`, VP where none is given, and `shape` of an image."""

import torch
from torch import Tensor

from msdk.schedules.base import Schedule
from msdk.schedules.vp import VPLinear
from msdk.testing.laws import COMMON, require
from msdk.wrappers.base import Wrapper

VP = VPLinear()


def _images(shape: tuple[int, ...]) -> Tensor:
    return 3 * torch.randn(4, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def estimates_keep_their_form(wrapper: Wrapper, *, schedule: Schedule = VP, shape: tuple[int, ...] = (3, 8, 8)) -> None:
    """Shape and type are the network's, and values are finite, at every noise level and in float32 too."""
    for images in (_images(shape), _images(shape).float()):
        for t in (schedule.t_max, (schedule.t_min + schedule.t_max) / 2, schedule.t_min):
            found = wrapper.around(lambda x, t: x, schedule)(images, t)
            require(found.shape == images.shape, f"{tuple(images.shape)} became {tuple(found.shape)} at t = {t}")
            require(found.dtype == images.dtype, f"{images.dtype} became {found.dtype} at t = {t}")
            require(bool(found.isfinite().all()), f"some values are not finite at t = {t}")


def budgets_stay(wrapper: Wrapper, *, schedule: Schedule = VP, shape: tuple[int, ...] = (3, 8, 8)) -> None:
    """One network call for each call."""
    calls: list[float] = []

    def denoise(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return x

    wrapper.around(denoise, schedule)(_images(shape), schedule.t_max)
    require(len(calls) == 1, f"it called the network {len(calls)} times for one call")


def an_image_depends_on_itself(
    wrapper: Wrapper, *, schedule: Schedule = VP, shape: tuple[int, ...] = (3, 8, 8)
) -> None:
    """An image alone is estimated as it is beside others, and the given tensor is left as it was."""
    images, estimate = _images(shape), wrapper.around(lambda x, t: x, schedule)
    before = images.clone()
    whole = estimate(images, schedule.t_max)
    require(torch.equal(images, before), "it changes the network's answer in place")
    for index in range(len(images)):
        alone = estimate(images[index : index + 1], schedule.t_max)
        require(torch.allclose(alone[0], whole[index]), f"image {index} is another one beside others")


LAWS = (*COMMON, estimates_keep_their_form, budgets_stay, an_image_depends_on_itself)
