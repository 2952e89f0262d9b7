"""Promises of msdk.budgeting.counting: the rules are right, and counting leaves no trace."""

import math

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from msdk.budgeting import blind_spots
from msdk.budgeting.counting import count, count_on_meta
from msdk.budgeting.free_operators import OTHERS, is_free
from msdk.budgeting.rules import RULES, einsum_macs
from msdk.errors import PartError
from msdk.layers import families
from msdk.layers.attention import Attention2d
from msdk.layers.resample import FIR
from msdk.layers.residual import ResidualBlock
from msdk.layers.style import BlockStyle


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


FREE_USES = {
    "views": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(3, (8, 2)))).movedim(1, 2).ravel(),
    "complex": lambda x: torch.polar(x, x).real + torch.complex(x, x).abs(),
    "in place": lambda x: (x * 1).tanh_().exp_().sqrt_().abs_().neg_().pow_(2).clamp_(0).mul_(x).add_(x),
    "activations in place": lambda x: F.celu(F.selu(F.mish(x * 1, inplace=True), inplace=True), inplace=True),
    "activations": lambda x: F.softshrink(F.hardshrink(F.threshold(F.logsigmoid(x), 0.1, 0.0))),
    "resizing": lambda x: F.interpolate(F.interpolate(x, scale_factor=2, mode="nearest-exact"), size=8, mode="area"),
    "antialiased": lambda x: F.interpolate(x, size=(8, 8), mode="bicubic", antialias=True),
    "pools": lambda x: F.avg_pool3d(F.max_pool3d(x, 2), 2) + F.adaptive_avg_pool3d(x, 1),
    "pools of rows": lambda x: F.avg_pool1d(F.max_pool1d(x[0], 2), 2),
    "unfolding": lambda x: F.fold(F.unfold(x, 2, stride=2), (16, 16), 2, stride=2),
    "padding": lambda x: F.pad(F.pad(x, (1, 1, 1, 1), mode="reflect"), (1, 1, 0, 0), mode="circular"),
    "pieces": lambda x: torch.hstack([*x.tensor_split(2, 1)]) + torch.dstack([x, x])[:, :, :16],
    "turns": lambda x: x.rot90(1, (2, 3)).fliplr().tile(1, 2, 1, 1),
    "indexing": lambda x: (
        x.scatter_reduce(1, x.long(), x, "sum")
        .take_along_dim(x.long(), 1)
        .index_copy(0, torch.zeros(1, dtype=torch.long, device=x.device), x[:1])
    ),
    "diagonals": lambda x: torch.diag_embed(x.diagonal(0, 2, 3)),
    "likeness": lambda x: F.cosine_similarity(x, x, 3) + F.pairwise_distance(x, x),
    "order": lambda x: x.median(1)[0] + x.cummax(1)[0].sum(1) + x.argsort(1).sum(1) + x.flatten(2).quantile(0.5),
    "chance": lambda x: x + torch.rand_like(x) + torch.bernoulli(x) + torch.randn(16, device=x.device),
    "grids": lambda x: x + torch.linspace(0, 1, 16, device=x.device) + torch.eye(16, device=x.device),
    "sampling": lambda x: F.grid_sample(x, F.affine_grid(x.new_zeros(2, 2, 3), x.shape, False), align_corners=False),
    "special": lambda x: torch.xlogy(x, x) + x.erfinv() + torch.sinc(x) + torch.logaddexp(x, x) + torch.hypot(x, x),
    "classes": lambda x: F.one_hot(x[:, 0, 0, 0].long(), 10).float(),
    "gumbel": lambda x: F.gumbel_softmax(x, dim=1),
    "outer": lambda x: torch.outer(x[0, 0, 0], x[0, 0, 0]) + torch.kron(x[0, 0], x[0, 0])[:16, :16],
    "copies": lambda x: torch.permute_copy(x, (0, 1, 3, 2)) + torch.view_copy(x, x.shape),
    "losses": lambda x: F.mse_loss(x, x) + F.l1_loss(x, x) + F.huber_loss(x, x) + F.cross_entropy(x, x[:, 0].long()),
    "sums": lambda x: (
        torch.trapezoid(x) + torch.dist(x, x) + F.triplet_margin_loss(x, x, x) + F.kl_div(x, x, reduction="sum")
    ),
    "rows": lambda x: torch.linalg.vecdot(x, x) + torch.cumulative_trapezoid(x).sum(3) + torch.isreal(x).sum(3),
    "cross": lambda x: torch.linalg.cross(x[..., :3], x[..., :3]),
}


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [(1, 2, 8, 4)] * 3, 2 * 8 * 8 * 8),
        (lambda q, k: F.scaled_dot_product_attention(q, k, k), [(1, 2, 8, 4), (4, 2, 6, 4)], 4 * 2 * 8 * 6 * 8),
        (lambda q, k: F.scaled_dot_product_attention(q, k, k), [(4, 2, 8, 4), (1, 2, 6, 4)], 4 * 2 * 8 * 6 * 8),
        (lambda a, b: torch.inner(a, b), [(3, 2, 4), (5, 4)], 3 * 2 * 5 * 4),
        (lambda a, b, c: torch.addmv(a, b, c), [(3,), (3, 4), (4,)], 12),
        (lambda a, b, c: torch.addbmm(a, b, c), [(3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: torch.linalg.vecdot(a, b), [(4,), (4,)], 4),
        (lambda a, b, w: F.bilinear(a, b, w), [(3, 5), (3, 6), (7, 5, 6)], 3 * 5 * 6 * 7),
        (lambda a, b: a @ b, [(1, 3, 4), (5, 4, 7)], 5 * 3 * 4 * 7),
        (lambda a, b: a @ b, [(3, 4), (4,)], 12),
        (lambda a, b: torch.einsum("bij,bkj->bik", a, b), [(2, 3, 4), (2, 5, 4)], 2 * 3 * 4 * 5),
        (lambda a, b, c: torch.baddbmm(a, b, c), [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda x, w: F.conv2d(x, w, padding="same"), [(1, 3, 8, 8), (5, 3, 3, 3)], 8 * 8 * 5 * 27),
        (lambda x, w: F.conv_transpose2d(x, w, stride=2), [(1, 3, 4, 4), (3, 5, 2, 2)], 4 * 4 * 3 * 5 * 4),
        (lambda x: F.silu(x) * x.exp() + x.mean(), [(2, 3)], 0),
        (lambda x: F.group_norm(x, 2), [(1, 4, 3, 3)], 0),
    ],
)
def test_rules(function, shapes, macs):
    """Every operator that multiplies matrices costs what its formula says, and nothing else costs anything."""
    counted = count(Calls(function), [torch.zeros(shape) for shape in shapes])
    assert counted.macs("exact") == counted.second == macs
    assert not counted.uncounted


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(1, 2))
def test_the_two_counters_agree(batch, channels_in, channels_out, kernel, stride):
    """Fvcore with our rules and torch's counter give the same integer for convolution, linear map and attention."""
    net = nn.Sequential(
        nn.Conv2d(channels_in, 4 * channels_out, kernel, stride=stride, padding=kernel // 2),
        Attention2d(4 * channels_out, BlockStyle()),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    x = torch.zeros(batch, channels_in, 6, 6)
    net(x)
    assert count(net, [x]).macs("exact") == count_on_meta(net, [x])[0] > 0


class Swish(torch.autograd.Function):
    """A function with its own gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Product(torch.autograd.Function):
    """In the newer form, with its context set up apart."""

    @staticmethod
    def forward(x, weight):
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


class OfSequences(nn.Module):
    """The outputs of a layer of sequences, without its state; packed ones where told."""

    def __init__(self, layer, *, packed=False):
        super().__init__()
        self.layer, self.packed = layer, packed

    def forward(self, x):
        if self.packed:
            x = nn.utils.rnn.pack_padded_sequence(x, torch.full(x.shape[:1], x.shape[1]), batch_first=True)
            return self.layer(x)[0].data
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)[0]


class OfState(nn.Module):
    """One step of a cell; of LSTM the output alone."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        found = self.cell(x[:, 0])
        return found[0] if isinstance(found, tuple) else found


ATTENTION = 2 * (4 * 10 * 16 * 16 + 2 * 10 * 10 * 16)
FEEDFORWARD = 2 * 2 * 10 * 16 * 32


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # which torch says is slower on CPUs
@pytest.mark.parametrize(
    ("module", "macs"),
    [
        (OfSequences(nn.MultiheadAttention(16, 4, batch_first=True)), ATTENTION),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), ATTENTION + FEEDFORWARD),
        (OfSequences(nn.GRU(16, 8, 2, batch_first=True, bidirectional=True)), 20 * 2 * (2 * 24 * (16 + 8))),
        (OfSequences(nn.LSTM(16, 8, proj_size=4, batch_first=True)), 20 * (32 * (16 + 4) + 4 * 8)),
        (OfSequences(nn.RNN(16, 8, batch_first=True, nonlinearity="relu")), 20 * 8 * (16 + 8)),
        (OfSequences(nn.GRU(16, 8, batch_first=True), packed=True), 20 * 24 * (16 + 8)),
        (Calls(Swish.apply), None),
        (Calls(lambda x: Swish.apply(x)), 0),
        (Calls(lambda x: Product.apply(x, x.transpose(1, 2))), 2 * 10 * 10 * 16),
        (Calls(lambda x: checkpoint(lambda y: y @ y.mT, x, use_reentrant=True)), 2 * 10 * 10 * 16),
        (Calls(lambda x: checkpoint(lambda y: y @ y.mT, x, use_reentrant=False)), 2 * 10 * 10 * 16),
        (Calls(lambda x: F.pdist(x[0])), None),
        (OfState(nn.GRUCell(16, 8)), 2 * 24 * (16 + 8)),
        (OfState(nn.LSTMCell(16, 8)), 2 * 32 * (16 + 8)),
        (OfState(nn.RNNCell(16, 8)), 2 * 8 * (16 + 8)),
    ],
)
def test_layers_of_torch_are_counted_or_shown(module, macs):
    """What a trace does not see into is counted as what it does by both counters, or listed: never silently zero."""
    counted = count(module, [torch.zeros(2, 10, 16)])
    if macs is None:
        assert counted.uncounted
    else:
        assert not counted.uncounted
        assert counted.macs("exact") == counted.second == macs
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(weight_norm, id="weight-norm"),
        pytest.param(spectral_norm, id="spectral-norm"),
        pytest.param(parametrizations.weight_norm, id="parametrised weight-norm"),
        pytest.param(lambda layer: prune.l1_unstructured(layer, "weight", 0.5), id="pruned"),
    ],
)
def test_layers_that_compute_their_weights(wrap):
    """Norms and masks of weights cost nothing, and a layer that has run keeps what it computed."""
    layer, x = wrap(nn.Conv2d(4, 4, 3, padding=1)), torch.zeros(1, 4, 8, 8)
    layer.train()(torch.randn_like(x))
    for _ in range(2):
        counted = count(layer, [x])
        assert counted.macs("exact") == counted.second == 64 * 4 * 4 * 9
        assert not counted.uncounted
    assert layer.weight.abs().sum() > 0


def test_parametrised_spectral_norm_multiplies_a_matrix():
    """It multiplies the weight by a vector at each call, and a vector by that: beside the convolution."""
    counted = count(parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), [torch.zeros(1, 4, 3, 3)])
    assert counted.macs("exact") == counted.second == 144 + 144 + 4
    assert not counted.uncounted


class OfNames(nn.Module):
    """A convolution and a filter under names of one's own."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.parts = names, nn.ModuleDict(dict(zip(names, (nn.Conv2d(3, 4, 1), FIR("down")), strict=True)))

    def forward(self, x):
        for name in self.names:
            x = self.parts[name](x)
        return x


@pytest.mark.parametrize("names", [("a/b", "c"), ("c", "a/b")])
def test_names_with_slashes(names):
    """A module's name may have what divides the scopes of a trace, also one whose operators are renamed."""
    counted = count(OfNames(*names), [torch.zeros(1, 3, 8, 8)])
    assert counted.by_operator["exact"] == {"conv": 64 * 12, "conv_fir": 16 * 4 * 16}


def test_lazy_modules_are_refused():
    """A layer without shapes is refused with the reason, not with what its absence leads to."""
    with pytest.raises(PartError, match=r"1\.weight is of a lazy module.*call it once"):
        count(nn.Sequential(nn.ReLU(), nn.LazyLinear(3)), [torch.zeros(1, 4)])


@st.composite
def equations(draw):
    """An einsum of two to four operands with few letters, some axes of length 1, and maybe an ellipsis."""
    dots = draw(st.booleans())
    sizes = {letter: draw(st.integers(1, 4)) for letter in "abcde"}
    names = draw(st.lists(st.text("abcde", min_size=1, max_size=3).map(unique), min_size=2, max_size=4))
    shapes = [[draw(st.sampled_from([1, sizes[letter]])) for letter in own] for own in names]
    used = unique("".join(names))
    kept = draw(st.permutations(used).flatmap(lambda order: st.integers(0, len(order)).map(lambda n: order[:n])))
    if dots:
        names = [own + "..." for own in names]
        shapes = [[*shape, draw(st.sampled_from([1, 3])), 2] for shape in shapes]
        kept = ["...", *kept]
    return ",".join(names) + "->" + "".join(kept), shapes


def unique(letters):
    return "".join(dict.fromkeys(letters))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(equations())
def test_einsum_is_what_torch_multiplies(drawn):
    """MACs of any einsum are those of the products of matrices that torch makes of it."""
    equation, shapes = drawn
    with FlopCounterMode(display=False) as mode:
        torch.einsum(equation, *(torch.empty(shape, device="meta") for shape in shapes))
    assert einsum_macs(equation, shapes) == mode.get_total_flops() // 2


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)], 120),
        ("ij,jk", [(3, 4), (4, 5)], 60),
        ("bqc,bkc->bqk", [(4, 5, 3), (1, 6, 3)], 4 * 5 * 6 * 3),
        ("ii,ij->j", [(3, 3), (3, 4)], 12),
        ("...qd,...kd->...qk", [(4, 2, 10, 8), (2, 10, 8)], 4 * 2 * 10 * 10 * 8),
    ],
)
def test_einsums_by_hand(equation, shapes, macs):
    """Broadcast operands, an ellipsis, a diagonal and an equation without output are counted."""
    counted = count(Calls(lambda *x: torch.einsum(equation, *x)), [torch.zeros(shape) for shape in shapes])
    assert counted.macs("exact") == counted.second == macs


def test_free_operators_are_torchs():
    """The list names operators that torch has and does not mark itself, and none that its counter or ours charges."""
    known = {schema.name.removeprefix("aten::") for schema in torch._C._jit_get_all_schemas()}
    assert not [name for name in OTHERS if name not in known and f"{name}_" not in known]
    charged = {getattr(key, "__name__", str(key)).partition(".")[0] for key in flop_registry}
    charged |= {op.removeprefix("aten::") for op in RULES}
    assert not charged & OTHERS
    assert not {name for name in charged if is_free(f"aten::{name}")}
    assert is_free("aten::add_")
    assert not is_free("aten::pdist")
    assert not is_free("mine::add")


@pytest.mark.parametrize("function", FREE_USES.values(), ids=FREE_USES)
def test_free_uses(function):
    """What multiplies no matrices is neither charged nor shown."""
    counted = count(Calls(function), [torch.zeros(2, 8, 16, 16)])
    assert not counted.uncounted
    assert counted.macs("exact") == counted.second == 0


def test_filters_are_a_row_of_their_own():
    """Resampling filters are not mixed with learned convolutions."""
    counted = count(nn.Sequential(nn.Conv2d(3, 4, 1), FIR("down")), [torch.zeros(1, 3, 8, 8)])
    assert counted.by_operator["exact"] == {"conv": 64 * 12, "conv_fir": 16 * 4 * 16}


def test_paper_convention_sees_only_ordinary_layers():
    """Conv2d with its bias additions and Linear are counted; attention and what says so itself are not."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Attention2d(8, BlockStyle()))
    assert count(net, [torch.zeros(1, 3, 4, 4)]).by_operator["paper"] == {"conv": 16 * 8 * 27, "conv_bias": 16 * 8}


def test_fvcore_convention_is_fvcore_untouched():
    """The fvcore column has its quirks: norms count, fused attention does not."""
    net = nn.Sequential(nn.GroupNorm(2, 4), Calls(lambda x: F.scaled_dot_product_attention(x, x, x)))
    assert count(net, [torch.zeros(1, 4, 4, 4)]).by_operator["fvcore"] == {"group_norm": 5 * 64}


def test_an_operator_without_a_rule_is_shown():
    """What nobody knows how to count is listed with its number of runs, never silently zero; so is a use of one."""
    assert count(Calls(F.pdist), [torch.zeros(2, 3)]).uncounted == {"aten::pdist": 1}
    unusual = count(Calls(lambda x: torch.cdist(x, x, p=1)), [torch.zeros(2, 3)])
    assert unusual.uncounted == {"aten::cdist of p = 1": 1}


def log_macs(numbers, length, factor):
    return round(factor * numbers * math.log2(length))


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: torch.fft.ifft(torch.fft.fft(x + 0j)).real, 2 * log_macs(192, 8, 2.5)),
        (lambda x: torch.fft.fft(x, n=6, dim=1).abs(), log_macs(384, 6, 1.25)),
        (lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real, 2 * log_macs(192, 32, 2.5)),
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), 2 * log_macs(192, 32, 1.25)),
        (
            lambda x: torch.fft.irfftn(torch.fft.rfftn(x, dim=(3, 1)), dim=(3, 1)),
            log_macs(192, 24, 1.25) + log_macs(128, 16, 1.25),
        ),
        (lambda x: torch.fft.fftn(x, s=(4, 6)).real, log_macs(144, 24, 2.5)),
        (lambda x: torch.fft.hfft(torch.fft.ihfft(x)), 2 * log_macs(192, 8, 1.25)),
        (lambda x: torch.fft.fftshift(x) + torch.fft.fftfreq(8, device=x.device), 0),
        (
            lambda x: torch.stft(x[0, 0], 4, 2, window=x[0, 0, 0, :4], center=False, return_complex=True).real,
            log_macs(48, 4, 1.25),
        ),
    ],
)
def test_fourier_transforms(function, macs):
    """5 n log2(n) FLOPs of complex numbers, half of that of real ones, by both counters."""
    counted = count(Calls(function), [torch.zeros(2, 3, 4, 8)])
    assert not counted.uncounted
    assert counted.macs("exact") == counted.second == macs


@pytest.mark.parametrize(
    ("few", "many", "options", "macs"),
    [
        ((2, 5, 3), (4, 3), {}, 2 * 5 * 4 * 3),
        ((50, 3), (40, 3), {}, 50 * 40 * 5),
        ((50, 3), (40, 3), {"compute_mode": "donot_use_mm_for_euclid_dist"}, 50 * 40 * 3),
    ],
)
def test_distances(few, many, options, macs):
    """A pair of points has a MAC for each coordinate, and two more where torch multiplies matrices for many."""
    distances = Calls(lambda x, y: torch.cdist(x, y, **options))
    counted = count(distances, [torch.zeros(few), torch.zeros(many)])
    assert not counted.uncounted
    assert counted.macs("exact") == counted.second == macs


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x, w: x @ w, 4 * 5 * 6),
        (lambda x, w: torch.einsum("ij,jk->ik", x, w), 4 * 5 * 6),
        (lambda x, w: F.linear(x, w.T, w[0]), 4 * 5 * 6),
        (lambda x, w: x @ w[:, 0], 4 * 5),
        (lambda x, w: torch.vdot(x[0], w[:, 0]), 5),
    ],
)
def test_complex_numbers(function, macs):
    """A product of complex numbers is four of real ones, by both counters."""
    given = [torch.zeros(4, 5), torch.zeros(5, 6)]
    counted = count(Calls(lambda x, w: function(torch.complex(x, x), torch.complex(w, w)).real), given)
    assert not counted.uncounted
    assert counted.macs("exact") == counted.second == 4 * macs


def test_counting_leaves_no_trace():
    """Weights, buffers, training mode, hooks and random state are as before, also after a failure."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    net.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    broken = nn.Sequential(net, Calls(lambda x: x if x.sum().item() > 0 else torch.linalg.no_such_thing(x)))
    count(net, [torch.zeros(1, 1, 4, 4)])
    with pytest.raises(PartError, match=r"1 \(Calls\) cannot be traced for counting: .*no_such_thing.*AttributeError"):
        count(broken, [torch.zeros(1, 1, 4, 4)])
    assert net.training
    assert len(net._forward_hooks) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_papers_blind_spots_are_one_table():
    """No layer says of itself what the paper's tool saw: the counter's table does, by class and family."""
    unseen = {style.family: set(blind_spots.unseen(Attention2d(8, style))) for style in STYLES}
    assert {family for family, layers in unseen.items() if layers} == {"ddpm", "ddpmpp", "ldm"}
    shortcuts = {style.family for style in STYLES if set(blind_spots.unseen(block(style)))}
    assert shortcuts == {"ddpm"}
    assert not any("paper" in name for style in STYLES for name in attrs.asdict(style))
    assert not any("paper" in name for name in vars(block(STYLES[0]).conv0))


STYLES = (
    families.ddpm_blocks(groups=4, dropout=0.0),
    families.ddpmpp_blocks(groups=4, dropout=0.0, fir=True),
    families.song_blocks(groups=4, dropout=0.0, taps=(1.0, 1.0)),
    families.adm_blocks(groups=4, dropout=0.0, head_width=4),
    families.ldm_blocks(groups=4, dropout=0.0, heads=1, head_width=None, scale_shift=False),
    families.autoencoder_blocks(groups=4),
)


def block(style):
    return ResidualBlock(8, 16, style, embedding=None)


def test_a_failure_names_the_parts_own_line():
    """Not that of torch, where it was raised."""
    inner = nn.Linear(3, 3)
    wrong = Calls(lambda x: inner(x[:, :2]) + 0)
    wrong.inner = inner
    with pytest.raises(
        PartError, match=r"`wrong = Calls\(lambda x: inner\(x\[:, :2\]\) \+ 0\)` \(test_counting\.py:\d+\)"
    ):
        count(wrong, [torch.zeros(1, 5)])
