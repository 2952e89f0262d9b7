"""What a trained network has learnt: looks into runs that are neither scores nor samples. Names load on first use."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdk.inspecting.comparing import h_space as h_space
    from msdk.inspecting.spaces import HSpace as HSpace

_HOMES = {"h_space": "msdk.inspecting.comparing", "HSpace": "msdk.inspecting.spaces"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'msdk.inspecting' has no attribute '{name}'")
