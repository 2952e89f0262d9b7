"""Promises on weights of every make: trained, averaged, saved, resumed and sampled right, or refused before step 1."""

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import msdk
from msdk import testing
from msdk.denoiser.weights import aliases, settle
from msdk.encoders.base import Encoder, FeatureInfo, Features, Level
from msdk.errors import MsdkError, PartError, RunError
from msdk.runs import latest
from recipes import tiny

WIDTH = 8


class Net(nn.Module):
    """Two levels; `kind` says how the weights of its middle are made."""

    def __init__(self, kind, channels):
        super().__init__()
        self.kind = kind
        self.first = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2)
        self.embed = nn.Linear(1, 4 * WIDTH)
        self.mid, self.more = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        MAKES.get(kind, lambda net: None)(self)

    def forward(self, x, c_noise, label=None, augment=None):
        embedding = self.embed(c_noise.to(x.dtype)[:, None].abs().log1p())
        h = self.first(x)
        bottom = torch.relu(self.second(torch.relu(h)))
        last = bottom.movedim(1, -1)
        last = self.more(torch.relu(self.mid(last)))
        for name in ("own", "turned"):
            weight = getattr(self, name, None)
            if weight is not None:
                last = last * weight.abs().mean() if weight.is_complex() or weight.ndim > 1 else last * weight
        if self.kind == "counted" and self.training:
            self.count.add_(1)
            last = last + self.other.seen
        return Features((h, bottom), last.movedim(-1, 1), embedding)


def _tied_buffer(net):
    net.register_buffer("count", torch.zeros(WIDTH))
    net.other = nn.Module()
    net.other.register_buffer("seen", net.count)


def _own(make, **options):
    def set_on(net):
        net.own = nn.Parameter(make(), **options)

    return set_on


def _tied(net):
    net.more.weight = net.mid.weight


def _twice(net):
    net.more = net.mid


def _conv_twice(net):
    net.alias = net.second


def _views(net):
    net.register_buffer("table", torch.linspace(1, 2, 5).expand(2, 3, 5))
    whole = torch.rand(12)
    net.register_buffer("low", whole[:8])
    net.register_buffer("high", whole[4:])


class WithExtra(nn.Module):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


def _with_extra(net):
    net.extra = WithExtra()


def _same_memory(net):
    net.more.weight = nn.Parameter(net.mid.weight.data)


def _follows(net):
    net.register_buffer("view", net.mid.weight.data[:2])


def _sparse(net):
    with torch.sparse.check_sparse_tensor_invariants(False):
        net.register_buffer("sparse", torch.sparse_coo_tensor([[0], [1]], [1.0], (3, 3)))


SOUND = {
    "tied": _tied,
    "twice": _twice,
    "convolution twice": _conv_twice,
    "counted": _tied_buffer,
    "views": _views,
    "expanded": _own(lambda: torch.ones(1).expand(WIDTH)),
    "turned": _own(lambda: torch.rand(3, WIDTH).t()),
    "sliced": _own(lambda: torch.rand(2 * WIDTH)[::2]),
    "complex": _own(lambda: torch.rand(3, 4, dtype=torch.complex64)),
    "conjugate": _own(lambda: torch.rand(3, 4, dtype=torch.complex64).conj()),
    "whole numbers": _own(lambda: torch.arange(WIDTH) % 3, requires_grad=False),
}
REFUSED = {
    "same memory": (_same_memory, "mid.weight and .*more.weight share memory and are two tensors"),
    "follows": (_follows, "mid.weight and .*view share memory|view and .*mid.weight share memory"),
    "sparse": (_sparse, "sparse is laid out as torch.sparse_coo"),
    "extra": (_with_extra, "_extra_state is a dict and no tensor|cannot be traced for counting"),
    "complex128": (_own(lambda: torch.rand(3, dtype=torch.complex128)), "own holds complex128"),
}
MAKES = SOUND | {kind: make for kind, (make, _) in REFUSED.items()}


@msdk.encoders.add("odd-weights")
@attrs.frozen(kw_only=True)
class Odd(Encoder):
    """Two levels.

    Args:
        kind: How its weights are made.
    """

    kind: str = ""

    def info(self, shape):
        return FeatureInfo((Level(1, (WIDTH,)), Level(2, (WIDTH,))), bottom=WIDTH, embedding=4 * WIDTH)

    def build(self, shape):
        return Net(self.kind, shape[0])


LAW = testing.encoders.trains_saves_and_goes_on


@pytest.mark.parametrize("kind", SOUND)
def test_odd_weights_keep_the_law(kind):
    """Averages, files, resuming and loading are right for each make."""
    LAW(Odd(kind=kind), shape=(3, 16, 16))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_right_is_refused_before_the_first_step(kind, tmp_path):
    """In words, by the law and by training, and no folder is made."""
    words = REFUSED[kind][1]
    with pytest.raises(testing.LawError, match=words):
        LAW(Odd(kind=kind), shape=(3, 16, 16))
    with pytest.raises(MsdkError, match=words):
        msdk.train(odd(kind), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def odd(kind, *settings):
    recipe = tiny("training.warmup=0", "training.lr=1e-2", *settings)
    decoders = tuple(attrs.evolve(each, channel_mult=(1, 1), attention=()) for each in recipe.decoders)
    return attrs.evolve(recipe, encoder=Odd(kind=kind), decoders=decoders)


@pytest.mark.parametrize("kind", ["tied", "twice"])
def test_runs_of_tied_weights_sample_the_average(kind, tmp_path):
    """The commands' own way: the last average is what is sampled, under both names, also with --offload."""
    msdk.train(odd(kind), tmp_path / "run")
    saved = load_file(latest(tmp_path / "run") / "ema.safetensors")
    raw = load_file(latest(tmp_path / "run") / "model.safetensors")
    one, other = (f"encoders.0.{name}.weight" for name in ("mid", "more"))
    assert torch.equal(saved[one], saved[other])
    assert not torch.equal(saved[one], raw[one])
    for offload in (False, True):
        network = msdk.load_run(tmp_path / "run", offload=offload).network
        assert torch.equal(network.encoders[0].mid.weight, saved[one])
        assert network.encoders[0].more.weight is network.encoders[0].mid.weight


def test_files_with_two_values_for_one_weight_are_refused(tmp_path):
    """As msdk wrote them before: the average under one name and the last weights under the other."""
    msdk.train(odd("tied"), tmp_path / "run")
    for name in ("ema", "model"):
        file = latest(tmp_path / "run") / f"{name}.safetensors"
        weights = load_file(file)
        weights["encoders.0.more.weight"] += 1
        save_file(weights, file)
        words = rf"{name}.safetensors cannot be used: encoders.0.more.weight and encoders.0.mid.weight are one tensor"
        with pytest.raises(RunError, match=words):
            msdk.load_run(tmp_path / "run", weights="ema" if name == "ema" else "raw")
        with pytest.raises(RunError, match="are one tensor"):
            msdk.train(odd("tied", "training.iterations=5"), tmp_path / "run", resume=True)


def test_a_tied_buffer_stays_one_on_every_device():
    """Torch itself moves it once for each module that has it, and makes two of it."""
    recipe = odd("counted")
    denoiser = msdk.build(recipe).to(torch.float64)
    net = denoiser.network.encoders[0]
    assert net.count is net.other.seen
    assert net.count.dtype == torch.float64
    assert aliases(denoiser.network) == {"encoders.0.other.seen": "encoders.0.count"}


def test_memory_is_settled():
    """No gaps, no expanded tensors, none inside of another; what is one tensor stays one."""
    net = Net("views", 3)
    settle(net)
    buffers = dict(net.named_buffers())
    assert all(value.is_contiguous() for value in buffers.values())
    assert len({value.untyped_storage().data_ptr() for value in buffers.values()}) == len(buffers)
    buffers["low"][:] = 0
    assert (buffers["high"] != 0).all()
    tied = Net("tied", 3)
    assert settle(tied).more.weight is tied.mid.weight
    with pytest.raises(PartError, match="share memory"):
        settle(Net("same memory", 3))
