"""How far is the estimated peak of training (msdk.budgeting.memory) from the measured one?

Each recipe trains a few real steps on the CPU in a process of its own. The peak is the largest resident size (VmHWM of
/proc/self/status, reset before the network is built) less the resident size at that moment, after everything that loads
and warms up once has done so in steps of a thin network of the same kind. So it includes what the operators of the
libraries use inside, which the estimate cannot see.

It is measured twice: `measured` is what was in use, `measured_default_allocation` what the process held. Two things
make the difference. glibc's malloc keeps freed blocks of up to 32 MB for later use, unless a fixed size is set from
which on blocks go back to the system at once (MALLOC_MMAP_THRESHOLD_, here 64 KiB). And oneDNN keeps the kernels of the
last 1024 shapes with their scratch, of which batches of mixed stages see many (ONEDNN_PRIMITIVE_CACHE_CAPACITY, here
0). Prints one JSON line.

`python benchmarks/bench_memory.py --all`
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msdk.recipe import Recipe

ROOT = Path(__file__).parent.parent
DIGITS = ("sampling.steps=4", 'data={name="digits"}')
UNET = (
    'encoder={name="ddpmpp", channels=96, channel_mult=[1, 1], blocks=3, attention=[2], dropout=0.1}',
    'decoders=[{name="ddpmpp", channels=128}, {name="ddpmpp", channels=96}, {name="ddpmpp", channels=64}]',
    "stages.edges_ratio=[0.3, 2.5]",
    "training.batch_size=256",
)
DIT = (
    'encoder={name="dit", width=384, heads=6, patch=1, depth=3, classes=10}',
    'decoders=[{name="dit", width=384, heads=6, depth=3}, {name="dit", width=256, heads=4, depth=2}]',
    "stages.edges_ratio=[0.8]",
    "training.batch_size=64",
)
UVIT = (
    'encoder={name="uvit", width=256, heads=4, patch=1, depth=6}',
    'decoders=[{name="uvit", width=256, heads=4}, {name="uvit", width=192, heads=3}]',
    "stages.edges_ratio=[0.8]",
    "training.batch_size=96",
    "sharing=separate",
    "training.mixed=false",
)
RECIPES = {
    "unet": UNET,
    "unet-recompute": (*UNET, "training.recompute=true"),
    "unet-accumulation": (*UNET, "training.accumulation=4"),
    "dit": DIT,
    "dit-bf16": (*DIT, "training.precision=bf16"),
    "uvit-separate": UVIT,
}
"""Settings of networks of different kinds on the digits that take a few hundred MB."""

STEPS = 5

FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "65536", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}
"""Environment in which a process holds what it uses."""


def recipe_of(name: str) -> "Recipe":
    import msdk

    return msdk.load_recipe(ROOT / "recipes" / "digits" / "base.toml", [*DIGITS, *RECIPES[name]])


def status(key: str) -> int:
    """A size of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def measured(name: str) -> int:
    """The measured peak of real training steps; to be called in a fresh process."""
    import attrs
    import torch

    from msdk.recipe import Recipe
    from msdk.training.loop import Trainer

    def trained(recipe: Recipe, steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
            trainer = Trainer(recipe, Path(folder), recipe.data.open(), [], "cpu")
            for _ in range(steps):
                trainer.advance()

    def thin(spec: Any) -> dict[str, int]:
        """Changes that make a network of the same kind tiny."""
        return {"channels": 16} if hasattr(spec, "channels") else {"width": 8 * spec.heads}

    recipe = recipe_of(name)
    torch.manual_seed(0)
    options = recipe.training
    small = attrs.evolve(
        recipe,
        training=attrs.evolve(options, batch_size=2 * options.accumulation),
        encoder=attrs.evolve(recipe.encoder, **thin(recipe.encoder)),
        decoders=tuple(attrs.evolve(decoder, **thin(decoder)) for decoder in recipe.decoders),
    )
    trained(small, 2)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    trained(recipe, STEPS)
    return status("VmHWM") - before


def peak(name: str, settings: dict[str, str]) -> int:
    """The measured peak in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **settings},
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["unet-recompute"], help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--runs", type=int, default=1, help="processes of each kind; the median counts")
    parser.add_argument("--in-use", action="store_true", help="only what was in use, not what the process held")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measured(asked.measure)))
        return
    import torch

    from msdk.budgeting.memory import memory

    results: dict[str, dict[str, float]] = {}
    for name in RECIPES if asked.all else asked.recipes:
        in_use = statistics.median(peak(name, FRUGAL) for _ in range(asked.runs))
        estimate = memory(recipe_of(name)).peak
        results[name] = {
            "estimated": estimate,
            "measured": in_use,
            "relative_difference": round(estimate / in_use - 1, 4),
        }
        if not asked.in_use:
            held = statistics.median(peak(name, {}) for _ in range(asked.runs))
            results[name]["measured_default_allocation"] = held
        print(f"{name:20} {estimate / 1e6:8.0f} MB, measured {in_use / 1e6:8.0f} MB", file=sys.stderr)
    line = {
        "benchmark": "memory",
        "runs": asked.runs,
        "steps": STEPS,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "results": results,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
