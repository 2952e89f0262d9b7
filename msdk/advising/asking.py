"""`msdk.advise`: probes are trained, laws are fitted, and a choice is made."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msdk.advising.advice import Advice, FittedLaw, Range, StageAdvice
from msdk.advising.choosing import Choice, Option, StageOptions, choose
from msdk.advising.fitting import Numbers, PowerLaw, fit_together
from msdk.advising.probing import LOOKS, UNIFIED, Asked, Probes, probes_of
from msdk.arguments import as_annotated
from msdk.distributed import Group, this_rank, together
from msdk.errors import MsdkError, RunError
from msdk.recipe.quantities import written
from msdk.runs.files import write_json
from msdk.studies.collecting import collect
from msdk.studies.crossing import RESAMPLES, estimate, multipliers, resampled
from msdk.studies.results import ArmResult, StudyResult
from msdk.studies.running import Watcher, make

RESULT = "advice.json"


@as_annotated
def advise(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    budget: str | float | None = None,
    widths: Sequence[int] | None = None,
    iterations: int = 480,
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    confidence: float = 0.95,
    device: str | None = None,
    watcher: Watcher | None = None,
) -> Advice:
    """Says whether stages would pay for a recipe's data and a budget, where to cut, and how wide each should be.

    Small networks are trained, unified and staged with decoders of each width; what is there is not trained again. The
    loss of each stage is taken to fall as a power of what is spent on it, and not below that of the optimal denoiser.

    Args:
        recipe: The file of a recipe.
        out: Folder of the probes and of advice.json; advice/NAME when not given.
        budget: Training FLOPs: "100T", or a number; those of the recipe's own training when not given.
        widths: Channels of decoders to probe, see `msdk.advising.probing.Asked`.
        iterations: Of each probe, 12 or more.
        seeds: Three or more.
        overrides: "key=value" for the recipe.
        confidence: Of the intervals.
        device: Where to train; CUDA where there is one when not given.
        watcher: Told what happens.

    Raises:
        MsdkError: The recipe or the data are wrong.
        RunError: A probe failed, ended early, or was interrupted.
    """
    if not 0 < confidence < 1:
        raise MsdkError(f"confidence is a share of 1 between 0 and 1, as 0.95, got {confidence}")
    file = Path(recipe)
    with together(this_rank()) as group:
        probes = group.agreed(
            lambda: probes_of(
                Asked(
                    file=file,
                    overrides=overrides,
                    budget=budget,
                    widths=widths,
                    iterations=iterations,
                    seeds=seeds,
                    device=device,
                )
            )
        )
        folder = Path(out) if out is not None else default_folder(file)
        if make(probes.trials, folder, device=device, group=group, watcher=watcher):
            raise RunError(f"interrupted: the probes in {folder} are kept, and the same call goes on")
        return concluded(probes, folder, confidence=confidence, group=group)


def default_folder(file: Path) -> Path:
    """Where probes are unless told: advice/FOLDER-NAME of the recipe."""
    return Path("advice") / f"{file.resolve().parent.name}-{file.stem}"


def concluded(probes: Probes, folder: Path, *, confidence: float = 0.95, group: Group | None = None) -> Advice:
    """What the probes say; the first process writes it into the folder.

    Raises:
        RunError: A probe is not done, or failed.
    """
    group = group or Group()
    group.wait()
    found = collect(probes.plan, probes.trials, folder, probes.file)
    for trial in (trial for arm in found.arms for trial in arm.trials):
        if trial.state != "done":
            why = trial.problem or f"it is {trial.state}, and the same command goes on"
            raise RunError(f"no advice without the probe {folder / trial.folder}: {why}")
    advice = advised(probes, found, confidence)
    if group.rank.first:
        write_json(folder / RESULT, advice.as_json())
    return advice


def advised(probes: Probes, found: StudyResult, confidence: float) -> Advice:
    """The laws of what was found, and the choice."""
    recipe, partition = probes.staged, probes.staged.partition()
    factors = multipliers(len(found.seeds), RESAMPLES // 4)
    looks = _common(found)
    options = _fitted(probes, found, factors, looks)
    unified = options[None]
    weights, drawn = recipe.natural_shares(), recipe.training_shares()
    stages = tuple(StageOptions(drawn[stage], weights[stage], options[stage]) for stage in range(len(partition)))
    beyond = probes.budget / max(each.price.flops for each in probes.plan.kept)
    foresight = _foresight(probes, found, looks)
    # As a number of few widths: a deviation that is known by so few is Student's.
    drift = foresight * np.random.default_rng(1).standard_t(len(probes.widths), len(factors))
    drift[0] = 0.0
    chosen = choose(unified, stages, probes.budget, drift)
    ratio = _range(chosen.ratio, confidence)
    pays = ratio.high is not None and ratio.high < 1
    batch = recipe.training.batch_size
    bounds = [(each.low, each.high) for each in partition.stages]
    return Advice(
        recipe=str(probes.file),
        budget=probes.budget,
        verdict="stages" if pays else "stay unified",
        sentence=_sentence(probes, chosen, ratio, beyond, confidence, pays=pays),
        edges_ratio=partition.edges,
        edges_by=probes.edges_by,
        stages=tuple(
            StageAdvice(
                low=low,
                high=high if math.isfinite(high) else None,
                drawn=drawn[stage],
                floor=probes.floors[stage],
                width=chosen.widths[stage],
            )
            for stage, (low, high) in enumerate(bounds)
        ),
        iterations=max(round(chosen.staged_images / batch), 1),
        unified_width=chosen.unified.width,
        unified_iterations=max(round(chosen.unified_images / batch), 1),
        staged_loss=_range(chosen.staged_loss, confidence),
        unified_loss=_range(chosen.unified_loss, confidence),
        saving=Range(*(None if each is None else 1 - each for each in (ratio.estimate, ratio.high, ratio.low))),
        confidence=confidence,
        laws=tuple(
            _told(probes, found, _later(looks), stage, option, confidence)
            for stage, own in options.items()
            for option in own
        ),
        foresight=foresight,
        probed_flops=found.spent_flops,
        beyond=beyond,
        seeds=found.seeds,
    )


def _arms(probes: Probes, found: StudyResult, stage: int | None) -> list[tuple[int, ArmResult]]:
    arms = {arm.arm: arm for arm in found.arms}
    if stage is None:
        return [(probes.unified_width, arms[UNIFIED])]
    return [(width, arms[str(width)]) for width in probes.widths]


def _common(found: StudyResult) -> list[int]:
    """The iterations at which every probe was looked at.

    Raises:
        RunError: They are too few: a probe ended early, or its loss is not finite.
    """
    looks = {trial.folder: {point.iteration for point in trial.points} for arm in found.arms for trial in arm.trials}
    common = set.intersection(*looks.values())
    if len(common) < LOOKS:
        short = min(looks, key=lambda each: len(looks[each]))
        raise RunError(
            f"the probe {short} was looked at {len(looks[short])} times, and laws need {LOOKS}: training.stop "
            "ended it, or its loss is not finite: leave that out, or lower training.lr"
        )
    return sorted(common)


def _later(looks: Sequence[int]) -> Sequence[int]:
    """Those that laws are fitted to: the second half.

    A curve falls steeply at first, by another law: with it, networks whose stages see few images seem to have further
    to fall than they have.
    """
    return looks[len(looks) // 2 :]


def _looks(probes: Probes, arm: ArmResult, stage: int | None, looks: Sequence[int]) -> tuple[Numbers, Numbers]:
    """FLOPs spent on a stage at some looks, and the loss of each seed there."""
    share = 1.0 if stage is None else probes.staged.training_shares()[stage]
    price = arm.price.flops_per_image[stage or 0] + arm.price.autoencoder_flops_per_image
    rows = [{point.iteration: point for point in trial.points} for trial in arm.trials]
    points = [[row[iteration] for iteration in looks] for row in rows]
    spent = [iteration * arm.price.batch_size * share * price for iteration in looks]
    values = [[point.value if stage is None else point.by_stage[stage] for point in each] for each in points]
    return np.array(spent, dtype=np.float64), np.array(values, dtype=np.float64)


def _fitted(
    probes: Probes, found: StudyResult, factors: Numbers, known_looks: Sequence[int]
) -> dict[int | None, tuple[Option, ...]]:
    """What the unified network (None) and each stage may be, with laws that have one exponent.

    Args:
        probes: What was trained.
        found: What that told.
        factors: Of the resamples.
        known_looks: Iterations of the looks that are known, of which laws are fitted to the later half.
    """
    weights = probes.staged.natural_shares()
    # Where nothing is drawn, nothing is known, and it counts for nothing.
    places = [None, *(stage for stage, weight in enumerate(weights) if weight > 0)]
    whole = sum(weight * floor for weight, floor in zip(weights, probes.floors, strict=True))
    known = [(place, width, arm) for place in places for width, arm in _arms(probes, found, place)]
    looks = [_looks(probes, arm, place, _later(known_looks)) for place, _, arm in known]
    # A floor above what was seen, by the few draws that it is the mean of, is none.
    floors = [
        min(whole if place is None else probes.floors[place], 0.9 * float(values.min()))
        for (place, _, _), (_, values) in zip(known, looks, strict=True)
    ]
    laws = fit_together([spent for spent, _ in looks], [resampled(values, factors) for _, values in looks], floors)
    none = PowerLaw(*(np.zeros(len(factors)) for _ in range(3)), unit=1.0)
    by = {(place, width): law for (place, width, _), law in zip(known, laws, strict=True)}
    return {
        place: tuple(
            Option(
                width,
                arm.price.flops_per_image[place or 0] + arm.price.autoencoder_flops_per_image,
                by.get((place, width), none),
            )
            for width, arm in _arms(probes, found, place)
        )
        for place in (None, *range(len(weights)))
    }


def _foresight(probes: Probes, found: StudyResult, looks: Sequence[int]) -> float:
    """How much laws err, of the difference of staged networks from the unified one, for one doubling of what is spent.

    Fitted to what is known at half of every probe, they are asked for its end: the root of the mean square over widths.
    """
    weights, half = probes.staged.natural_shares(), looks[: len(looks) // 2]
    early = _fitted(probes, found, multipliers(len(found.seeds), 0), half)

    def missed(column: int, places: Sequence[int | None]) -> float:
        """The loss that is predicted of the last look of the network in a column of `_arms`, less what it was."""
        predicted, arm = 0.0, _arms(probes, found, places[0])[column][1]
        for place in places:
            (spent,), _ = _looks(probes, arm, place, looks[-1:])
            predicted += (1.0 if place is None else weights[place]) * float(early[place][column].curve(spent)[0])
        _, measured = _looks(probes, arm, None, looks[-1:])
        return predicted - float(measured.mean())

    unified, stages = missed(0, [None]), [stage for stage, weight in enumerate(weights) if weight > 0]
    misses = [missed(column, stages) - unified for column in range(len(probes.widths))]
    return math.sqrt(sum(miss**2 for miss in misses) / len(misses)) / math.log2(looks[-1] / half[-1])


def _told(
    probes: Probes, found: StudyResult, looks: Sequence[int], stage: int | None, option: Option, confidence: float
) -> FittedLaw:
    arm = dict(_arms(probes, found, stage))[option.width]
    spent, values = _looks(probes, arm, stage, looks)
    a, b, c = option.curve.mean
    missed = values.mean(0) - (a + b * (spent / option.curve.unit) ** -c)
    return FittedLaw(
        stage=stage,
        width=option.width,
        a=_range(option.curve.a, confidence),
        b=_range(option.curve.b, confidence),
        c=_range(option.curve.c, confidence),
        unit=option.curve.unit,
        flops_per_image=option.flops_per_image,
        error=float(np.sqrt((missed**2).mean())),
    )


def _range(values: Numbers, confidence: float) -> Range:
    found = estimate(values, (1 - confidence) / 2)
    return Range(*(value if math.isfinite(value) else None for value in (found.value, found.low, found.high)))


def _sentence(probes: Probes, chosen: Choice, ratio: Range, beyond: float, confidence: float, *, pays: bool) -> str:
    widths = " / ".join(map(str, chosen.widths))
    low, high = (_percent(each) for each in (ratio.low, ratio.high))
    sure, spent = f"{100 * confidence:.0f} % interval {low} to {high}", written(probes.budget, "FLOPs")
    goal = f"the unified network's loss of {chosen.unified_loss[0]:.4f}"
    if ratio.estimate is not None:
        needs = f"would reach {goal} with {_percent(ratio.estimate)} of {spent} ({sure})"
    else:
        needs = f"would not reach {goal} of {spent}, whatever is spent ({sure})"
    far = f"The budget is {beyond:.3g} times what the dearest probe spent" + (
        ": further than laws can be trusted; probe for longer (--iterations)." if beyond > 20 else "."
    )
    # What might save and might not is no reason for stages, and none against them.
    unsure = not pays and ratio.low is not None and ratio.low < 1
    verdict = "Stages" if pays else "Stay unified until more is known" if unsure else "Stay unified"
    more = " Longer probes (--iterations) would tell more." if unsure else ""
    return f"{verdict}: decoders of {widths} channels {needs}.{more} {far}"


def _percent(value: float | None) -> str:
    return "never" if value is None else f"{100 * value:.0f} %"
