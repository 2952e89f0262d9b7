"""Runs of msdk as diffusers pipelines, and back."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

import msdk
from msdk.errors import PartError, RunError
from msdk.recipe import Recipe, structure, to_data
from msdk.runs import (
    CODE,
    Checkpoint,
    Weights,
    latest,
    refuse_existing,
    run_recipe,
    save_checkpoint,
    start_run,
    weights_of,
)
from msdk_hf.card import model_card
from msdk_hf.unet import config_of, from_unet, name_of, recipe_parts, to_unet

MARK = "msdk_pipeline.json"
"""What a folder with a pipeline around msdk's own denoiser has."""


class MsdkPipeline:
    """A pipeline with the denoiser, sampler and recipe of a run: what no `UNet2DModel` can be.

    It is called as diffusers' unconditional pipelines are.

    Args:
        folder: What `export` wrote, or a run folder.
        device: Where to put it.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        self.folder = Path(folder)
        self.recipe = run_recipe(self.folder)
        self.denoiser = msdk.load_run(self.folder, device=device)  # which knows how the recipe samples

    def __call__(
        self,
        batch_size: int = 1,
        *,
        seeds: Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        class_labels: int | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        output_type: str = "pil",
    ) -> Any:
        """Draws images, as the recipe says where nothing else is said.

        Args:
            batch_size: How many, with seeds from the recipe's first one on where none are given.
            seeds: One for each image.
            num_inference_steps: Intervals of the sampler.
            class_labels: The class of all images or of each, -1 for none.
            guidance_scale: Weight of classifier-free guidance.
            output_type: "pil", or "np" for float arrays [batch, h, w, c] in [0, 1].

        Returns:
            diffusers' `ImagePipelineOutput`.
        """
        from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
        from PIL import Image

        first = self.recipe.sampling.seed
        images = msdk.sample(
            self.denoiser,
            steps=num_inference_steps,
            seeds=range(first, first + batch_size) if seeds is None else seeds,
            label=class_labels,
            guidance=guidance_scale,
        )
        arrays = ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "np":
            return ImagePipelineOutput(images=arrays)
        pixels = (arrays * 255).round().astype("uint8")
        return ImagePipelineOutput(
            images=[Image.fromarray(each.squeeze(-1) if each.shape[-1] == 1 else each) for each in pixels]
        )


def export(run: str | Path, out: str | Path, *, weights: Weights = "ema") -> str:
    """Writes a run as a diffusers pipeline: of a `UNet2DModel` where the network is one, else an `MsdkPipeline`.

    Args:
        run: A run folder.
        out: The new folder.
        weights: "ema" for the averaged weights, "raw" for the last ones.

    Returns:
        "DDPMPipeline", or "MsdkPipeline" with the reason behind a colon.

    Raises:
        RunError: `run` is none, or `out` exists.
    """
    run, out = Path(run), Path(out)
    recipe = run_recipe(run)
    if out.exists():
        raise RunError(f"{out} exists: choose another folder")
    try:
        _check_process(recipe)
        config = config_of(recipe)
    except PartError as error:
        _write_own(run, recipe, out, weights)
        kind = f"MsdkPipeline: {error}"
    else:
        _write_unet(run, recipe, config, out, weights)
        kind = "DDPMPipeline"
    (out / "README.md").write_text(model_card(run, name=out.name, pipeline=kind.partition(":")[0]), encoding="utf-8")
    return kind


def _check_process(recipe: Recipe) -> None:
    if (name_of(to_data(recipe.parameterization)), name_of(to_data(recipe.schedule))) != ("eps", "vp-linear"):
        raise PartError("a DDPM predicts eps under a linear VP schedule")
    if recipe.autoencoder is not None:
        raise PartError("a DDPMPipeline has no autoencoder")


def _write_unet(run: Path, recipe: Recipe, config: Mapping[str, Any], out: Path, weights: Weights) -> None:
    import diffusers

    library = cast("Any", diffusers)
    unet: Any = library.UNet2DModel(**config).eval()
    state = msdk.load_run(run, weights=weights).network.state_dict()
    unet.load_state_dict(to_unet(state, unet.state_dict()))
    schedule = to_data(recipe.schedule)
    scheduler = library.DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=schedule["beta_min"] / 1000,
        beta_end=schedule["beta_max"] / 1000,
        beta_schedule="linear",
        prediction_type="epsilon",
        clip_sample=True,
    )
    library.DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(out)


def _write_own(run: Path, recipe: Recipe, out: Path, weights: Weights) -> None:
    source = latest(run)
    folder = out / "checkpoints" / source.name
    folder.mkdir(parents=True)
    for name in ("recipe.toml", "lock.json", "autoencoder.safetensors"):
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)
    if recipe.use:
        shutil.copytree(run / CODE, out / CODE)
    shutil.copyfile(source / "state.json", folder / "state.json")
    save_file(load_file(weights_of(source, recipe, weights)), folder / "ema.safetensors")
    (out / MARK).write_text(json.dumps({"pipeline": "msdk_hf.pipeline.MsdkPipeline", "msdk": msdk.__version__}) + "\n")


def import_unet(folder: str | Path, out: str | Path, data: Mapping[str, Any]) -> Path:
    """A run folder from a diffusers pipeline, or `UNet2DModel`, that is a DDPM.

    Args:
        folder: Of a `DDPMPipeline` or `DDIMPipeline` (with `unet/`), or of the model itself; it is read from disk.
        out: The new run folder.
        data: The `[data]` of the recipe, for training that goes on.

    Returns:
        The run folder.

    Raises:
        RunError: `out` exists, or the folder has no safetensors weights.
        PartError: It is another architecture.
    """
    place, out = Path(folder), Path(out)
    refuse_existing(out, force=False)
    place = place / "unet" if (place / "unet").is_dir() else place
    file = place / "diffusion_pytorch_model.safetensors"
    if not (place / "config.json").is_file() or not file.is_file():
        raise RunError(f"{place} has no config.json with diffusion_pytorch_model.safetensors beside it")
    config: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    encoder, decoder, _ = recipe_parts(config)
    plain = {
        "title": f"Imported from {Path(folder).name}",
        "data": dict(data),
        "encoder": encoder,
        "decoders": [decoder],
        "sharing": "unified",
        "parameterization": {"name": "eps"},
        "sampler": {"name": "ddim", "grid": "uniform-t"},
    }
    recipe = structure(plain, str(folder))
    like = msdk.build(recipe, "meta").network.state_dict()
    found = from_unet(load_file(file), like)
    start_run(out, recipe)
    save_checkpoint(
        out,
        Checkpoint(iteration=0, images_by_stage=(0,), model=found, ema=found, optimizer={}, seconds=0.0),
        keep=1,
    )
    return out
