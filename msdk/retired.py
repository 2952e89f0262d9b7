"""Import paths of before that plugins may still use: they go on working for two minor releases, and warn.

One table for all of them. A name goes from here, with its test, once the release in its row is out.
"""

import importlib
import importlib.abc
import importlib.machinery
import warnings
from collections.abc import Sequence
from types import ModuleType

RETIRED = {
    "msdk.building": "msdk.denoiser.building",
    "msdk.checkpoint": "msdk.runs",
    "msdk.cli_budget": "msdk.cli.budgets",
    "msdk.cli_plugin": "msdk.cli.plugins",
    "msdk.comparing": "msdk.recipe.differences",
    "msdk.describing": "msdk.registry.describing",
    "msdk.discovery": "msdk.registry.discovery",
    "msdk.display": "msdk.cli.display",
    "msdk.drawing": "msdk.sampling.drawing",
    "msdk.gradients": "msdk.clustering.gradients",
    "msdk.guidance": "msdk.samplers.guidance",
    "msdk.local_code": "msdk.registry.local_code",
    "msdk.merging": "msdk.recipe.merging",
    "msdk.noise": "msdk.sampling.noise",
    "msdk.offloading": "msdk.denoiser.offloading",
    "msdk.options": "msdk.cli.options",
    "msdk.plugins": "msdk.authoring",
    "msdk.plugins.doctor": "msdk.authoring.doctor",
    "msdk.plugins.scaffolding": "msdk.authoring.scaffolding",
    "msdk.points": "msdk.clustering.points",
    "msdk.quantities": "msdk.recipe.quantities",
    "msdk.ranks": "msdk.distributed",
    "msdk.schema": "msdk.recipe.schema",
    "msdk.structuring": "msdk.recipe.structuring",
    "msdk.tracing": "msdk.samplers.tracing",
    "msdk.weights": "msdk.denoiser.weights",
    "msdk.writing": "msdk.runs.files",
}
"""Path of before -> where its names are now. All of them left in 0.2 and go in 0.4."""


class RetiredPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a retired module last of all, as an empty one that passes every name on to its successor."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if fullname in RETIRED else None

    def exec_module(self, module: ModuleType) -> None:
        successor = RETIRED[module.__name__]
        warnings.warn(
            f"{module.__name__} is now {successor}; the old path goes in msdk 0.4", DeprecationWarning, stacklevel=2
        )
        found = importlib.import_module(successor)

        def passed_on(name: str) -> object:
            if name.startswith("__"):  # of the machinery: this is no second copy of the successor
                raise AttributeError(name)
            return getattr(found, name)

        module.__getattr__ = passed_on  # pyright: ignore[reportAttributeAccessIssue]  PEP 562
