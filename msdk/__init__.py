"""Multi-stage diffusion models: shared encoders, one decoder per noise range, budgets counted per stage.

Public names load on first use, so `import msdk` imports neither torch nor any part. It does tell OpenMP how the threads
of torch wait, unless torch is there already or the user has told it, and oneDNN how many kernels it keeps: see
`msdk.threads`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from msdk.retired import RetiredPaths
from msdk.threads import keep_kernels, wait_asleep

__version__ = "0.1.0"

if TYPE_CHECKING:
    from msdk import autoencoders as autoencoders
    from msdk import averages as averages
    from msdk import clusterings as clusterings
    from msdk import combinations as combinations
    from msdk import datasets as datasets
    from msdk import decoders as decoders
    from msdk import encoders as encoders
    from msdk import extractors as extractors
    from msdk import lr_schedules as lr_schedules
    from msdk import metrics as metrics
    from msdk import noise_levels as noise_levels
    from msdk import objectives as objectives
    from msdk import optimizers as optimizers
    from msdk import parameterizations as parameterizations
    from msdk import samplers as samplers
    from msdk import schedules as schedules
    from msdk import trackers as trackers
    from msdk import weightings as weightings
    from msdk import wrappers as wrappers
    from msdk.advising import Advice as Advice
    from msdk.advising import advise as advise
    from msdk.batch import Batch as Batch
    from msdk.batch import Condition as Condition
    from msdk.budgeting import Budget as Budget
    from msdk.budgeting import budget as budget
    from msdk.clustering import cluster as cluster
    from msdk.denoiser import Denoiser as Denoiser
    from msdk.errors import DataError as DataError
    from msdk.errors import DuplicateNameError as DuplicateNameError
    from msdk.errors import ElsewhereError as ElsewhereError
    from msdk.errors import FullError as FullError
    from msdk.errors import GoneError as GoneError
    from msdk.errors import MsdkError as MsdkError
    from msdk.errors import PartError as PartError
    from msdk.errors import PartFaultError as PartFaultError
    from msdk.errors import PlotError as PlotError
    from msdk.errors import PluginError as PluginError
    from msdk.errors import PluginFaultError as PluginFaultError
    from msdk.errors import RecipeError as RecipeError
    from msdk.errors import RunError as RunError
    from msdk.errors import RunFaultError as RunFaultError
    from msdk.errors import TargetError as TargetError
    from msdk.errors import UnknownNameError as UnknownNameError
    from msdk.evaluation import evaluate as evaluate
    from msdk.partition import Partition as Partition
    from msdk.partition import Stage as Stage
    from msdk.pretrained import load_pretrained as load_pretrained
    from msdk.recipe import Recipe as Recipe
    from msdk.recipe import load_recipe as load_recipe
    from msdk.registry.local_code import allow_code as allow_code
    from msdk.running.everything import run as run
    from msdk.running.readying import build as build
    from msdk.running.readying import train as train
    from msdk.runs import load_run as load_run
    from msdk.sampling import sample as sample
    from msdk.studies import study as study

_HOMES = {
    "Advice": "msdk.advising",
    "Batch": "msdk.batch",
    "Budget": "msdk.budgeting",
    "Condition": "msdk.batch",
    "DataError": "msdk.errors",
    "Denoiser": "msdk.denoiser",
    "DuplicateNameError": "msdk.errors",
    "ElsewhereError": "msdk.errors",
    "FullError": "msdk.errors",
    "GoneError": "msdk.errors",
    "MsdkError": "msdk.errors",
    "PartError": "msdk.errors",
    "PartFaultError": "msdk.errors",
    "Partition": "msdk.partition",
    "PlotError": "msdk.errors",
    "PluginError": "msdk.errors",
    "PluginFaultError": "msdk.errors",
    "Recipe": "msdk.recipe",
    "RecipeError": "msdk.errors",
    "RunError": "msdk.errors",
    "RunFaultError": "msdk.errors",
    "Stage": "msdk.partition",
    "TargetError": "msdk.errors",
    "UnknownNameError": "msdk.errors",
    "advise": "msdk.advising",
    "allow_code": "msdk.registry.local_code",
    "budget": "msdk.budgeting",
    "build": "msdk.running.readying",
    "cluster": "msdk.clustering",
    "evaluate": "msdk.evaluation",
    "load_pretrained": "msdk.pretrained",
    "load_recipe": "msdk.recipe",
    "load_run": "msdk.runs",
    "run": "msdk.running.everything",
    "sample": "msdk.sampling",
    "study": "msdk.studies",
    "train": "msdk.running.readying",
}


__all__ = [
    "Advice",
    "Batch",
    "Budget",
    "Condition",
    "DataError",
    "Denoiser",
    "DuplicateNameError",
    "ElsewhereError",
    "FullError",
    "GoneError",
    "MsdkError",
    "PartError",
    "PartFaultError",
    "Partition",
    "PlotError",
    "PluginError",
    "PluginFaultError",
    "Recipe",
    "RecipeError",
    "RunError",
    "RunFaultError",
    "Stage",
    "TargetError",
    "UnknownNameError",
    "__version__",
    "advise",
    "allow_code",
    "autoencoders",
    "averages",
    "budget",
    "build",
    "cluster",
    "clusterings",
    "combinations",
    "datasets",
    "decoders",
    "encoders",
    "evaluate",
    "extractors",
    "load_pretrained",
    "load_recipe",
    "load_run",
    "lr_schedules",
    "metrics",
    "noise_levels",
    "objectives",
    "optimizers",
    "parameterizations",
    "run",
    "sample",
    "samplers",
    "schedules",
    "study",
    "trackers",
    "train",
    "weightings",
    "wrappers",
]

wait_asleep()
keep_kernels()


sys.meta_path.append(RetiredPaths())


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    package = None if name.startswith("_") else _package_of(name)
    if package is None:
        raise AttributeError(f"module 'msdk' has no attribute '{name}'")
    return package


def _package_of(kind: str) -> ModuleType | None:
    from msdk.registry.lookup import package_of

    return package_of(kind)


def __dir__() -> list[str]:
    return __all__
