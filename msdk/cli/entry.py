"""Where the command line begins and ends: all commands, the options of all of them, and exit codes."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from msdk import __version__
from msdk.cli import display
from msdk.cli.advising import advise
from msdk.cli.budgets import budgets
from msdk.cli.clustering import cluster
from msdk.cli.data import data
from msdk.cli.evaluation import evaluation
from msdk.cli.inspecting import inspecting
from msdk.cli.launching import launching
from msdk.cli.parts import list_parts, show
from msdk.cli.plugins import plugins
from msdk.cli.pretrained import pretrained
from msdk.cli.recipes import recipes
from msdk.cli.runs import compare, runs
from msdk.cli.sampling import sample
from msdk.cli.stages import stages
from msdk.cli.studies import study
from msdk.cli.training import run_all, train
from msdk.distributed import this_rank, told_elsewhere
from msdk.errors import ElsewhereError, MsdkError, MsdkWarning
from msdk.threads import VARIABLE, asked

app = App(
    name="msdk",
    help="Multi-stage diffusion models: recipes, budgets, clustering, training, sampling.",
    version=__version__,
    help_format="plaintext",  # brackets in help are text
    default_parameter=Parameter(json_list=False, json_dict=False),  # and so are they in names of files
    result_action="return_value",
)
for _group in (recipes, data, budgets, evaluation, inspecting, plugins, pretrained, stages, launching):
    app.command(_group)
for _command in (show, cluster, train, sample, runs, compare, study, advise):
    app.command(_command)
app.command(list_parts, name="list")
app.command(run_all, name="run")
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `main` tells what is kept


@app.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    allow_code: Annotated[
        bool, Parameter(negative="", help="Run the Python files that a recipe's `use` names: only if you trust them.")
    ] = False,
    threads: Annotated[
        int | None,
        Parameter(help="Threads of the CPU, as MSDK_THREADS. By default as the cores and the size of the work allow."),
    ] = None,
) -> object:
    """Every command takes these options."""
    if threads is not None:
        os.environ[VARIABLE] = str(threads)
    asked()  # a mistake is told before anything slow
    if allow_code:
        from msdk.registry.local_code import allow_code as allow

        allow()
    return app(words, exit_on_error=False, print_error=False)


def main() -> NoReturn:
    """Runs the command line: exit code 0 done, 2 wrong input, 3 a plugin failed, 130 interrupted."""
    display.any_encoding()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", MsdkWarning)
            warnings.showwarning = _told(warnings.showwarning)
            result = app.meta(sys.argv[1:], exit_on_error=False, print_error=False)
        code = result if isinstance(result, int) else 0
    except BrokenPipeError:
        code = 0  # the reader of a pipe has seen enough
        sys.stderr.close()
    except CycloptsError as error:
        display.fail(" ".join(str(error).split()))
        code = 2
    except OSError as error:
        display.warn(f"{error.filename or 'a file'}: {error.strerror or error}")
        code = 2
    except KeyboardInterrupt as error:
        if this_rank().first:  # Ctrl-C reaches all processes
            display.warn(f"interrupted: {str(error) or 'nothing was written, and the same command begins anew'}")
        code = 130
    except ElsewhereError:
        code = 2  # the process where it went wrong tells it
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        # rich exits with 1 where the reader of a pipe has seen enough, which would say that a limit is exceeded.
        seen = isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
        code = 0 if seen else 2 if isinstance(error, MsdkError) and told_elsewhere(error) else display.failed(error)
    sys.exit(code)


def _told(others: Callable[..., None]) -> Callable[..., None]:
    """Shows msdk's own warnings as the command line tells things, and other warnings as before."""

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, MsdkWarning):
            display.warn(str(message))
        else:
            others(message, category, *rest)

    return show
