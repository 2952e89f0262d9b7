"""How good a run's images are: drawn, looked at, scored, and told with the protocol that made the number."""

from msdk.evaluation.evaluating import evaluate as evaluate
from msdk.evaluation.evaluating import evaluate_here as evaluate_here
from msdk.evaluation.evaluating import judging as judging
from msdk.evaluation.references import reference as reference
from msdk.evaluation.scores import Score as Score
from msdk.evaluation.scores import Scores as Scores
from msdk.evaluation.scores import read_scores as read_scores
from msdk.evaluation.scores import scores_of as scores_of
from msdk.evaluation.task import task_of as task_of
