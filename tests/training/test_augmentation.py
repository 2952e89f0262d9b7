"""Promises of msdk.training.augmentation: EDM's changes with their labels, exact wherever an exact answer exists."""

import math

import attrs
import pytest
import torch

from msdk.training.augmentation import SCALE_STD, TRANSLATION_STD, Changes, draw_changes


def nothing(batch=2, **changes):
    """Changes that do nothing but what is asked for."""
    zeros, no = torch.zeros(batch, dtype=torch.float64), torch.zeros(batch, dtype=torch.bool)
    none = Changes(no, no, zeros, zeros, zeros, zeros, torch.zeros(batch, 2, dtype=torch.float64))
    values = {key: torch.as_tensor(value).expand(getattr(none, key).shape) for key, value in changes.items()}
    return attrs.evolve(none, **{key: value.to(getattr(none, key).dtype) for key, value in values.items()})


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def waves(height, width):
    """A smooth picture as a function of place, so that what it becomes under a map is known everywhere."""

    def at(x, y):
        return torch.sin(0.5 * x + 0.2 * y + 1) + torch.cos(0.3 * x - 0.45 * y)

    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float64) - (width - 1) / 2,
        indexing="ij",
    )
    return at, x, y


def test_nothing_is_done_without_probability():
    """With p = 0 every image is kept, bit for bit, and all labels are 0."""
    images, changes = noise(64, 3, 8, 8), draw_changes(64, 0.0, torch.Generator().manual_seed(1))
    assert torch.equal(changes.apply(images), images)
    assert not changes.labels().any()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_any_device_is_waited_for_by_none(device):
    """Draws on the host decide all: images whose values nobody can read (meta) are changed all the same."""
    images = noise(16, 3, 8, 8).to(device)
    changed = draw_changes(16, 0.9, torch.Generator().manual_seed(1)).apply(images)
    assert (changed.shape, changed.device, changed.dtype) == (images.shape, images.device, images.dtype)


@pytest.mark.parametrize(
    ("mirrored", "upended", "sides"), [(True, False, [3]), (False, True, [2]), (True, True, [2, 3])]
)
def test_flips_are_exact(mirrored, upended, sides):
    """What is only flipped is moved pixel by pixel, whatever happens to the images beside it."""
    images = noise(2, 3, 7, 9)
    changes = nothing(mirrored=mirrored, upended=upended, angle=torch.tensor([0.0, 1.0]))
    changed = changes.apply(images)
    assert torch.equal(changed[0], images.flip(sides)[0])
    assert not torch.equal(changed[1], images.flip(sides)[1])
    assert changes.labels()[0, :2].tolist() == [mirrored, upended]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_rot90(turns):
    """Rotations by multiples of 90 degrees, counter-clockwise, lose nothing, at borders neither."""
    images = noise(2, 3, 16, 16)
    turned = nothing(angle=turns * math.pi / 2).apply(images)
    torch.testing.assert_close(turned, torch.rot90(images, turns, (2, 3)), rtol=0, atol=5e-5)


def test_a_whole_turn_changes_nothing():
    """Doubling and halving are each other's inverse, so resampling under the identity is exact; odd sides too."""
    images = noise(2, 3, 9, 6)
    torch.testing.assert_close(nothing(angle=2 * math.pi).apply(images), images, rtol=0, atol=5e-5)


def test_whole_pixels_are_shifted_exactly():
    """A shift right and down by whole pixels moves them, and mirrors at the border what comes in."""
    images = noise(2, 1, 16, 8)
    shift = torch.tensor([2 / (8 * TRANSLATION_STD), 3 / (16 * TRANSLATION_STD)])
    shifted = nothing(shift=shift).apply(images)
    torch.testing.assert_close(shifted[..., 3:, 2:], images[..., :-3, :-2], rtol=0, atol=5e-5)
    torch.testing.assert_close(shifted[..., 3:, 0], images[..., :-3, 2], rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ({"angle": 0.3}, lambda x, y: (math.cos(0.3) * x - math.sin(0.3) * y, math.sin(0.3) * x + math.cos(0.3) * y)),
        ({"log_scale": 1.0}, lambda x, y: (x / 2**SCALE_STD, y / 2**SCALE_STD)),
        ({"log_scale": -1.0}, lambda x, y: (x * 2**SCALE_STD, y * 2**SCALE_STD)),
        ({"log_aspect": 1.0}, lambda x, y: (x / 2**SCALE_STD, y * 2**SCALE_STD)),
        ({"log_aspect": 1.0, "axis": math.pi / 2}, lambda x, y: (x * 2**SCALE_STD, y / 2**SCALE_STD)),
        ({"shift": torch.tensor([0.3, -0.5])}, lambda x, y: (x - 0.3 * 32 * 0.125, y + 0.5 * 24 * 0.125)),
        (
            {"log_scale": 1.0, "shift": torch.tensor([1.0, 0.0])},  # scaled first: the shift is not
            lambda x, y: ((x - 4) / 2**SCALE_STD, y / 2**SCALE_STD),
        ),
    ],
    ids=["rotated", "larger", "smaller", "wider", "taller", "shifted", "scaled then shifted"],
)
def test_a_smooth_picture_goes_where_geometry_says(change, back):
    """Away from borders a pixel has the value of its place before the change."""
    at, x, y = waves(24, 32)
    images = at(x, y)[None, None].expand(2, 1, -1, -1).float()
    expected = at(*back(x, y)).float()
    # The inner part: neither the borders nor what is reflected there reach it.
    torch.testing.assert_close(
        nothing(**change).apply(images)[0, 0, 8:-8, 10:-10], expected[8:-8, 10:-10], rtol=0, atol=2e-2
    )


def test_a_flat_picture_stays_flat():
    """The filters and the reflected borders keep constants, so brightness is no hint of what was done."""
    changes = draw_changes(64, 1.0, torch.Generator().manual_seed(2))
    flat = torch.linspace(-1, 1, 64).view(-1, 1, 1, 1).expand(64, 3, 9, 12)
    torch.testing.assert_close(changes.apply(flat), flat, rtol=0, atol=1e-5)


def test_fine_stripes_fade_when_made_smaller():
    """Detail that the smaller picture cannot hold is filtered, not folded into coarse patterns."""
    stripes = (torch.arange(64) % 2 * 2.0 - 1).expand(2, 1, 64, 64)
    smaller = nothing(log_scale=-3.0).apply(stripes)  # two thirds of the size
    assert smaller.square().mean() < 0.1 * stripes.square().mean()


def test_labels_say_what_was_done():
    """Nine numbers in EDM's order: mirror, upend, scale, cos - 1 and sin of the turn, two of the stretch, the shift."""
    changes = nothing(
        1, mirrored=True, log_scale=0.7, angle=0.4, log_aspect=-0.5, axis=2.0, shift=torch.tensor([0.1, 0.2])
    )
    told = [1, 0, 0.7, math.cos(0.4) - 1, math.sin(0.4), -0.5 * math.cos(2.0), -0.5 * math.sin(2.0), 0.1, 0.2]
    torch.testing.assert_close(changes.labels()[0], torch.tensor(told))
    assert not nothing().labels().any()
    assert nothing().labels().shape == (2, 9)


def test_each_change_happens_as_often_as_asked():
    """Mirroring half of the time, all else with probability p, with the strengths of EDM."""
    changes = draw_changes(40_000, 0.2, torch.Generator().manual_seed(3))
    happened = (changes.labels() != 0).double().mean(0)
    # Upending has two equal outcomes, one of them nothing; the axis is 0 for half of the stretches.
    expected = torch.tensor([0.5, 0.1, 0.2, 0.2, 0.2, 0.2, 0.1, 0.2, 0.2], dtype=torch.float64)
    torch.testing.assert_close(happened, expected, rtol=0, atol=0.01)
    for strength in (changes.log_scale, changes.log_aspect, *changes.shift.unbind(1)):
        done = strength[strength != 0]
        assert abs(done.mean()) < 0.05
        assert done.std() == pytest.approx(1, abs=0.05)
    angles = changes.angle[changes.angle != 0]
    assert angles.std() == pytest.approx(math.pi / 3**0.5, rel=0.05)
    assert angles.abs().max() <= math.pi


def test_draws_follow_from_the_seed():
    """The same seed gives the same changes, another one others."""
    one, two, other = (draw_changes(32, 0.5, torch.Generator().manual_seed(seed)).labels() for seed in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
