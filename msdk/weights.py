"""Files of weights: safetensors read onto the CPU, and put into a module that they fit."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from msdk.errors import RunError


def read_weights(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU.

    Args:
        path: The file.
        names: Which of its tensors, where it has them; all when not given.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            wanted = None if names is None else set(names)
            found = [key for key in file.keys() if wanted is None or key in wanted]  # noqa: SIM118  a file is no mapping
            return {key: file.get_tensor(key) for key in found}
    except (SafetensorError, OSError) as error:
        raise RunError(f"the file of weights {path} is damaged: {error}") from error


def put_weights(module: nn.Module, weights: Mapping[str, Tensor], source: Path, owner: str) -> None:
    """Copies weights into a module.

    Args:
        module: Whose names and shapes they must have.
        weights: By name.
        source: The file, for the message.
        owner: What another module would belong to, for the message.

    Raises:
        RunError: They are another module's; the message lists the first keys that do not fit.
    """
    own = module.state_dict()
    wrong = [f"missing {key}" for key in own if key not in weights]
    wrong += [f"unknown {key}" for key in weights if key not in own]
    wrong += [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RunError(f"{source} belongs to another {owner}: {'; '.join(wrong[:3])}{more}")
    module.load_state_dict(weights)
