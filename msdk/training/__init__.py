"""Training a recipe: one loss, one loop, averaged weights."""

from msdk.training.beginning import train as train
from msdk.training.loop import Step as Step
from msdk.training.loop import TrainingResult as TrainingResult
