"""What does multistage spend until it is as good as unified, on one GPU and in a few minutes? The claim in small.

DPM-Solver's unified network on CIFAR-10 and the paper's multistage one are trained for 1/100 of the unified one's
450,000 iterations, or until half of the seconds are over; the ratio is of real training FLOPs at the least held-out
loss that both have reached. One seed, so there is no interval, and a ratio near 1 says nothing. Without `--data` it is
the digits. Prints one line of JSON.

`python benchmarks/gpu_pair.py --data cifar10-train.zip --seconds 360 --device cuda`
"""

import argparse
import json
import math
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msdk.budgeting import budget
from msdk.runs.folder import run_recipe
from msdk.studies.crossing import first_at
from msdk.studies.quality import held_out_losses

RECIPES = {
    "cifar10": {"unified": "recipes/cifar10/dpm-unified.toml", "multistage": "recipes/cifar10/dpm-multistage.toml"},
    "digits": {"unified": "recipes/digits/unified.toml", "multistage": "recipes/digits/multistage.toml"},
}


def trained(recipe: str, changes: list[str], seconds: float, device: str, folder: Path) -> dict[str, Any]:
    """The looks of a run that is interrupted when its time is over, as Ctrl-C does, and what it had spent at each."""
    sets = [word for each in changes for word in ("--set", each)]
    words = [sys.executable, "-m", "msdk", "train", recipe, *sets, "--device", device, "--out", str(folder)]
    log = folder.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
    looks = held_out_losses(folder)
    if process.returncode not in (0, 128 + signal.SIGINT) or not looks:
        raise SystemExit(f"{recipe} was not trained:\n{log.read_text()[-2000:]}")
    costs = [each.forward + each.backward + each.recompute for each in budget(run_recipe(folder)).image_flops]
    spent = [math.fsum(n * cost for n, cost in zip(look.images_by_stage, costs, strict=True)) for look in looks]
    return {"iterations": looks[-1].iteration, "spent": spent, "losses": [look.value for look in looks]}


def ratio(unified: dict[str, Any], multistage: dict[str, Any]) -> dict[str, float]:
    """The least loss that both have reached, and what each spends until then."""
    curves = [np.minimum.accumulate(each["losses"])[None] for each in (unified, multistage)]
    wanted = np.array([max(curve[0, -1] for curve in curves)])
    theirs, ours = (
        float(first_at(np.array(each["spent"]), curve, wanted)[0])
        for each, curve in zip((unified, multistage), curves, strict=True)
    )
    return {"loss": float(wanted[0]), "unified": theirs, "multistage": ours, "ratio": ours / theirs}


def main() -> None:
    """Trains both, one after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="CIFAR-10, as `msdk data prepare` makes it")
    options.add_argument("--seconds", type=float, default=360.0, help="of both together")
    options.add_argument("--iterations", type=int, default=4500)
    options.add_argument("--looks", type=int, default=100, help="iterations between looks at the held-out loss")
    options.add_argument("--device", default="cuda")
    asked = options.parse_args()
    changes = [
        f"training.iterations={asked.iterations}",
        "training.warmup=100",
        f"training.validate_every={asked.looks}",
        "training.validate_images=500",
        "training.ema_decay=0.995",
        "data.held_out=0.02",
    ]
    if asked.data is not None:
        changes += [f"data.path={json.dumps(str(asked.data.resolve()))}", "training.precision=bf16"]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: trained(recipe, changes, asked.seconds / 2, asked.device, Path(folder) / name)
            for name, recipe in RECIPES["digits" if asked.data is None else "cifar10"].items()
        }
    about = {"device": asked.device, "python": platform.python_version(), "torch": torch.__version__}
    if asked.device.startswith("cuda"):
        about["card"] = torch.cuda.get_device_name()
    print(json.dumps({**about, "results": {**found, "equal": ratio(found["unified"], found["multistage"])}}))


if __name__ == "__main__":
    main()
