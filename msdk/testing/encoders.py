"""Laws of encoders. Options: `shape` of the images, and the `decoder` behind, where none of msdk's fits."""

from typing import Any

import torch
from torch import Tensor, nn

from msdk.decoders.base import Decoder
from msdk.denoiser.declared import Declared
from msdk.encoders.base import Encoder, Shape
from msdk.errors import PartError
from msdk.testing import networks
from msdk.testing.laws import COMMON, LawError, require
from msdk.testing.networks import SHAPE


def _run(network: nn.Module, shape: Shape) -> Any:
    noise = torch.tensor([0.3, 700.0], dtype=torch.float64)
    return network(networks.images(shape), noise)


def features_match_info(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """Skips, bottom, embedding and scale have the sizes that `info` says, of every image that it takes."""
    for size in networks.sizes(encoder.info, shape):
        info = encoder.info(size)
        require(info == encoder.info(size), "`info` says something else when it is asked again")
        reductions = [level.reduction for level in info.levels]
        require(reductions == sorted(set(reductions)), f"levels are to be finest first, but reduce by {reductions}")
        with torch.no_grad():
            features = _run(networks.built(lambda size=size: encoder.build(size)), size)
        try:
            Declared((encoder,), (), (info,), size).features(features, networks.images(size), 0)
        except PartError as error:
            raise LawError(str(error)) from error
        finite = all(bool(each.isfinite().all()) for each in networks.tensors(features))
        require(finite, f"for images of {size} the features are not finite")


def one_noise_level_serves_a_batch(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """A noise level [1] means that of every image, as samplers give it."""
    network = networks.built(lambda: encoder.build(shape))
    x, noise = networks.images(shape), torch.tensor([300.0], dtype=torch.float64)
    with torch.no_grad():
        one, each = network(x, noise), network(x, noise.expand(2))
    for a, b in zip(networks.tensors(one), networks.tensors(each), strict=True):
        require(torch.allclose(a.expand_as(b), b), "with one noise level for the batch the features are others")


def gradients_reach_every_parameter(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """Each parameter takes part in what decoders are given."""
    network = networks.built(lambda: encoder.build(shape))
    networks.check_gradients(network, networks.tensors(_run(network, shape)))


def builds_on_meta(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """Budgets build it without memory."""
    networks.check_meta(lambda: encoder.build(shape))


def state_dict_round_trips(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """A checkpoint holds all of it."""
    networks.check_round_trip(lambda: encoder.build(shape), lambda network: _outputs(network, shape))


def eval_is_deterministic(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """Image i depends on seed i alone."""
    networks.check_deterministic(lambda: encoder.build(shape), lambda network: _outputs(network, shape))


def _outputs(network: nn.Module, shape: Shape) -> list[Tensor]:
    with torch.no_grad():
        return networks.tensors(_run(network, shape))


def budget_counts_every_operator(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """No operator is left out of budgets, and two counters agree."""
    networks.check_budget(encoder, decoder or networks.decoder_for(encoder.info(shape)), shape)


def mixed_batches_equal_single_stages(
    encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None
) -> None:
    """The encoder runs once on a batch of mixed stages, so no image may depend on its neighbours."""
    networks.check_mixed(encoder, decoder or networks.decoder_for(encoder.info(shape)), shape)


def trains_saves_and_goes_on(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """A run that was stopped, saved and resumed ends as one that was not; averages are those of the weights."""
    networks.check_training(encoder, decoder or networks.decoder_for(encoder.info(shape)), shape)


def refuses_in_words(encoder: Encoder, *, shape: Shape = SHAPE, decoder: Decoder | None = None) -> None:
    """Images that do not suit it are refused by `info` with a `PartError`, before anything is built."""
    for size in ((shape[0], 1, 1), (shape[0], 7, 13)):
        try:
            encoder.info(size)
        except PartError as error:
            require(len(str(error)) > 20, f"images of {size} are refused with nothing but {str(error)!r}")
        except Exception as error:
            raise LawError(
                f"images of {size} make `info` raise {type(error).__name__}: {error}; raise PartError with the reason"
            ) from error


LAWS = (
    *COMMON,
    features_match_info,
    one_noise_level_serves_a_batch,
    gradients_reach_every_parameter,
    builds_on_meta,
    state_dict_round_trips,
    eval_is_deterministic,
    budget_counts_every_operator,
    mixed_batches_equal_single_stages,
    trains_saves_and_goes_on,
    refuses_in_words,
)
