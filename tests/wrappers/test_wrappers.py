"""Promises of wrappers around the network, which any sampler takes."""

import json

import numpy as np
import pytest
import torch
from commands import command
from PIL import Image

import msdk
from msdk.errors import PartError, RecipeError
from msdk.schedules.cld import CLD
from msdk.schedules.vp import VPLinear
from msdk.wrappers.base import wrapped
from msdk.wrappers.clip import Clip
from msdk.wrappers.inpaint import Inpaint, Known, read_known
from msdk.wrappers.threshold import DynamicThreshold
from recipes import AUTOENCODER, tiny

VP = VPLinear()


@pytest.fixture(scope="module")
def denoiser():
    return msdk.build(tiny()).eval()


def test_clipping_keeps_estimates_in_range():
    """Values within the range stay, others come to its edge; a range that is upside down is refused."""
    estimate = Clip(low=-1, high=2).around(lambda x, t: x, VP)
    assert estimate(torch.tensor([-3.0, 0.5, 9.0]), 1.0).tolist() == [-1.0, 0.5, 2.0]
    with pytest.raises(PartError, match="high = 0 must be above low = 1"):
        Clip(low=1, high=0)


def test_thresholding_is_of_each_image():
    """An image within the least threshold stays; another is clipped to its quantile and divided by it."""
    x = torch.stack([torch.linspace(-0.5, 0.5, 100), torch.linspace(-4, 4, 100)]).view(2, 1, 10, 10)
    found = DynamicThreshold(ratio=0.9).around(lambda x, t: x, VP)(x, 1.0)
    assert torch.equal(found[0], x[0])
    assert found[1].abs().max() == 1
    q = torch.quantile(x[1].abs(), 0.9)
    torch.testing.assert_close(found[1], (x[1] / q).clamp(-1, 1))


def test_the_last_wrapper_has_the_last_word():
    """Wrappers go around the network in their order."""
    x = torch.tensor([[4.0, 1.0]])
    halved, clipped = DynamicThreshold(ratio=1.0, least=2.0), Clip(low=0, high=0.5)
    assert wrapped(lambda x, t: x, VP, [halved, clipped])(x, 1.0).tolist() == [[0.5, 0.25]]
    assert wrapped(lambda x, t: x, VP, [clipped, halved])(x, 1.0).tolist() == [[0.25, 0.25]]


KNOWN = Known(torch.linspace(-1, 1, 64).view(1, 8, 8), (torch.arange(8) < 4).float().expand(1, 8, 8))
"""The left half of an image."""


@pytest.mark.parametrize("name", ["dpmpp-2m", "heun", "ddim", "dpmpp-sde", "unipc"])
def test_what_is_known_stays(denoiser, name):
    """Inpainting ends with the known pixels where the mask is 1, whichever sampler draws the others."""
    sampler = msdk.samplers.get(name)()
    images = msdk.sample(denoiser, sampler, 12, [0, 1], known=KNOWN)
    off = (images - KNOWN.image)[..., :4].abs().max()
    assert off < 0.05  # grids that end above the clean image keep that little noise
    assert (images - KNOWN.image)[..., 4:].abs().max() > 0.1


def test_an_inpainted_image_depends_on_its_seed_alone(denoiser):
    """Seed 7 gives the same image alone and beside others."""
    sampler = msdk.samplers.get("dpmpp-2m")()
    alone, both = (msdk.sample(denoiser, sampler, 6, seeds, known=KNOWN) for seeds in ([7], [3, 7]))
    torch.testing.assert_close(alone[0], both[1], rtol=0, atol=1e-5)


def test_a_schedule_with_velocities_is_refused():
    """Its noise is not of the image alone, and the message says what would do."""
    with pytest.raises(PartError, match=r"under the schedule CLD.*use a model of another schedule"):
        Inpaint(KNOWN, torch.zeros(1, 1, 8, 8)).around(lambda x, t: x, CLD())


def test_pictures_are_read(tmp_path):
    """Pixels become [-1, 1], white is known; a wrong size or a grey mask is an error in words."""
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(picture)
    shades = Image.new("L", (6, 4))
    shades.putpixel((5, 0), 255)
    shades.save(mask)
    known = read_known(picture, mask, (3, 4, 6))
    assert known.image.shape == (3, 4, 6)
    assert known.image[:, 2, 2].tolist() == [1.0, -1.0, -1.0]
    assert known.mask.nonzero().tolist() == [[0, 0, 5]]
    assert read_known(picture, mask, (1, 4, 6)).image.shape == (1, 4, 6)
    with pytest.raises(PartError, match=r"picture\.png is 6 x 4, but the model draws 8 x 8: resize it"):
        read_known(picture, mask, (3, 8, 8))
    with pytest.raises(PartError, match=r"picture\.png: a mask is white \(255\).*got 76"):
        read_known(picture, picture, (3, 4, 6))
    with pytest.raises(PartError, match=r"are pictures, grey or in colour, but this model draws \[4, 4, 6\]"):
        read_known(picture, mask, (4, 4, 6))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PartError, match=r"text\.png cannot be read as a picture"):
        read_known(tmp_path / "text.png", mask, (3, 4, 6))


def test_recipes_wrap(denoiser):
    """A recipe's wrappers are read, written and used; a name that does not exist is told with the nearest."""
    recipe = tiny('sampling.wrap=[{name="clip", high=0.25}, {name="dynamic-threshold"}]')
    assert recipe.sampling.wrap == (Clip(high=0.25), DynamicThreshold())
    assert msdk.budget(recipe).nfe == msdk.budget(tiny()).nfe
    sampler = msdk.samplers.get("ddim")(final_denoise=True)
    images = msdk.sample(denoiser, sampler, 3, [0, 1], wrap=recipe.sampling.wrap)
    assert images.max() <= 0.25
    assert msdk.sample(denoiser, sampler, 3, [0, 1]).max() > 0.25
    with pytest.raises(RecipeError, match=r"sampling\.wrap.*Did you mean 'clip'"):
        tiny('sampling.wrap=[{name="clipp"}]')


def test_the_command_line_inpaints(tmp_path):
    """`msdk sample --inpaint` keeps the white part of the mask; samples.json tells what they were drawn around."""
    msdk.train(tiny("sampling.steps=3"), tmp_path / "run")
    shades = Image.new("L", (8, 8), 255)
    shades.save(tmp_path / "picture.png")
    shades.paste(0, (4, 0, 8, 8))
    shades.save(tmp_path / "mask.png")
    words = ["--inpaint", tmp_path / "picture.png", tmp_path / "mask.png", "--sampler", "heun"]
    command("sample", tmp_path / "run", "--seeds", "0-1", "--out", tmp_path / "out", *words)
    with Image.open(tmp_path / "out" / "000001.png") as drawn:
        pixels = np.array(drawn)
    assert pixels[:, :4].min() >= 250
    assert pixels[:, 4:].min() < 250
    assert len(json.loads((tmp_path / "out" / "samples.json").read_text())["known"]) == 64


def test_each_image_is_drawn_around_its_own(denoiser):
    """What is known of image i goes with seed i, whatever the batch; another number of them is refused."""
    images = torch.linspace(-0.9, 0.9, 4).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    known, sampler = Known(images, torch.ones(1, 8, 8)), msdk.samplers.get("ddim")(final_denoise=True)
    for batch in (1, 3, 4):
        found = msdk.sample(denoiser, sampler, 3, [0, 1, 2, 3], batch_size=batch, known=known)
        torch.testing.assert_close(found, images, atol=1e-6, rtol=0)
    with pytest.raises(PartError, match="4 known images for 2 images: give one for all, or one for each"):
        msdk.sample(denoiser, "ddim", 3, [0, 1], known=known)


def test_wrappers_of_pixels_are_refused_elsewhere():
    """Latents are not clipped to the range of pixels, nor images in [0, 1] to another's."""
    with pytest.raises(RecipeError, match=r"is for pixels in \[-1, 1\], but the network sees latents"):
        tiny('sampling.wrap=[{name="clip"}]', f"autoencoder={AUTOENCODER}}}")
    with pytest.raises(RecipeError, match=r"the network sees pixels in \[0, 1\]"):
        tiny('sampling.wrap=[{name="clip"}]', "encoder.unit_range=true")
