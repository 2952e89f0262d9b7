"""What a part of msdk must do, as functions that a package's own tests call: a law each, which holds or raises.

    import pytest
    from msdk import testing
    from my_lab.unet import MyUNet

    @pytest.mark.parametrize("law", testing.laws("encoder"))
    def test_my_unet(law):
        law(MyUNet(channels=16))

Every law takes the part, and options that its kind shares by keyword; a single one is called by its name,
`testing.encoders.features_match_info(MyUNet(), shape=(3, 64, 64))`. The parts that msdk ships pass the same laws.
A law that is broken raises `LawError`, an `AssertionError` that says what was expected and what was found.
"""

from collections.abc import Callable
from typing import Any

from msdk.registry import registry_of
from msdk.testing import (
    autoencoders,
    clusterings,
    datasets,
    decoders,
    encoders,
    lr_schedules,
    noise_levels,
    optimizers,
    parameterizations,
    samplers,
    schedules,
    weightings,
    wrappers,
)
from msdk.testing.laws import LawError as LawError

_LAWS: dict[str, tuple[Callable[..., None], ...]] = {
    "encoders": encoders.LAWS,
    "decoders": decoders.LAWS,
    "schedules": schedules.LAWS,
    "parameterizations": parameterizations.LAWS,
    "autoencoders": autoencoders.LAWS,
    "samplers": samplers.LAWS,
    "wrappers": wrappers.LAWS,
    "clusterings": clusterings.LAWS,
    "noise_levels": noise_levels.LAWS,
    "weightings": weightings.LAWS,
    "optimizers": optimizers.LAWS,
    "lr_schedules": lr_schedules.LAWS,
    "datasets": datasets.LAWS,
}


def laws(kind: str) -> tuple[Callable[..., None], ...]:
    """All laws of a kind of part, given in singular or plural: functions `law(part, **options)`.

    Raises:
        UnknownNameError: There is no such kind.
    """
    return _LAWS[registry_of(kind).kind]


def check(kind: str, part: Any, **options: Any) -> None:
    """Calls every law of a kind, and tells all that are broken at once.

    Raises:
        LawError: Some are.
        UnknownNameError: There is no such kind.
    """
    broken: list[str] = []
    for law in laws(kind):
        try:
            law(part, **options)
        except AssertionError as error:
            broken.append(f"{law.__name__}: {error}")
    if broken:
        raise LawError("\n".join(broken))
