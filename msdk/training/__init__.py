"""Training a recipe: one loss, one loop, averaged weights."""

from msdk.training.loop import Step as Step
from msdk.training.loop import TrainingResult as TrainingResult
from msdk.training.loop import train as train
