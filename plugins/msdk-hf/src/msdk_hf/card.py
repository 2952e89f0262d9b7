"""Model cards: a README with metadata for the hub, and the budget of the run."""

import json
from pathlib import Path
from typing import Any

import msdk
from msdk.recipe import to_data
from msdk.report import comparison_grid, stages_grid
from msdk.runs import latest, run_recipe


def model_card(run: str | Path, *, name: str = "", licence: str = "", pipeline: str = "MsdkPipeline") -> str:
    """The Markdown of a model card: metadata, how to draw images, the budget tables, and what the run was made of.

    Args:
        run: A run folder with a checkpoint.
        name: Of the model; the folder's when not given.
        licence: For the metadata, as the hub spells it; left to the reader when not given.
        pipeline: "DDPMPipeline" or "MsdkPipeline": how it is loaded.

    Raises:
        RunError: It is no run folder, or has no checkpoint.
    """
    run = Path(run)
    recipe = run_recipe(run)
    budget = msdk.budget(recipe, name=name or run.name)
    state: dict[str, Any] = json.loads((latest(run) / "state.json").read_text(encoding="utf-8"))
    lock: dict[str, Any] = {}
    if (run / "lock.json").is_file():
        lock = json.loads((run / "lock.json").read_text(encoding="utf-8"))
    tags = ["msdk", "diffusion", "unconditional-image-generation"]
    stages = len(recipe.decoders)
    head = ["---", *([f"license: {licence}"] if licence else []), "library_name: diffusers", "tags:"]
    head += [f"- {tag}" for tag in tags] + ["---", ""]
    code = {
        "DDPMPipeline": "from diffusers import DDPMPipeline\n\nimages = DDPMPipeline.from_pretrained(FOLDER)().images",
        "MsdkPipeline": "from msdk_hf.pipeline import MsdkPipeline\n\nimages = MsdkPipeline(FOLDER)(4).images",
    }[pipeline]
    plugins = ", ".join(f"{owner} {version}" for owner, version in lock.get("plugins", {}).items())
    digest: str = lock.get("data", {}).get("sha256", "")[:16]
    facts = {
        "data": f"{to_data(recipe.data)['name']}, SHA-256 {digest or 'unknown'}",
        "image": "x".join(map(str, recipe.data.shape)),
        "stages": f"{stages}, edges in ratio {list(recipe.partition().edges)}" if stages > 1 else "1",
        "iterations": f"{state['iteration']:,}",
        "images seen, by stage": ", ".join(f"{count:,}" for count in state["images_by_stage"]),
        "sampler": f"{to_data(recipe.sampler)['name']}, {recipe.steps} steps",
        "made with": f"msdk {lock.get('msdk', msdk.__version__)}, torch {lock.get('torch', torch_version())}"
        + (f", {plugins}" if plugins else ""),
    }
    lines = [f"# {name or run.name}", "", recipe.title or "A diffusion model made with msdk.", ""]
    lines += ["```python", code.replace("FOLDER", '"."'), "```", ""]
    lines += [f"- **{key}**: {value}" for key, value in facts.items()]
    lines += ["", "## Budget", "", comparison_grid([budget]).markdown(), stages_grid(budget).markdown()]
    return "\n".join([*head, *lines])


def torch_version() -> str:
    """Of this process, for runs without a lock."""
    import torch

    return str(torch.__version__)
