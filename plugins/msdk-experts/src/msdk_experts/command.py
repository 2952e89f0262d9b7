"""`msdk-experts`: new runs from trained ones."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from msdk.errors import MsdkError

app = App(name="msdk-experts", help="New runs from trained ones.", result_action="return_value")

Out = Annotated[Path, Parameter(help="The new run folder.")]


@app.command
def split(run: Path, /, *, stage: int, edge_ratio: float, out: Out) -> None:
    """Split a stage in two, each beginning with the weights of the one decoder (eDiff-I).

    Examples: msdk-experts split runs/a --stage 0 --edge-ratio 0.8 --out runs/b

    Parameters
    ----------
    run
        A run folder.
    stage
        Which stage, 0 is the one of least noise.
    edge_ratio
        Where, in sigma / alpha.
    """
    from msdk_experts.runs import split_stage

    _next(split_stage(run, stage, edge_ratio, out))


@app.command
def grow(run: Path, /, *, edges_ratio: list[float], rank: int = 4, out: Out) -> None:
    """Grow low-rank experts on the single decoder of a run (PPAP).

    Examples: msdk-experts grow runs/unified --edges-ratio 2.5 --edges-ratio 7.7 --rank 8 --out runs/experts

    Parameters
    ----------
    run
        A run folder of a recipe with one decoder.
    edges_ratio
        Interior edges of the stages, in sigma / alpha.
    rank
        Of the experts.
    """
    from msdk_experts.runs import grow as make

    _next(make(run, tuple(edges_ratio), rank, out))


@app.command
def uncertainty(run: Path, /) -> None:
    """Print the weights of stages that uncertainty weighting would settle at (ANT), for `{ name = "intervals" }`.

    Examples: msdk-experts uncertainty runs/multistage

    Parameters
    ----------
    run
        A run folder.
    """
    from msdk_experts.intervals import uncertainty as read

    print("factors = [" + ", ".join(f"{factor:.4g}" for factor in read(run)) + "]")


def _next(out: Path) -> None:
    print(f"wrote {out}; go on with: msdk train {out / 'recipe.toml'} --out {out} --resume")


def main() -> NoReturn:
    """Exit code 0 done, 2 wrong input."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (MsdkError, CycloptsError) as error:
        print(f"msdk-experts: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
