"""A step that begins where a trained run is: what `init` names, beside the weights themselves."""

from msdk.runs.checkpoint import Checkpoint
from msdk.runs.starting import Start
from msdk.training.state import NETWORK, check_optimizer, restore_optimizer
from msdk.training.step import TrainingStep


def put_start(step: TrainingStep, start: Start) -> None:
    """Gives a step the averages and the state of the optimiser; its network has the weights already.

    Raises:
        RunError: The state of the optimiser does not fit its own.
    """
    averages = {f"{NETWORK}{name}": value for name, value in start.ema.items()}
    for ema in step.emas:
        ema.load(averages)
    if start.optimizer or start.optimizer_numbers:
        kept = Checkpoint(0, (), {}, {}, start.optimizer, 0.0, start.optimizer_numbers)
        check_optimizer(step, kept, start.folder)
        restore_optimizer(step, kept)
