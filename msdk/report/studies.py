"""Studies: what they will cost, what they found, as tables, plots and a page."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from msdk.errors import PlotError, cut, printable
from msdk.recipe.quantities import prefix_of, written
from msdk.report.canvas import STAGE_COLOURS, drawn, logarithmic, plain
from msdk.report.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from msdk.studies.planning import Plan
    from msdk.studies.results import Account, ArmResult, Interval, ScoreResult, StudyResult

AXES: "dict[Account, tuple[str, str]]" = {
    "training": ("FLOPs", "training, real account"),
    "paper": ("MACs", "paper's account: a forward call of one image for each iteration"),
}


Dashes = Literal["-", "--", ":", "-."]
DASHES: tuple[Dashes, ...] = ("-", "--", ":", "-.")
"""Lines of arms beyond those that colours tell apart."""


def plan_grid(plan: "Plan", title: str) -> Grid:
    """What a study will cost, before anything is trained."""
    seeds, hours = len(plan.study.study.seeds), any(each.price.hours is not None for each in plan.variants)
    memory = any(each.price.memory is not None for each in plan.variants)
    rows: list[tuple[str, ...]] = []
    for each in plan.variants:
        price = each.price
        row = [
            each.name,
            f"{price.iterations:,} x {price.batch_size:,}",
            written(price.parameters, "params"),
            written(price.flops, "FLOPs"),
            written(price.paper_macs, "MACs"),
        ]
        row += ["-" if price.hours is None else f"{seeds * price.hours:.3g}"] if hours else []
        row += ["-" if price.memory is None else written(price.memory, "B")] if memory else []
        trials = f"{seeds} seeds" if each.tries == 1 else f"{each.tries} settings x {seeds} seeds"
        rows.append((*row, trials if each.kept else "left out"))
    head = ["arm", "iterations x batch", "parameters", "training of one", "paper's account"]
    head += [*(["hours of all seeds"] if hours else []), *(["memory"] if memory else []), "trials"]
    count, search = seeds * sum(each.tries for each in plan.kept), plan.study.study.search
    notes = [f"{count} trials, {written(plan.flops, 'FLOPs')} of training in all."]
    if search is not None:
        notes = [
            f"At most {notes[0][:-1]}: {search.name} proposes the settings, and each is priced before it is trained. "
            "Those shown cost most of what is at the ends of the space."
        ]
        if plan.budget is not None:
            notes.append(
                f"Budget: {written(plan.budget, 'FLOPs')}, an equal share for each arm. A setting that exceeds what is "
                "left of it is left out."
            )
    elif plan.budget is not None:
        notes.append(f"Budget: {written(plan.budget, 'FLOPs')}. An arm that exceeds what is left of it is left out.")
    return Grid(title, tuple(head), tuple(rows), tuple(notes))


def result_grids(found: "StudyResult") -> list[Grid]:
    """The arms, the form of the paper's Table 2, and each comparison under both accounts; made for 80 columns."""
    grids = [_arms(found), *([_until(found)] if found.comparisons else [])]
    grids += [_scores(found, arm.name) for arm in found.arms if any(_versus(found, arm.name))]
    accounts: list[Account] = [each for each in AXES if any(one.account == each for one in found.comparisons)]
    return [*grids, *(_comparisons(found, each, noted=each == accounts[-1]) for each in accounts)]


def _arms(found: "StudyResult") -> Grid:
    rows = tuple(
        (
            arm.name,
            f"{sum(t.state == 'done' for t in arm.trials)} / {len(arm.trials)}" if arm.kept else "left out",
            "-" if arm.best is None else f"{arm.best:.4f}" + (f" ± {arm.spread:.4f}" if arm.spread else ""),
            "-" if arm.seconds is None else f"{arm.seconds:,.0f}",
        )
        for arm in found.arms
    )
    head = ("arm", "trials", f"best {found.metric_words}", "seconds a trial")
    notes = ["± is the standard deviation over seeds."] if any(arm.spread for arm in found.arms) else []
    notes += [f"{arm.name}, seed {t.seed}: {t.problem}" for arm in found.arms for t in arm.trials if t.problem]
    return Grid(found.title or found.study, head, rows, tuple(notes))


def _until(found: "StudyResult") -> Grid:
    """What each arm spends until it is as good as the baseline, in the form of the paper's Table 2, beside its own."""
    names = list(dict.fromkeys(name for arm in found.arms for name in arm.paper))
    training = {each.name: each for each in found.comparisons if each.account == "training"}
    own = next((each.baseline for each in training.values()), None)
    rows: list[tuple[str, ...]] = []
    for arm in found.arms:
        versus = training.get(arm.name)
        spent = own if arm.name == found.baseline else versus and versus.crossing.estimate
        iterations = None if spent is None else spent / (arm.price.flops / arm.price.iterations)
        rows.append(
            (
                arm.name,
                "-" if iterations is None else f"{iterations:,.0f}",
                written(arm.price.macs_per_call, "MACs"),
                "-" if iterations is None else written(iterations * arm.price.macs_per_call, "MACs"),
                "-" if spent is None else written(spent, "FLOPs"),
                *("-" if name not in arm.paper else f"{arm.paper[name]:g}" for name in names),
            )
        )
    head = ("arm", "iterations", "a call", "paper's account", "training", *(f"paper: {name}" for name in names))
    note = (
        f"Until the mean over seeds has the {found.target} quality of {found.baseline}; '-' is never. A call and the "
        "paper's account are MACs by the paper's convention; training is forward and backward FLOPs of all images."
    )
    return Grid(f"Until as good as {found.baseline}", head, tuple(rows), (note,))


def _comparisons(found: "StudyResult", account: "Account", *, noted: bool) -> Grid:
    rows = tuple(
        (each.name, each.verdict, _interval(each.ratio), f"{100 * each.reached:.0f} %", _signed(each.difference))
        for each in found.comparisons
        if each.account == account
    )
    unit, words = AXES[account]
    head = ("arm", "verdict", f"{unit} of baseline's", "reached in", "difference at equal " + unit)
    note = (
        f"Intervals of {100 * found.confidence:.0f} %, by bootstrap over paired seeds: what is spent until the arm is "
        f"as good as {found.baseline}, in how many resamples it ever is, and its quality less that of {found.baseline} "
        "where both have spent the same."
    )
    return Grid(f"Against {found.baseline}: {words}", head, rows, (note,) if noted else (), 2)


def _versus(found: "StudyResult", arm: str) -> "Iterator[tuple[ScoreResult, ScoreResult, Interval]]":
    """The scores of an arm and of the baseline, and how they differ, name by name."""
    theirs = {each.name: each for each in found.scores if each.arm == found.baseline}
    for own in found.scores:
        if own.arm == arm and own.difference is not None and own.name in theirs:
            yield own, theirs[own.name], own.difference


def _scores(found: "StudyResult", arm: str) -> Grid:
    rows = tuple(
        (own.name.removeprefix("loss, "), _spread(theirs), _spread(own), _ends(difference), _side(difference))
        for own, theirs, difference in _versus(found, arm)
    )
    head = ("trained", found.baseline, arm, f"difference, {100 * found.confidence:.0f} %", "told")
    notes = "Smaller is better, but for precision, recall and IS. ± is the standard deviation over seeds."
    if any(own.name.startswith("loss") for own, *_ in _versus(found, arm)):
        notes += f" By stage: the held-out loss in the stages of {found.stages_by}, with the weights that are sampled."
    return Grid(f"{arm} against {found.baseline}, at the end of training", head, rows, (notes,))


def _spread(score: "ScoreResult") -> str:
    return f"{score.mean:.4g}" + (f" ± {score.spread:.1g}" if score.spread is not None else "")


def _side(found: "Interval") -> str:
    """What an interval of a difference says."""
    if found.low is not None and found.low > 0:
        return "larger"
    return "smaller" if found.high is not None and found.high < 0 else "no difference"


def score_sentences(found: "StudyResult") -> list[str]:
    """What the scores of images say, against the baseline: a sentence for each arm and score that is no loss."""
    sentences: list[str] = []
    for arm in found.arms:
        for own, theirs, difference in _versus(found, arm.name):
            if own.name.startswith("loss"):
                continue
            side = _side(difference)
            told = f"No difference in {own.name} can be told" if side == "no difference" else f"{own.name} is {side}"
            sentences.append(
                f"{told}: {arm.name} has {_spread(own)}, {found.baseline} {_spread(theirs)}, over {len(own.seeds)} "
                f"seeds ({100 * found.confidence:.0f} % interval of the difference {_ends(difference)})."
            )
    return sentences


def tuning_sentences(found: "StudyResult") -> list[str]:
    """How arms were tuned, and what was chosen; where that is an end of what was tried, it says so."""
    tuned = [each for each in found.tuning if each.keys]
    if not tuned:
        return []
    alike = len({tuple((key.key, key.tried) for key in each.keys) for each in tuned}) == 1
    alike = alike and len(tuned) == len(found.tuning)
    by = "a grid" if tuned[0].by == "grid" else tuned[0].by
    ranges = "; ".join(f"{key.key} from {key.tried}" for key in tuned[0].keys)
    told = f"All arms were tuned alike by {by}: {ranges}." if alike else f"Arms were tuned by {by}, not all alike."
    rest = f" Up to {found.unknown} settings are still to be proposed." if found.unknown else ""
    sentences = [
        f"{told} Each setting has all seeds, and that with the best mean over them counts; no interval holds that it "
        f"was chosen by the same seeds.{rest}"
    ]
    for each in tuned:
        if each.chosen is None:
            continue
        values = ", ".join(f"{key.key} = {key.value}" + ("" if alike else f" (from {key.tried})") for key in each.keys)
        sentences.append(f"{each.arm} counts with {values}, of {each.settings} settings.")
        sentences += [
            f"{key.key} = {key.value} of {each.arm} is at an end of what was tried ({key.tried}): better ones may lie "
            "beyond, so try more on that side."
            for key in each.keys
            if key.at_end
        ]
    return sentences


def _ends(found: "Interval") -> str:
    return " to ".join("-" if value is None else f"{value:+.2g}" for value in (found.low, found.high))


def _interval(found: "Interval") -> str:
    """A ratio with its interval."""
    low, high = ("never" if value is None else f"{100 * value:.0f}" for value in (found.low, found.high))
    value = "never" if found.estimate is None else f"{100 * found.estimate:.0f} %"
    return value if (found.estimate, found.low) == (None, None) else f"{value} ({low} to {high})"


def _signed(found: "Interval") -> str:
    ends = [value for value in (found.low, found.high) if value is not None]
    return "{:+.4f} to {:+.4f}".format(*ends) if len(ends) == 2 else "-"


def curves_plot(found: "StudyResult", kind: str) -> bytes:
    """Quality against what was spent, under both accounts: the mean over seeds, each seed, and where arms cross.

    Args:
        found: The study.
        kind: "png" or "svg".

    Raises:
        PlotError: matplotlib is not installed.
    """

    def draw(figure: "Figure") -> None:
        for axes, account in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
            _panel(axes, found, account)
        figure.axes[0].set_ylabel(found.metric_words)
        _legend(figure, 10.0)

    return drawn((10.0, 4.2 + 0.2 * _rows([arm.name for arm in found.arms], 10.0)), kind, draw)


def _columns(names: Sequence[str], width: float) -> int:
    """Of a legend, so that each name is within a figure of so many inches."""
    return max(1, min(3, int(width / (0.6 + 0.078 * max(map(len, names), default=1)))))


def _rows(names: Sequence[str], width: float) -> int:
    return math.ceil(len(names) / _columns(names, width))


def _legend(figure: "Figure", width: float) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    labels = [cut(label, int(12 * width) - 12) for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=_columns(labels, width), frameon=False)


def _dashes(number: int) -> Dashes:
    return DASHES[number // len(STAGE_COLOURS) % len(DASHES)]


def _panel(axes: "Axes", found: "StudyResult", account: "Account") -> None:
    unit, words = AXES[account]
    arms = _shown(found)
    spent = [_spent(arm, account) for arm in arms]
    prefix, size = prefix_of(max((x for each in spent for curve in each for x in curve), default=1.0), unit)
    for number, (arm, curves) in enumerate(zip(arms, spent, strict=True)):
        colour = STAGE_COLOURS[number % len(STAGE_COLOURS)]
        values = [[point.value for point in trial.points] for trial in arm.trials if trial.points]
        for xs, ys in zip(curves, values, strict=True):
            axes.plot([x / size for x in xs], ys, color=colour, alpha=0.25, linewidth=0.8)
        if values:
            most = min(map(len, values))
            mean = [sum(each[place] for each in values) / len(values) for place in range(most)]
            middle = [sum(each[place] for each in curves) / len(curves) / size for place in range(most)]
            (line,) = axes.plot(middle, mean, color=colour, linewidth=1.8, label=printable(arm.name))
            line.set_linestyle(_dashes(number))
    for each in found.comparisons:
        if each.account == account and each.crossing.estimate is not None:
            colour = STAGE_COLOURS[[arm.name for arm in arms].index(each.name) % len(STAGE_COLOURS)]
            axes.plot([each.crossing.estimate / size], [each.target], "o", color=colour, markersize=5)
    targets = [each.target for each in found.comparisons if each.account == account]
    if targets:
        axes.axhline(targets[0], color="#5a636e", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"{prefix}{unit} ({words})", wrap=True)
    _logarithmic(axes)


def _spent(arm: "ArmResult", account: "Account") -> list[list[float]]:
    return [
        [point.flops if account == "training" else point.paper_macs for point in trial.points]
        for trial in arm.trials
        if trial.points
    ]


def _logarithmic(axes: "Axes") -> None:
    """Logarithmic axes with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain(axes)
    logarithmic(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _shown(found: "StudyResult") -> "list[ArmResult]":
    """The arms that are drawn: of those that are tuned, the settings that count."""
    return [arm for arm in found.arms if not found.tuning or arm.name in {each.chosen for each in found.tuning}]


def staged(found: "StudyResult") -> "list[ArmResult]":
    """The arms with more than one stage, whose losses by stage can be told."""
    return [arm for arm in _shown(found) if arm.edges_ratio and any(trial.points for trial in arm.trials)]


def stages_plot(found: "StudyResult", kind: str) -> bytes:
    """Quality by stage against training FLOPs, a panel for each stage, as in the paper's Figure 2.

    Args:
        found: The study; only arms with more than one stage are drawn.
        kind: "png" or "svg".

    Raises:
        PlotError: matplotlib is not installed.
    """
    arms = staged(found)
    count = max((len(arm.edges_ratio) + 1 for arm in arms), default=1)

    def draw(figure: "Figure") -> None:
        largest = max((x for arm in arms for curve in _spent(arm, "training") for x in curve), default=1.0)
        prefix, size = prefix_of(largest, "FLOPs")
        for stage, axes in enumerate(figure.subplots(1, count, squeeze=False)[0]):
            for arm in arms:
                colour = STAGE_COLOURS[_shown(found).index(arm) % len(STAGE_COLOURS)]
                for place, trial in enumerate(trial for trial in arm.trials if trial.points):
                    points = [
                        (point.flops / size, value)
                        for point in trial.points
                        if stage < len(point.by_stage) and (value := point.by_stage[stage]) is not None
                    ]
                    look = {"color": colour, "linewidth": 1.0, "label": None if place else printable(arm.name)}
                    (line,) = axes.plot([x for x, _ in points], [y for _, y in points], **look)
                    line.set_linestyle(_dashes(found.arms.index(arm)))
            axes.set_title(f"stage {stage}", fontsize=9)
            axes.set_xlabel(f"training {prefix}FLOPs")
            _logarithmic(axes)
        figure.axes[0].set_ylabel(found.metric_words)
        _legend(figure, width)

    width = 1.0 + 3.2 * count
    return drawn((width, 3.6 + 0.2 * _rows([arm.name for arm in arms], width)), kind, draw)


def study_page(found: "StudyResult", samples: bytes | None = None) -> str:
    """One page that loads nothing from elsewhere: the verdict, plots, samples and tables.

    Args:
        found: The study.
        samples: A PNG of images of its arms side by side.
    """
    from msdk.report.templates import inline, templates

    plots: list[tuple[str, str, str]] = []
    try:
        if any(trial.points for arm in found.arms for trial in arm.trials):
            plots.append(("Quality against what was spent", inline(curves_plot(found, "png")), CURVES))
            if staged(found):
                plots.append(("Quality by stage against training FLOPs", inline(stages_plot(found, "png")), STAGES))
    except PlotError:  # who makes the page tells it; tables need no plots
        plots = []
    if samples is not None:
        plots.append(("Images of the first seed", inline(samples), SAMPLES))
    return (
        templates()
        .get_template("study.html")
        .render(
            title=found.title or found.study,
            question=found.question,
            verdict=" ".join([found.verdict, *score_sentences(found), *tuning_sentences(found)]),
            grids=result_grids(found),
            plots=plots,
            facts=stamp_lines(found),
        )
    )


CURVES = (
    "Thick lines are means over seeds, faint ones the seeds. The dotted line is the baseline's quality, and a dot is "
    "where an arm reaches it. Axes are logarithmic; smaller is better."
)
STAGES = "A line for each seed, of arms with more than one stage. Axes are logarithmic; smaller is better."
SAMPLES = "Each arm draws from the same noise."


def stamp_lines(found: "StudyResult") -> Sequence[str]:
    """What made the numbers, sentences."""
    stamp = found.stamp
    return (
        f"Study {found.study}" + (f", size {found.size}" if found.size else "") + f", seeds {_listed(found.seeds)}.",
        f"Planned {written(found.planned_flops, 'FLOPs')} of training, spent {written(found.spent_flops, 'FLOPs')}.",
        f"{stamp.date}, {stamp.machine}; msdk {stamp.msdk}, Python {stamp.python}, torch {', '.join(stamp.torch)}.",
        f"Data: SHA-256 {', '.join(each[:12] for each in stamp.data) or '-'}.",
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def study_markdown(found: "StudyResult") -> str:
    """The verdict and the tables as Markdown."""
    from msdk.report.grid import markdown_text

    parts = [
        f"# {markdown_text(found.title or found.study)}\n",
        f"{markdown_text(' '.join([found.verdict, *score_sentences(found), *tuning_sentences(found)]))}\n",
    ]
    parts += [grid.markdown() for grid in result_grids(found)]
    return "\n".join([*parts, *(f"- {markdown_text(line)}" for line in stamp_lines(found))]) + "\n"
