"""How good a run's images are: drawn, looked at, scored, and told with the protocol that made the number.

Names load on first use, so that scores are read and compared (`msdk.evaluation.scores`) without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msdk.evaluation.asked import Asked as Asked
    from msdk.evaluation.evaluating import evaluate as evaluate
    from msdk.evaluation.evaluating import evaluate_asked as evaluate_asked
    from msdk.evaluation.evaluating import evaluate_here as evaluate_here
    from msdk.evaluation.evaluating import judging as judging
    from msdk.evaluation.over_training import Curve as Curve
    from msdk.evaluation.over_training import curves as curves
    from msdk.evaluation.references import reference as reference
    from msdk.evaluation.scores import Score as Score
    from msdk.evaluation.scores import Scores as Scores
    from msdk.evaluation.scores import read_scores as read_scores
    from msdk.evaluation.scores import scores_of as scores_of
    from msdk.evaluation.swapping import swap as swap
    from msdk.evaluation.task import sampled_as as sampled_as
    from msdk.evaluation.task import task_of as task_of

_HOMES = {
    "Asked": "msdk.evaluation.asked",
    **dict.fromkeys(("Curve", "curves"), "msdk.evaluation.over_training"),
    **dict.fromkeys(("evaluate", "evaluate_asked", "evaluate_here", "judging"), "msdk.evaluation.evaluating"),
    "reference": "msdk.evaluation.references",
    **dict.fromkeys(("Score", "Scores", "read_scores", "scores_of"), "msdk.evaluation.scores"),
    "swap": "msdk.evaluation.swapping",
    **dict.fromkeys(("sampled_as", "task_of"), "msdk.evaluation.task"),
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'msdk.evaluation' has no attribute '{name}'")
