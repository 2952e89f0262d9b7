"""The verbs one after another: a run made ready, trained, sampled, judged and reported."""

from msdk.running.everything import Watcher as Watcher
from msdk.running.readying import Ready as Ready
from msdk.running.readying import readied as readied
