"""The command line. Each command is a thin line to one verb; torch is imported only by those that compute."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from msdk import __version__, display
from msdk.cli_budget import budgets
from msdk.cli_plugin import plugins
from msdk.errors import MsdkError, RunError, UnknownNameError
from msdk.options import (
    AsJson,
    Device,
    Force,
    Resume,
    RunFolder,
    Set,
    default_run_dir,
    free_path,
    load,
    seeds_of,
    with_edges,
)

if TYPE_CHECKING:
    from msdk.training import TrainingResult

app = App(
    name="msdk",
    help="Multi-stage diffusion models: recipes, budgets, clustering, training, sampling.",
    version=__version__,
    help_format="rich",
    result_action="return_value",
)
recipes = App(name="recipe", help="Check, show and compare recipe files.")
app.command(recipes)
app.command(budgets)
app.command(plugins)
pretrained = App(name="pretrained", help="Use checkpoints that others have published.")
app.command(pretrained)


@app.command(name="list")
def list_parts(kind: str | None = None, /, *, as_json: AsJson = False) -> None:
    """List the parts that recipes can name.

    Examples: msdk list / msdk list encoders / msdk list samplers --json

    Parameters
    ----------
    kind
        One kind of part, in singular or plural; all kinds when not given.
    """
    from msdk.discovery import installed_parts
    from msdk.registry import KINDS, registry_of

    kinds = [registry_of(kind).kind] if kind else list(KINDS)
    found = [
        {"kind": name, "name": part, "owner": origin.owner, "version": origin.version, "target": origin.target}
        for name in kinds
        for part in registry_of(name).names()
        for origin in (registry_of(name).origin(part),)
    ]
    broken = installed_parts()[1]
    for plugin in broken:
        display.warn(f"the plugin {plugin.owner} is left out: {plugin.reason}")
    if as_json:
        display.print_json(found)
        return
    from msdk.report import Grid

    rows = tuple((part["kind"], part["name"], f"{part['owner']} {part['version']}") for part in found)
    display.show(Grid("Parts", ("kind", "name", "owner"), rows, numbers=3).rich())


@app.command
def show(kind: str, name: str | None = None, /, *, as_json: AsJson = False) -> None:
    """Show one part: what it does, where it comes from, and its fields with their defaults; or a kind, as Markdown.

    Examples: msdk show encoder ddpmpp / msdk show sampler heun --json / msdk show clusterings > clusterings.md

    Parameters
    ----------
    kind
        encoder, decoder, schedule, sampler, ...
    name
        A name that `msdk list` prints; without it, what every part of the kind must have, and msdk's own.
    """
    from msdk.describing import describe, kind_page

    if name is None:
        if as_json:
            raise MsdkError(f"--json shows one part: name it, msdk show {kind} NAME --json")
        sys.stdout.write(kind_page(kind))
        return
    part = describe(kind, name)
    if as_json:
        display.print_json(part.as_json())
    else:
        display.show_part(part)


@recipes.command(name="check")
def check_recipe(recipe: Path, /, *, overrides: Set = None) -> None:
    """Check recipe files; all mistakes are told at once. Imports no torch.

    Examples: msdk recipe check recipes/digits/multistage.toml

    Parameters
    ----------
    recipe
        A TOML file.
    """
    loaded = load(recipe, overrides)
    stages = "edges by " + (loaded.stages.ways() or ["one stage"])[0]
    display.stdout().print(f"{recipe} is a good recipe: {len(loaded.decoders)} decoder(s), {stages}", highlight=False)


@recipes.command(name="show")
def show_recipe(recipe: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Print a recipe with everything it extends and every default written out.

    Examples: msdk recipe show recipes/digits/multistage.toml --set training.lr=1e-3

    Parameters
    ----------
    recipe
        A TOML file.
    """
    from msdk.recipe import to_toml
    from msdk.structuring import to_data

    loaded = load(recipe, overrides)
    if as_json:
        display.print_json(to_data(loaded))
        return
    sys.stdout.write(to_toml(loaded))
    if loaded.stages.from_ is not None:
        from msdk.report import clusters_lines

        found = json.loads(loaded.stages.from_.read_text(encoding="utf-8"))
        sys.stdout.write("\n" + "".join(f"# {line}\n" for line in clusters_lines(found, str(loaded.stages.from_))))


@recipes.command(name="schema")
def show_schema() -> None:
    """Print a JSON Schema of recipe files, with the parts of installed plugins, for editors. Imports no torch itself.

    Examples: msdk recipe schema > msdk.schema.json (then put this on top of a recipe: #:schema ./msdk.schema.json)
    """
    from msdk.schema import recipe_schema

    found, broken = recipe_schema()
    for reason in broken:
        display.warn(f"left out: {reason}")
    display.print_json(found)


@recipes.command(name="diff")
def diff_recipes(a: Path, b: Path, /, *, overrides: Set = None, as_json: AsJson = False) -> None:
    """Compare two recipes key by key, with all that they extend and every default; only what differs is shown.

    Exits 0 also when they differ. `msdk budget A B` says what it does to parameters and costs. Imports no torch.

    Examples: msdk recipe diff recipes/cifar10/dpm-unified.toml recipes/cifar10/dpm-multistage.toml

    Parameters
    ----------
    a
        A TOML file.
    b
        Another; overrides apply to both.
    """
    from msdk.comparing import compare

    found = [one.as_json() for one in compare(load(a, overrides), load(b, overrides))]
    if as_json:
        display.print_json(found)
        return
    from msdk.report import diff_grid

    display.show(diff_grid(str(a), str(b), found).rich())


@app.command
def cluster(
    recipe: Path,
    /,
    *,
    strategy: Annotated[
        str | None, Parameter(help="A strategy with default settings; the recipe's own by default.")
    ] = None,
    compare: Annotated[bool, Parameter(negative="", help="Run every strategy and print them side by side.")] = False,
    seed: int = 0,
    run: Annotated[
        Path | None, Parameter(help="Run folder of a network for all times, which `gradient` looks at.")
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="The artefact, with a plot beside it; NAME.clustering.json in this folder by default."),
    ] = None,
    write: Annotated[bool, Parameter(negative="", help="Write the edges into the recipe file as well.")] = False,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Find stage edges, and keep them as a file that `stages = { from = ... }` can name.

    With torchrun, processes share the data: torchrun --nproc-per-node 2 -m msdk cluster R

    Examples: msdk cluster recipes/digits/multistage.toml / msdk cluster R --compare --json

    Parameters
    ----------
    recipe
        A TOML file.
    seed
        Seed of everything drawn.
    """
    loaded = load(recipe, overrides)
    artefact = out or (None if compare else Path(f"{recipe.stem}.clustering.json"))
    if write and compare:
        raise MsdkError("--write needs one strategy, but --compare runs them all: leave one of the two out")
    if strategy and compare:
        raise MsdkError("--strategy names one, but --compare runs them all: leave one of the two out")
    from msdk.clustering import cluster as find
    from msdk.clustering import refuse_artefact, write_clusters, write_edges
    from msdk.ranks import this_rank

    first = this_rank().first
    if artefact is not None and first:
        refuse_artefact(artefact, force=force)
    with display.bar(quiet=not first) as report:
        clusters = find(loaded, strategy=strategy, compare=compare, seed=seed, run=run, device=device, progress=report)
    if not first:
        return
    for name, warning in clusters.warnings():
        display.warn(f"{name}: {warning}")
    plot = write_clusters(artefact, clusters, force=force) if artefact is not None else None
    if write:
        write_edges(recipe, clusters)
    if as_json:
        display.print_json(clusters.as_json())
        return
    display.show_clusters(clusters)
    if artefact is not None:
        pointer = "" if compare else f'; a recipe points to it by: stages = {{ from = "{artefact}" }}'
        display.stdout().print(f"wrote {artefact}{pointer}", highlight=False, soft_wrap=True)
        missing = 'no plot beside it, as matplotlib is not installed: pip install "msdk[plot]"'
        display.stdout().print(f"wrote {plot}" if plot else missing, highlight=False, markup=False)
    if write:
        display.stdout().print(f"wrote the edges into {recipe}", highlight=False)


@app.command
def train(
    recipe: Path,
    /,
    *,
    out: RunFolder = None,
    resume: Resume = False,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
) -> int:
    """Train a recipe in a run folder. Ctrl-C saves a checkpoint and exits; --resume goes on.

    Examples: msdk train recipes/digits/multistage.toml --out runs/first --set training.iterations=500

    Parameters
    ----------
    recipe
        A TOML file.
    """
    loaded = load(recipe, overrides)
    place = out or default_run_dir(recipe)
    from msdk.checkpoint import refuse_existing, run_recipe
    from msdk.training import train as run_training

    if resume:
        found = run_recipe(place)
        loaded = loaded.with_partition(found.partition()) if loaded.clustered else loaded
    else:
        refuse_existing(place, force=force)
    ready, clusters = with_edges(loaded)
    with display.training_display() as watch:
        result = run_training(ready, place, device=device, resume=resume, force=force, progress=watch)
    if clusters is not None:
        from msdk.clustering import write_clusters

        write_clusters(place / "clustering.json", clusters, force=True)
    if result.interrupted:
        return _interrupted(result)
    display.stdout().print(f"trained {result.last.iteration:,} iterations; run folder {place}", highlight=False)
    return 0


@app.command
def sample(
    run: Path,
    /,
    *,
    seeds: Annotated[str | None, Parameter(help="0-63 or 1,5,9; one image each. The recipe's by default.")] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="A folder for grid.png and one PNG per seed, or a .zip, .npz or .safetensors; RUN/samples, then "
            "RUN/samples-2, ... by default."
        ),
    ] = None,
    sampler: Annotated[
        str | None, Parameter(help="Another sampler, with its default settings; `msdk list samplers` has them.")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Intervals of the time grid. The recipe's by default.")] = None,
    label: Annotated[
        int | None, Parameter(help="The class of every image, -1 for none. By default seed modulo the classes.")
    ] = None,
    guidance: Annotated[
        float | None, Parameter(help="Weight of classifier-free guidance. The recipe's by default.")
    ] = None,
    explain: Annotated[
        bool, Parameter(negative="", help="Print each network call with its stage, and draw nothing.")
    ] = False,
    offload: Annotated[
        bool, Parameter(negative="", help="Hold only the decoder in use: less memory, more time.")
    ] = False,
    inpaint: Annotated[
        tuple[Path, Path] | None,
        Parameter(help="IMAGE MASK, pictures of the model's size: where the mask is white, every image is IMAGE."),
    ] = None,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Draw images from a trained run. What a killed process has drawn is kept: the same command goes on.

    Examples: msdk sample runs/digits-multistage --seeds 0-15 --out more --sampler heun --steps 18
    / msdk sample runs/digits-conditional --label 3 --guidance 2
    / msdk sample runs/digits-multistage --inpaint half.png mask.png
    / torchrun --nproc-per-node 2 -m msdk sample runs/mine --seeds 0-49999 --out images.zip

    Parameters
    ----------
    run
        A run folder that `msdk train` or `msdk run` made.
    """
    numbers = None if seeds is None else seeds_of(seeds)
    if not (run / "recipe.toml").is_file():
        raise RunError(f"{run} is not a run folder: it has no recipe.toml. `msdk train` makes one.")
    wanted = {
        "sampler.name": sampler,
        "sampling.steps": steps,
        "sampling.label": label,
        "sampling.guidance": None if guidance is None else float(guidance),
    }
    options = [f"{key}={value}" for key, value in wanted.items() if value is not None]
    recipe = load(run / "recipe.toml", [*(overrides or ()), *options])
    from msdk.checkpoint import refuse_other_recipe

    refuse_other_recipe(run, recipe)  # an override of the networks would change nothing
    place = out or (run / "samples" if force else free_path(run / "samples"))
    if not explain and place.exists() and not force:
        raise RunError(f"{place} exists: replace it with --force, or choose another --out")
    if explain:
        from msdk.drawing import trace

        display.show_calls(trace(run, recipe), as_json=as_json)
        return
    from msdk.drawing import write_samples
    from msdk.ranks import this_rank
    from msdk.wrappers.inpaint import read_known

    known = None if inpaint is None else read_known(*inpaint, recipe.data.shape)
    rank = this_rank()
    with display.bar() if rank.first else contextlib.nullcontext(lambda *_: None) as report:
        folder = write_samples(
            run,
            recipe,
            seeds=numbers,
            out=place,
            device=device,
            offload=offload,
            known=known,
            progress=lambda done, total: report("sampling", done, total),
        )
    if not rank.first:
        return
    count = len(numbers) if numbers is not None else recipe.sampling.images
    if as_json:
        display.print_json({"folder": str(folder), "grid": str(folder / "grid.png"), "images": count})
    else:
        look = f"look at {folder / 'grid.png'}" if folder.is_dir() else f"they are in {folder}"
        display.stdout().print(f"drew {count} images; {look}", highlight=False)


@app.command(name="run")
def run_all(
    recipe: Path,
    /,
    *,
    out: RunFolder = None,
    resume: Resume = False,
    force: Force = False,
    device: Device = None,
    overrides: Set = None,
) -> int:
    """Do everything: cluster if needed, budget, train, sample, report.

    Examples: msdk run recipes/digits/multistage.toml

    Parameters
    ----------
    recipe
        A TOML file.
    """
    loaded = load(recipe, overrides)
    place = out or default_run_dir(recipe)
    from msdk.budgeting import Budget
    from msdk.report import comparison_grid, stages_grid
    from msdk.running import Watcher
    from msdk.running import run as run_recipe

    def budgeted(budgets: "list[Budget]") -> None:
        found = [one.as_json() for one in budgets]
        for grid in (comparison_grid(found), stages_grid(found[-1])):
            display.show(grid.rich())

    with display.bar() as report, display.training_display() as watch:
        watcher = Watcher(
            clustering=report,
            clustered=display.show_clusters,
            budgeted=lambda budgets: budgeted(list(budgets)),
            trained=watch,
            sampled=lambda done, total: report("sampling", done, total),
        )
        result = run_recipe(loaded, place, name=recipe.stem, device=device, resume=resume, force=force, watcher=watcher)
    if result.interrupted:
        return _interrupted(result)
    display.stdout().print(
        f"done: look at {place / 'samples' / 'grid.png'} and {place / 'report.html'}", highlight=False
    )
    return 0


@pretrained.command(name="convert")
def convert_checkpoint(
    file: Path,
    /,
    *,
    family: Annotated[str, Parameter(help="edm, vp, ve, iddpm, score_sde, ldm, multistage-edm, ...")],
    out: Annotated[Path, Parameter(help="The run folder to make.")],
    config: Annotated[
        str | None,
        Parameter(help="The original's constructor settings: a JSON file, or a name of `msdk pretrained list`."),
    ] = None,
    weights: Annotated[str, Parameter(help="raw, or ema for the averages that score_sde and LDM save too.")] = "raw",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a run folder of a published checkpoint: .safetensors, or a torch file of tensors alone.

    Without --config, the published configuration whose names and shapes are the file's. No code of the file is run.

    Examples: msdk pretrained convert checkpoint_26.pth --family score_sde --weights ema --out runs/ncsnpp

    Parameters
    ----------
    file
        The checkpoint.
    """
    from msdk.checkpoint import refuse_existing
    from msdk.errors import unknown

    if weights not in ("raw", "ema"):
        raise UnknownNameError(unknown("kind of weights", weights, ("raw", "ema")))
    refuse_existing(out, force=force)
    from msdk.pretrained.converting import convert, read_config

    settings = read_config(Path(config)) if config is not None and config.endswith(".json") else config
    with display.spinner(f"converting {file}"):
        made = convert(file, family, out, config=settings, weights=weights, force=force)
    if as_json:
        display.print_json(made.as_json())
    else:
        display.show_converted(made)


@pretrained.command(name="list")
def list_published(*, as_json: AsJson = False) -> None:
    """List the published configurations that `convert` knows by name.

    Examples: msdk pretrained list
    """
    from msdk.pretrained.published import PUBLISHED
    from msdk.report import Grid

    if as_json:
        display.print_json(PUBLISHED)
        return
    rows = tuple((family, name) for family, configs in PUBLISHED.items() for name in configs)
    display.show(Grid("Published configurations", ("family", "name"), rows, numbers=2).rich())


@app.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    allow_code: Annotated[
        bool, Parameter(negative="", help="Run the Python files that a recipe's `use` names: only if you trust them.")
    ] = False,
) -> object:
    """Every command takes this option."""
    if allow_code:
        from msdk.local_code import allow_code as allow

        allow()
    return app(words, exit_on_error=False, print_error=False)


def main() -> NoReturn:
    """Runs the command line: exit code 0 done, 2 wrong input, 130 interrupted."""
    try:
        result = app.meta(sys.argv[1:], exit_on_error=False, print_error=False)
        code = result if isinstance(result, int) else 0
    except BrokenPipeError:
        code = 0  # the reader of a pipe has seen enough
        sys.stderr.close()
    except CycloptsError as error:
        display.stderr().print(f"[bold red]msdk:[/bold red] {_plain(error)}", highlight=False)
        code = 2
    except MsdkError as error:
        from rich.markup import escape

        display.stderr().print(f"[bold red]msdk:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        code = 2
    except OSError as error:
        display.warn(f"{error.filename or 'a file'}: {error.strerror or error}")
        code = 2
    except KeyboardInterrupt:
        display.warn("interrupted")
        code = 130
    sys.exit(code)


# --- endings ----------------------------------------------------------------------------------------------------------


def _interrupted(result: "TrainingResult") -> int:
    """Says where an interrupted run was saved; the exit code of its signal."""
    display.warn(f"interrupted: saved at iteration {result.last.iteration} in {result.run_dir}; --resume goes on")
    return 128 + result.interrupted


def _plain(error: CycloptsError) -> str:
    from rich.markup import escape

    return escape(" ".join(str(error).split()))
