"""Promises of DiT and U-ViT, as trunks and as stage decoders: the published networks, to the last MAC and parameter."""

import itertools
import json
import math

import attrs
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

import msdk
from msdk.budgeting.counting import count
from msdk.budgeting.parts import count_parts
from msdk.decoders.dit import DiT as DiTDecoder
from msdk.decoders.score_sde import DDPMpp
from msdk.decoders.uvit import UViT as UViTDecoder
from msdk.denoiser.building import Parts, join
from msdk.encoders.adapter import Adapter
from msdk.encoders.dit import DiT
from msdk.encoders.score_sde import DDPMpp as DDPMppEncoder
from msdk.encoders.uvit import UViT
from msdk.errors import PartError, RecipeError
from msdk.layers.transformer import sincos_positions, unpatchify
from msdk.parameterizations.eps import Eps
from msdk.partition import Partition
from msdk.schedules.vp import VPLinear
from recipes import tiny

DIT = DiT(width=16, depth=2, heads=2, patch=2, classes=3, null_class=True)
UVIT = UViT(width=16, depth=4, heads=2, patch=2, classes=3)
DECODERS = {
    "dit": tuple(DiTDecoder(width=width, depth=2, heads=2) for width in (24, 16, 8)),
    "uvit": tuple(UViTDecoder(width=width, heads=2) for width in (24, 16, 8)),
}
FAMILIES = [(DIT, DECODERS["dit"]), (UVIT, DECODERS["uvit"])]
SHAPE = (3, 8, 12)
MAPS = DDPMppEncoder(channels=32, channel_mult=(1,), blocks=1).info(SHAPE)

both = pytest.mark.parametrize(("encoder", "decoders"), FAMILIES, ids=["dit", "uvit"])


def joined(encoder, decoders, shape=SHAPE, device="cpu", seed=0):
    edges = Partition((0.3, 2.5)[: len(decoders) - 1])
    parts = Parts(encoders=(encoder,), decoders=decoders, schedule=VPLinear(), parameterization=Eps(), shape=shape)
    return join(parts, edges, device, seed=seed)


def awake(denoiser):
    """The denoiser in float64 with all parameters moved, so that no layer is zero and no block the identity."""
    denoiser.double()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in denoiser.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
    return denoiser


def batch(shape=SHAPE, dtype=torch.float64):
    """Images, times of all three stages, and labels of all classes and none."""
    x = torch.randn(5, *shape, dtype=dtype, generator=torch.Generator().manual_seed(2))
    return x, torch.tensor([0.01, 0.9, 0.3, 0.02, 0.7]), torch.tensor([0, 1, 2, -1, 1])


def close(ours, theirs):
    """To 1e-6 of the largest value."""
    return (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


# --- what encoders give and decoders take -----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 10), (4, 12, 6)])
@pytest.mark.parametrize("variance", [False, True])
def test_features_are_what_info_promises(encoder, decoders, shape, variance):
    """Number and width of all tokens are known before the encoder is built, whatever the image's sides are."""
    info = encoder.info(shape)
    features = encoder.build(shape)(torch.zeros(2, *shape), torch.ones(2))
    tokens = info.tokens + (shape[1] // 2) * (shape[2] // 2)
    assert [skip.shape for skip in features.skips] == [(2, tokens, width) for width in info.levels[0].skips]
    assert features.bottom.shape == (2, tokens, info.bottom)
    assert features.embedding.shape == (2, info.embedding)
    for decoder in decoders:
        out = attrs.evolve(decoder, variance=variance).build(info, shape)(features)
        assert out.shape == (2, shape[0] * (1 + variance), *shape[1:])


def test_tokens_in_front_are_announced():
    """DiT has none, U-ViT has the noise level, and the class where there are classes."""
    given = [spec.info(SHAPE).tokens for spec in (DIT, attrs.evolve(UVIT, classes=0), UVIT)]
    assert given == [0, 1, 2]
    assert MAPS.tokens is None


def test_tokens_tile_the_image_row_by_row():
    """Token r columns + c becomes the patch in row r and column c; within it the channel runs fastest."""
    tokens = torch.arange(6 * 2 * 2 * 3.0).reshape(1, 6, 12)
    image = unpatchify(tokens, (2, 3), 2)
    for row, column, channel, i, j in [(0, 0, 0, 0, 0), (0, 2, 1, 1, 0), (1, 0, 2, 0, 1), (1, 2, 0, 1, 1)]:
        assert image[0, channel, 2 * row + i, 2 * column + j] == tokens[0, 3 * row + column, 6 * i + 3 * j + channel]


def test_fixed_positions():
    """Each place has sines and cosines of its column, then of its row, at the frequencies 10000^(-i / (width / 4))."""
    found = sincos_positions((2, 3), 8)
    assert found.shape == (6, 8)
    for index, (row, column) in enumerate(itertools.product(range(2), range(3))):
        angles = [[column, column / 100], [row, row / 100]]
        want = [f(angle) for pair in angles for f in (math.sin, math.cos) for angle in pair]
        assert found[index].tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (DIT, (3, 8, 9), "8x9 cannot be cut into patches of 2x2: set another `patch`, or another image size"),
        (UViT(patch=3), (3, 32, 32), "32x32 cannot be cut into patches of 3x3"),
        (DiT(width=20, heads=3), SHAPE, "a width of 20 cannot be split into 3 attention heads: set another `width`"),
        (DiT(width=18, heads=3), SHAPE, "a width of 18 cannot be split into sine and cosine of row and column"),
        (UViT(depth=5), SHAPE, "depth is 5, but each in-block has its out-block: set an even number"),
        (DiT(null_class=True), SHAPE, "there are no classes: set `classes`"),
    ],
)
def test_an_image_or_field_that_does_not_suit_is_told(spec, shape, words):
    """`info` refuses what `build` could not run, and so does `build`."""
    for refuse in (spec.info, spec.build):
        with pytest.raises(PartError, match=words):
            refuse(shape)


@pytest.mark.parametrize(
    ("decoder", "info", "words"),
    [
        (
            DDPMpp(),
            DIT.info(SHAPE),
            r"level 0 of the encoder has tokens .* use a transformer decoder \(`dit`, `uvit`\)",
        ),
        (DiTDecoder(), MAPS, r"level 0 of the encoder has maps .* takes tokens .*: use a U-Net decoder"),
        (UViTDecoder(), MAPS, r"level 0 of the encoder has maps .* takes tokens .*: use a U-Net decoder"),
        (
            DiTDecoder(),
            UVIT.info(SHAPE),
            "level 0 of the encoder has 2 long skips, which a `dit` .* use a `uvit` decoder",
        ),
        (UViTDecoder(), DIT.info(SHAPE), "level 0 of the encoder has no long skips, .* use a `dit` decoder"),
        (DiTDecoder(), attrs.evolve(MAPS, levels=MAPS.levels * 2, tokens=0), "has 2 levels, but .* tokens of one"),
        (UViTDecoder(width=20, heads=3), UVIT.info(SHAPE), "a width of 20 cannot be split into 3 attention heads"),
    ],
)
def test_features_that_do_not_fit_name_level_and_reason(decoder, info, words):
    """`check` refuses maps where tokens are needed, tokens where maps are, and skips too many or too few."""
    with pytest.raises(PartError, match=words):
        decoder.check(info)


def test_a_recipe_tells_where_tokens_do_not_fit():
    """The place of every decoder that cannot take the encoder's tokens is told with the reason."""
    with pytest.raises(RecipeError, match=r"has 3 problems\n  decoders.0  level 0 of the encoder has tokens"):
        tiny('encoder={name="dit", width=16, heads=2, patch=2}')


def test_an_adapter_refuses_tokens():
    """It convolves maps; transformer decoders need none."""
    with pytest.raises(PartError, match=r"features are tokens .* leave it out, transformer decoders map the encoder's"):
        Adapter(channels=(16,)).info(DIT.info(SHAPE))


@both
def test_inputs_that_the_network_was_not_built_for_are_told(encoder, decoders):
    """Another image size, labels without classes, and augmentation labels are errors that name the fix."""
    x, c_noise = torch.zeros(1, 3, 8, 8), torch.ones(1)
    with pytest.raises(PartError, match=r"built for images of 3x8x12, .* got 3x8x8: build it for that shape"):
        encoder.build(SHAPE)(x, c_noise)
    with pytest.raises(PartError, match="takes no augmentation labels"):
        encoder.build((3, 8, 8))(x, c_noise, augment=torch.zeros(1, 9))
    with pytest.raises(PartError, match="takes no class labels: set its `classes`"):
        attrs.evolve(encoder, classes=0, null_class=False).build((3, 8, 8))(x, c_noise, torch.zeros(1))


# --- one network ------------------------------------------------------------------------------------------------------


@both
def test_meta_build_has_the_same_tensors(encoder, decoders):
    """What is counted on the meta device is what is trained: same names, shapes and dtypes."""
    real, meta = joined(encoder, decoders), joined(encoder, decoders, device="meta")
    listed = [[(n, t.shape, t.dtype) for n, t in net.state_dict().items()] for net in (real, meta)]
    assert listed[0] == listed[1]
    assert all(tensor.is_meta for tensor in meta.state_dict().values())


@both
def test_state_dict_round_trip(encoder, decoders):
    """The state dict holds all there is: another build that loads it strictly gives the same bits, again and again."""
    first, second = awake(joined(encoder, decoders)).eval(), joined(encoder, decoders, seed=7).double().eval()
    x, t, label = batch()
    assert not torch.equal(first(x, t, label), second(x, t, label))
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        assert torch.equal(first(x, t, label), second(x, t, label))


def test_fixed_positions_are_no_state():
    """DiT's positions follow from the image's shape, so that they are neither trained, stored nor averaged."""
    encoder = DIT.build(SHAPE)
    assert "positions" not in {**encoder.state_dict(), **dict(encoder.named_parameters())}
    assert "positions" in dict(encoder.named_buffers())


def test_a_fresh_dit_predicts_zero():
    """All blocks start as the identity and the last layer at zero (adaLN-zero), so the first prediction is 0."""
    denoiser = joined(DIT, DECODERS["dit"])
    x, _, label = batch(dtype=torch.float32)
    assert all(not denoiser.network(x, torch.ones(5), stage, label).any() for stage in range(3))
    encoder = denoiser.network.encoder(0)
    assert torch.equal(encoder(x, torch.ones(5)).bottom, encoder.patches(x) + encoder.positions)


@both
def test_gradients_reach_every_parameter(encoder, decoders):
    """A mixed batch with labels trains every parameter of trunk and decoders."""
    denoiser = awake(joined(encoder, decoders))
    x, t, label = batch()
    denoiser(x, t, label).square().sum().backward()
    idle = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@both
def test_a_mixed_batch_is_what_its_images_are_alone(encoder, decoders):
    """Values and gradients of a batch that mixes stages equal those of its images one by one, at a float time."""
    denoiser = awake(joined(encoder, decoders))
    x, t, label = batch()
    mixed = denoiser(x, t.double(), label)
    alone = torch.cat([denoiser(x[i : i + 1], float(t[i]), label[i : i + 1]) for i in range(len(x))])
    assert close(mixed, alone)
    assert alone.std() > 0.1
    gradients = [torch.autograd.grad(out.square().sum(), list(denoiser.parameters())) for out in (mixed, alone)]
    for ours, theirs in zip(*gradients, strict=True):
        assert close(ours, theirs)


@both
@pytest.mark.parametrize("null_class", [False, True])
def test_labels(encoder, decoders, null_class):
    """Numbers are rows, -1 is no label at all, and every class is another one."""
    denoiser = awake(joined(attrs.evolve(encoder, null_class=null_class), decoders))
    x = batch()[0][:1].expand(4, -1, -1, -1)
    numbers = denoiser(x, 0.3, torch.tensor([0, 1, 2, -1]))
    rows = denoiser(x, 0.3, torch.cat([torch.eye(3), torch.zeros(1, 3)]))
    assert torch.equal(numbers, rows)
    assert torch.allclose(numbers[3], denoiser(x[:1], 0.3)[0], rtol=0, atol=1e-9)
    assert torch.pdist(numbers.flatten(1)).min() > 1e-3
    table = denoiser.network.encoder(0).get_parameter(
        "embedding.classes.table" if isinstance(encoder, DiT) else "classes.table"
    )
    with torch.no_grad():
        table[-1] += 1.0
    last = 3 if null_class else 2
    changed = (denoiser(x, 0.3, torch.tensor([0, 1, 2, -1])) - numbers).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert changed.tolist() == [index == last for index in range(4)]


@both
def test_bf16_autocast(encoder, decoders):
    """Under autocast the prediction is that of float32 to the precision of bf16."""
    denoiser = awake(joined(encoder, decoders)).float()
    x, t, label = batch(dtype=torch.float32)
    exact = denoiser(x, t, label)
    with torch.autocast("cpu", torch.bfloat16):
        rough = denoiser(x, t, label)
    assert (rough - exact).norm() < 0.05 * exact.norm()


# --- a second implementation, from the papers' equations --------------------------------------------------------------


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def normed(x, eps, weight=1.0, bias=0.0):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight + bias


def attended(state, name, x, heads):
    q, k, v = linear(state, f"{name}.qkv", x).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return linear(state, f"{name}.proj", (weights @ v).transpose(1, 2).flatten(2))


def patch_tokens(state, x, patch):
    patches = rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)
    return patches @ state["patches.embed.proj.weight"].flatten(1).T + state["patches.embed.proj.bias"]


def time_features(c_noise, width):
    angles = c_noise[:, None] * 10000 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def image_of(tokens, shape, patch):
    rows, columns = shape[1] // patch, shape[2] // patch
    grid = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, columns))  # b h w p q c
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def dit_blocks(state, x, condition, heads, depth):
    for name in (f"blocks.{index}" for index in range(depth)):
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(state, f"{name}.modulation", condition)[:, None].chunk(
            6, 2
        )
        x = x + gate1 * attended(state, f"{name}.attention", normed(x, 1e-6) * (1 + scale1) + shift1, heads)
        hidden = linear(state, f"{name}.mlp.fc1", normed(x, 1e-6) * (1 + scale2) + shift2)
        cubic = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        x = x + gate2 * linear(state, f"{name}.mlp.fc2", hidden * (1 + cubic.tanh()) / 2)
    return x


def plain_block(state, name, x, heads):
    def norm(which, x):
        return normed(x, 1e-5, state[f"{name}.{which}.weight"], state[f"{name}.{which}.bias"])

    x = x + attended(state, f"{name}.attn", norm("norm1", x), heads)
    hidden = linear(state, f"{name}.mlp.fc1", norm("norm2", x))
    return x + linear(state, f"{name}.mlp.fc2", hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)


def states(denoiser, stage):
    return denoiser.network.encoder(0).state_dict(), denoiser.network.decoders[stage].state_dict()


@pytest.mark.parametrize("stage", [0, 1])
def test_dit_is_its_equations(stage):
    """Peebles and Xie 2023: adaLN-zero blocks between fixed positions and a modulated head, written out by hand.

    Decoder 0 is wider than the trunk, decoder 1 is not.
    """
    denoiser, (x, c_noise, _) = awake(joined(DIT, DECODERS["dit"])), batch()
    c_noise, label = 900 * c_noise.double(), torch.tensor([0, 1, 2, 0, 1])
    trunk, head = states(denoiser, stage)
    silu = torch.nn.functional.silu
    time = linear(trunk, "embedding.hidden", time_features(c_noise, 256))
    condition = silu(linear(trunk, "embedding.out", silu(time)) + trunk["embedding.classes.table"][label])
    tokens = patch_tokens(trunk, x, 2) + sincos_positions((4, 6), 16)
    tokens = dit_blocks(trunk, tokens, condition, 2, 2)
    if stage == 0:
        tokens = linear(head, "entry", tokens)
    tokens = dit_blocks(head, tokens, condition, 2, 2)
    shift, scale = linear(head, "head.modulation", condition)[:, None].chunk(2, 2)
    want = image_of(linear(head, "head.linear", normed(tokens, 1e-6) * (1 + scale) + shift), SHAPE, 2)
    assert close(denoiser.network(x, c_noise, stage, label), want)


@pytest.mark.parametrize("stage", [0, 1])
def test_uvit_is_its_equations(stage):
    """Bao et al. 2023: class and time as tokens, and long skips from the last in-block back to the first, by hand."""
    denoiser, (x, c_noise, _) = awake(joined(UVIT, DECODERS["uvit"])), batch()
    c_noise, label = 900 * c_noise.double(), torch.tensor([0, 1, 2, 0, 1])
    trunk, head = states(denoiser, stage)
    front = torch.stack([trunk["classes.table"][label], time_features(c_noise, 16)], dim=1)
    tokens = torch.cat([front, patch_tokens(trunk, x, 2)], dim=1) + trunk["positions"]
    first = plain_block(trunk, "blocks.0", tokens, 2)
    second = plain_block(trunk, "blocks.1", first, 2)
    tokens = plain_block(trunk, "middle", second, 2)
    for name, skip in (("blocks.0", second), ("blocks.1", first)):
        tokens = plain_block(head, f"{name}.block", linear(head, f"{name}.join", torch.cat([tokens, skip], 2)), 2)
    tokens = linear(head, "head", normed(tokens, 1e-5, head["norm.weight"], head["norm.bias"]))
    image = image_of(tokens[:, 2:], SHAPE, 2)
    want = torch.nn.functional.conv2d(image, head["conv.weight"], head["conv.bias"], padding=1)
    assert close(denoiser.network(x, c_noise, stage, label), want)


# --- counts -----------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=8)
@given(
    st.sampled_from([DIT, UVIT]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
)
def test_the_two_counters_agree_and_parts_add_up(encoder, rows, columns, patch, depth, labels):
    """Fvcore with our rules, torch's counter, and encoder plus decoder give one integer, and nothing is uncounted."""
    shape = (2, rows * patch, columns * patch)
    if isinstance(encoder, DiT):
        encoder, decoder = attrs.evolve(encoder, patch=patch, depth=depth), DiTDecoder(width=8, heads=2, depth=depth)
    else:
        encoder, decoder = attrs.evolve(encoder, patch=patch, depth=2 + 2 * depth), UViTDecoder(width=8, heads=2)
    denoiser = joined(encoder, (decoder,), shape, "meta")
    one = [torch.empty(1, *shape), torch.empty(1), torch.zeros(1, dtype=torch.int64)][: 3 if labels else 2]
    counted = count(denoiser.stage(0), one)
    assert counted.macs("exact") == counted.second > 0
    assert not counted.uncounted
    if not labels:
        parts = count_parts(denoiser, shape).values()
        exact = sum(part.macs("exact") for part in parts)
        assert counted.second == exact == sum(part.second for part in parts)


def dit(width, depth, heads, patch, **decoder):
    return (
        DiT(width=width, depth=depth, heads=heads, patch=patch, classes=1000, null_class=True),
        (DiTDecoder(width=width, depth=depth, heads=heads, **decoder),),
    )


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.golden
@pytest.mark.parametrize(
    ("config", "parts", "shape"),
    [
        ("dit_B_4_32", dit(768, 6, 12, 4), (3, 32, 32)),
        pytest.param("dit_XL_2_32", dit(1152, 14, 16, 2), (3, 32, 32), marks=pytest.mark.slow),
        pytest.param("dit_XL_2_latent32x4", dit(1152, 14, 16, 2, variance=True), (4, 32, 32), marks=pytest.mark.slow),
        ("uvit_512_d12", (UViT(), (UViTDecoder(),)), (3, 32, 32)),
        ("uvit_ms3_768_512_128", (UViT(), tuple(UViTDecoder(width=w) for w in (768, 512, 128))), (3, 32, 32)),
    ],
)
def test_against_the_published_programs(config, parts, shape, outside_data):
    """MACs by both counters, of encoder and decoders alone, and in the paper's convention; parameters of every part.

    Two differences are on purpose: DiT's fixed positions are no parameters here, and each U-ViT decoder has a final
    convolution of its own, where the published multi-stage net shares one.
    """
    theirs = json.loads((outside_data / "golden" / "flops.json").read_text())["configs"][config]
    denoiser = joined(*parts, shape, "meta")
    encoder, *decoders = count_parts(denoiser, shape).values()
    for decoder, stage in zip(decoders, theirs["stages"], strict=True):
        split = stage["split_exact"]
        assert (encoder.macs("exact"), decoder.macs("exact")) == (split["encoder"], split["decoder"])
        assert (encoder.second, decoder.second) == (split["encoder"], split["decoder"])
        assert encoder.second + decoder.second == stage["exact_macs"]
        assert encoder.macs("paper") + decoder.macs("paper") == stage["torchstat"]["total"]
        assert not encoder.uncounted
        assert not decoder.uncounted
    params, fixed = theirs["params"], 0
    if isinstance(parts[0], DiT):
        fixed = denoiser.network.encoder(0).positions.numel()
        assert fixed == params["total"] - params["trainable"]
    assert size(denoiser.network.encoders) == params["encoder"] - fixed
    assert [size(decoder) for decoder in denoiser.network.decoders] == params["decoders"]
    shared = (len(decoders) - 1) * (shape[0] * shape[0] * 9 + shape[0])
    assert size(denoiser) == params["total"] - fixed + shared


def test_the_shipped_recipes_cost_what_they_say():
    """DiT's decoders keep the mean call of the sampler within 0.1 % of the unified DiT-B/4; U-ViT's are dearer."""
    dit_costs, uvit_costs = (
        msdk.budget(msdk.load_recipe(f"recipes/cifar10/{name}-multistage.toml")) for name in ("dit", "uvit")
    )
    assert [stage.macs for stage in dit_costs.stages] == [7_745_568_768, 5_560_467_456, 3_115_450_368]
    assert dit_costs.equivalent_macs("sampling") == pytest.approx(5_560_467_456, rel=1e-3)
    assert [stage.macs for stage in uvit_costs.stages] == [19_124_758_528, 12_200_808_448, 6_678_227_968]
    assert [stage.calls for stage in uvit_costs.stages] == [9, 3, 8]
