"""Laws of decoders. Options: `shape` of the images, and the `encoder` in front, where none of msdk's suits."""

import torch
from torch import Tensor, nn

from msdk.decoders.base import Decoder
from msdk.denoiser.declared import Declared
from msdk.encoders.base import Encoder, FeatureInfo, Features, Level, Shape
from msdk.errors import PartError
from msdk.testing import networks
from msdk.testing.laws import COMMON, LawError, require
from msdk.testing.networks import SHAPE


def _features(encoder: Encoder, shape: Shape) -> Features:
    with torch.no_grad():
        return networks.built(lambda: encoder.build(shape))(
            networks.images(shape), torch.tensor([0.3, 700.0], dtype=torch.float64)
        )


def _outputs(network: nn.Module, encoder: Encoder, shape: Shape) -> list[Tensor]:
    with torch.no_grad():
        return [network(_features(encoder, shape))]


def predicts_images(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """Its output is an image, or an image and its variance, and finite, at every size that both halves take."""
    own = encoder or networks.encoder_for(decoder, shape)
    for size in networks.sizes(lambda size: decoder.check(own.info(size)), shape):
        info = own.info(size)
        (found,) = _outputs(networks.built(lambda size=size, info=info: decoder.build(info, size)), own, size)
        try:
            Declared((own,), (decoder,), (info,), size).prediction(found, networks.images(size), 0)
        except PartError as error:
            raise LawError(str(error)) from error
        require(bool(found.isfinite().all()), f"for images of {size} the prediction is not finite")


def gradients_reach_every_parameter(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """Each parameter takes part in the prediction."""
    own = encoder or networks.encoder_for(decoder, shape)
    network = networks.built(lambda: decoder.build(own.info(shape), shape))
    networks.check_gradients(network, [network(_features(own, shape))])


def builds_on_meta(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """Budgets build it without memory."""
    info = (encoder or networks.encoder_for(decoder, shape)).info(shape)
    networks.check_meta(lambda: decoder.build(info, shape))


def state_dict_round_trips(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """A checkpoint holds all of it."""
    own = encoder or networks.encoder_for(decoder, shape)
    networks.check_round_trip(
        lambda: decoder.build(own.info(shape), shape), lambda network: _outputs(network, own, shape)
    )


def eval_is_deterministic(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """Image i depends on seed i alone."""
    own = encoder or networks.encoder_for(decoder, shape)
    networks.check_deterministic(
        lambda: decoder.build(own.info(shape), shape), lambda network: _outputs(network, own, shape)
    )


def budget_counts_every_operator(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """No operator is left out of budgets, and two counters agree."""
    networks.check_budget(encoder or networks.encoder_for(decoder, shape), decoder, shape)


def mixed_batches_equal_single_stages(
    decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None
) -> None:
    """A decoder sees the images of its stage out of a batch, so none may depend on its neighbours."""
    networks.check_mixed(encoder or networks.encoder_for(decoder, shape), decoder, shape)


def trains_saves_and_goes_on(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """A run that was stopped, saved and resumed ends as one that was not; averages are those of the weights."""
    networks.check_training(encoder or networks.encoder_for(decoder, shape), decoder, shape)


def refuses_in_words(decoder: Decoder, *, shape: Shape = SHAPE, encoder: Encoder | None = None) -> None:
    """Features that do not fit are refused by `check` with a `PartError`, before anything is built."""
    strange = (
        FeatureInfo(levels=(Level(1, (3,)),), bottom=5, embedding=7),
        FeatureInfo(levels=(Level(2, (6, 6)),), bottom=6, embedding=8, tokens=1),
        FeatureInfo(levels=(Level(1, (8,)), Level(4, (9,))), bottom=10, embedding=8),
    )
    for info in strange:
        try:
            decoder.check(info)
        except PartError as error:
            require(len(str(error)) > 20, f"{info} is refused with nothing but {str(error)!r}")
        except Exception as error:
            raise LawError(
                f"{info} makes `check` raise {type(error).__name__}: {error}; raise PartError with the reason"
            ) from error


LAWS = (
    *COMMON,
    predicts_images,
    gradients_reach_every_parameter,
    builds_on_meta,
    state_dict_round_trips,
    eval_is_deterministic,
    budget_counts_every_operator,
    mixed_batches_equal_single_stages,
    trains_saves_and_goes_on,
    refuses_in_words,
)
