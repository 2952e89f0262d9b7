"""Recipe (or denoiser) -> Budget: the counts of its parts, weighed by what its sampler and its training do."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from msdk import cache as store
from msdk.arguments import as_annotated
from msdk.budgeting.costs import (
    WEIGHTS,
    Audit,
    AutoencoderCosts,
    Budget,
    CallCosts,
    GuidanceCosts,
    Parameters,
    PartCosts,
    StageCosts,
    StageMacs,
    StageParameters,
    StageTraining,
    TrainingCosts,
    mean_macs,
)
from msdk.budgeting.limits import allowed
from msdk.budgeting.shares import stage_calls, stage_lengths, stage_shares
from msdk.budgeting.training_price import Flops, ImageFlops, counted, held, image_flops, is_counted
from msdk.encoders.base import Shape
from msdk.errors import RunError, UnknownNameError
from msdk.partition import Partition
from msdk.recipe import Convention, Recipe, Training, recipe_of, uncalled, undertrained
from msdk.recipe.quantities import si_prefix, significant
from msdk.recipe.structuring import to_data
from msdk.samplers.base import call_times
from msdk.samplers.tracing import Call
from msdk.schedules.base import Schedule

if TYPE_CHECKING:
    from msdk.denoiser import Denoiser


@as_annotated
def budget(
    model: "Recipe | Denoiser | str | Path",
    shape: Shape | None = None,
    *,
    convention: Convention | None = None,
    name: str = "",
    cache: bool = True,
) -> Budget:
    """Counts the cost of a recipe, or of a denoiser and an input shape.

    A recipe's parts that were counted before, with the same settings and code, are read from a cache: then torch is not
    even imported.

    Args:
        model: A recipe whose stage edges are known; the file of any, which is clustered now where it asks for it, as
            `msdk budget` does; a run folder; or a denoiser.
        shape: Channels, height and width of the input; the denoiser's own when not given.
        convention: "exact", "paper" or "fvcore"; the recipe's own (or "exact") when not given.
        name: What to call it in the report.
        cache: Whether counts of earlier calls may be used, and are kept for later ones.

    Raises:
        PartError: The stage edges are not known yet, or a network cannot be traced.
        RunError: The ledger of a run folder cannot be read.
    """
    if isinstance(model, (str, Path)):
        recipe = recipe_of(model)
        if recipe.clustered:
            from msdk.clustering import with_edges

            recipe, _ = with_edges(recipe)
        found = _of_recipe(recipe, convention or recipe.budget.convention, name or str(model), cache=cache)
        return with_ledger(found, recipe, Path(model), cache=cache)
    if isinstance(model, Recipe):
        return _of_recipe(model, convention or model.budget.convention, name, cache=cache)
    from msdk.budgeting.parts import count_parts

    network, how = model.network, convention or "exact"
    counts = count_parts(model, shape or model.shape)
    parts = [_parts(counts, stage.index) for stage in model.partition.stages]
    lengths = stage_lengths(model.partition, model.schedule)
    weights: list[Mapping[str, float | None]] = [
        {"sampling": None, "training": None, "length": length} for length in lengths
    ]
    stages = _stages(parts, model.partition, model.schedule, how, weights, [None] * len(parts))
    coder = _coder(counts)
    return Budget(
        recipe=name,
        title="",
        convention=how,
        shape=shape or model.shape,
        parameters=_parameters(parts, coder, None, shared=network.shared),
        autoencoder=_autoencoder(coder, how),
        stages=stages,
        means={each: mean_macs(stages, each) for each in WEIGHTS},
        nfe=None,
        trace=(),
        guidance=None,
        training=None,
        memory=None,
        timing=None,
        ledger=None,
        allowed={},
        notes=(),
        uncounted=_uncounted(parts, coder),
        audit=_audit(parts),
        disagreements=_disagreements(parts, coder),
    )


def with_ledger(found: Budget, recipe: Recipe, run: Path, *, cache: bool = True) -> Budget:
    """The budget of a recipe with the ledger of a run of it; as it is where `run` is no run folder.

    Raises:
        RunError: The ledger cannot be read.
    """
    file = run / "ledger.json"
    if not file.is_file():
        return found
    from msdk.budgeting.ledger import ledger, read_seen

    exact = found if found.convention == "exact" else _of_recipe(recipe, "exact", "", cache=cache)
    seen = read_seen(file)
    if len(seen.images_by_stage) != len(exact.stages):
        raise RunError(f"{file} is of another run: it has {len(seen.images_by_stage)} stages, not {len(exact.stages)}")
    spent = ledger(exact, seen.images_by_stage, seen.iteration, recipe, seen.watched, seen.expected)
    return attrs.evolve(found, ledger=spent)


def _of_recipe(recipe: Recipe, convention: Convention, name: str, *, cache: bool) -> Budget:
    partition, schedule = recipe.partition(), recipe.schedule
    counts = _counted(recipe, cache=cache)
    trace = _trace(recipe, cache=cache)
    shares, calls = stage_shares(recipe, trace), stage_calls(trace, len(partition))
    parts = [_parts(counts, stage.index) for stage in partition.stages]
    weights = [{each: shares[each][index] for each in WEIGHTS} for index in range(len(parts))]
    stages = _stages(parts, partition, schedule, convention, weights, calls)
    coder = _coder(counts)
    means = {each: mean_macs(stages, each) for each in WEIGHTS}
    prices = _image_flops(recipe, parts, cache=cache)
    guided, told = _by_another(recipe, trace, convention, cache=cache)
    return Budget(
        recipe=name,
        title=recipe.title,
        convention=convention,
        shape=recipe.shape,
        parameters=_parameters(
            parts, coder, recipe, shared=recipe.sharing != "separate", objective=counts["objective"]
        ),
        autoencoder=_autoencoder(coder, convention),
        stages=stages,
        means=means,
        nfe=sum(calls) + sum(call.of_another for call in trace),
        trace=tuple(
            CallCosts(
                call.step,
                call.t,
                call.ratio,
                call.stage,
                call.evaluations + call.of_another,
                call.evaluations * stages[call.stage].macs + beside,
            )
            for call, beside in zip(trace, guided or [0] * len(trace), strict=True)
        ),
        guidance=GuidanceCosts(
            recipe.guidance.weight,
            recipe.guidance.interval,
            sum(call.evaluations - 1 + call.of_another for call in trace),
            None if recipe.sampling.guide is None else str(recipe.sampling.guide.run),
            None if guided is None or recipe.sampling.guide is None else sum(guided),
        ),
        training=_training(recipe, stages, means, prices, _autoencoder(coder, "exact")),
        memory=None,
        timing=None,
        ledger=None,
        allowed=allowed(recipe.budget),
        notes=(*_notes(recipe), *told, *uncalled(recipe, trace), *undertrained(recipe)),
        uncounted=_uncounted(parts, coder),
        audit=_audit(parts),
        disagreements=_disagreements(parts, coder),
        image_flops=prices,
    )


def _by_another(
    recipe: Recipe, trace: Sequence[Call], convention: Convention, *, cache: bool
) -> tuple[list[int] | None, list[str]]:
    """MACs of the guide in each call, where the run that guides can be read; and a sentence where it cannot."""
    guide = recipe.sampling.guide
    if guide is None:
        return None, []
    from msdk.runs import run_recipe

    try:
        theirs = run_recipe(guide.run)
    except RunError as error:
        return None, [f"what guidance by {guide.run} costs is in no figure, because that run cannot be read: {error}"]
    partition, counts = theirs.partition(), _counted(theirs, cache=cache)
    macs = [sum(part.macs(convention) for part in _parts(counts, stage.index).all()) for stage in partition.stages]
    return [call.of_another * macs[partition.at(call.t, recipe.schedule)] for call in trace], []


@attrs.frozen
class Parts:
    """The parts of one stage; the adapter is None without one."""

    encoder: PartCosts
    adapter: PartCosts | None
    decoder: PartCosts

    def all(self) -> tuple[PartCosts, ...]:
        return tuple(part for part in (self.encoder, self.adapter, self.decoder) if part is not None)

    def frozen(self) -> bool:
        """Whether training leaves any of their weights as they are."""
        return any(part.trained < part.params for part in self.all())


Coder = tuple[PartCosts, PartCosts]
"""Both directions of an autoencoder: to encode an image, and to decode a sample."""


def _parts(counts: Mapping[str, PartCosts], stage: int) -> Parts:
    """Those of a stage; encoders and adapters are one, or one per stage."""
    return Parts(
        counts.get(f"encoder.{stage}", counts["encoder.0"]),
        counts.get(f"adapter.{stage}", counts.get("adapter.0")),
        counts[f"decoder.{stage}"],
    )


def _coder(counts: Mapping[str, PartCosts]) -> Coder | None:
    if "autoencoder.encode" not in counts:
        return None
    return counts["autoencoder.encode"], counts["autoencoder.decode"]


def _stages(
    parts: Sequence[Parts],
    partition: Partition,
    schedule: Schedule,
    convention: Convention,
    weights: Sequence[Mapping[str, float | None]],
    calls: Sequence[int | None],
) -> tuple[StageCosts, ...]:
    """Costs by stage."""

    def stage(index: int) -> StageCosts:
        own, edges = parts[index], partition.stages[index]
        encoder, decoder = own.encoder.params, own.decoder.params
        whole, first, last = (_by_operator(some, convention) for some in (own.all(), own.all()[:-1], (own.decoder,)))
        macs = sum(part.macs(convention) for part in own.all())
        return StageCosts(
            index=index,
            t=partition.times(schedule)[index],
            ratio=(edges.low, None if math.isinf(edges.high) else edges.high),
            parameters=StageParameters(encoder, decoder, encoder + decoder),
            costs=StageMacs(
                macs - own.decoder.macs(convention), own.decoder.macs(convention), macs, whole, first, last
            ),
            calls=calls[index],
            weights=weights[index],
        )

    return tuple(map(stage, range(len(parts))))


def _by_operator(parts: Iterable[PartCosts], convention: Convention) -> dict[str, int]:
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part.by_operator[convention])
    return dict(found)


def _parameters(
    parts: Sequence[Parts],
    coder: Coder | None,
    recipe: Recipe | None,
    *,
    shared: bool,
    objective: PartCosts | None = None,
) -> Parameters:
    """Of all networks, shared ones once; without a recipe, what Adam and averages would keep."""
    fronts = parts[:1] if shared else parts
    encoder = sum(each.encoder.params for each in fronts)
    adapter = sum(each.adapter.params for each in fronts if each.adapter is not None)
    networks = encoder + adapter + sum(each.decoder.params for each in parts)
    trained = sum(part.trained for each in fronts for part in each.all()[:-1])
    trained += sum(each.decoder.trained for each in parts)
    frozen, own = 0 if coder is None else coder[0].params, 0
    if objective is not None:
        own, trained = objective.params, trained + objective.trained
    kept = held(Training() if recipe is None else recipe.training, networks + own, trained)
    return Parameters(
        total=networks + frozen,
        encoder=encoder,
        other=adapter + frozen,
        shared=encoder + adapter if shared else 0,
        trained=trained,
        ema=kept.ema,
        optimizer=kept.optimizer,
    )


def _autoencoder(coder: Coder | None, convention: Convention) -> AutoencoderCosts | None:
    if coder is None:
        return None
    encode, decode = coder
    return AutoencoderCosts(encode.params, encode.macs(convention), decode.macs(convention))


def _image_flops(recipe: Recipe, parts: Sequence[Parts], *, cache: bool) -> tuple[ImageFlops, ...]:
    """What training really spends on one image of each stage: by exact MACs, whatever the budget's convention."""
    frozen = [each.frozen() for each in parts]
    simulated: Sequence[tuple[int, int] | None] = [None] * len(parts)
    if is_counted(recipe.training, frozen=any(frozen)):
        simulated = _simulated(recipe, cache=cache)
    return tuple(
        image_flops(_sums(own.all())[0], recipe.training, frozen=some, counted=each)
        for own, some, each in zip(parts, frozen, simulated, strict=True)
    )


def _training(
    recipe: Recipe,
    stages: Sequence[StageCosts],
    means: Mapping[str, float | None],
    prices: Sequence[ImageFlops],
    coder: AutoencoderCosts | None,
) -> TrainingCosts:
    options = recipe.training
    images = options.iterations * options.batch_size
    encoded = 0 if coder is None or options.latents is not None else images
    seen = [images * (stage.weights["training"] or 0.0) for stage in stages]
    flops = Flops.of(seen, prices)
    forward = math.fsum(flops.forward)
    return TrainingCosts(
        iterations=options.iterations,
        images=images,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        paper_pflops=options.iterations * (means["sampling"] or 0.0) / 1e15,
        forward_macs=forward / 2,
        forward_flops=forward,
        backward_flops=math.fsum(flops.backward),
        recompute_flops=math.fsum(flops.recompute),
        total_flops=flops.total,
        autoencoder_flops=2 * float(encoded * (0 if coder is None else coder.encode_macs)),
        stages=tuple(
            StageTraining(index, *each)
            for index, each in enumerate(
                zip(seen, flops.forward, flops.backward, flops.recompute, recipe.stage_updates(), strict=True)
            )
        ),
        explanation=_explanation(recipe, stages, means, flops),
        stage_groups=options.groups(options.batch_size),
    )


def _explanation(recipe: Recipe, stages: Sequence[StageCosts], means: Mapping[str, float | None], flops: Flops) -> str:
    """One sentence: where the paper's accounting and the real cost of training differ."""
    call = means["sampling"]
    image = math.fsum(flops.forward) / 2 / (recipe.training.iterations * recipe.training.batch_size)
    if not call or not image:
        return ""
    shares = " / ".join(f"{100 * (stage.weights['training'] or 0):.3g}" for stage in stages)
    where = f", which training draws from the stages by {shares} %," if len(stages) > 1 else ""
    times = math.fsum(flops.backward) / math.fsum(flops.forward)
    back = "twice" if times == 2 else f"{times:.3g} times"
    prefix, size = si_prefix(max(stage.macs for stage in stages))

    def told(macs: float) -> str:
        return f"{significant(macs / size)} {prefix}MACs"

    return (
        f"The paper's PFLOPs are iterations x {told(call)}, the mean sampling call, forward, one image; "
        f"a training image{where} costs {told(image)} forward ({100 * image / call:.0f} % of that), and "
        f"training does that for {recipe.training.batch_size:,} images an iteration, with a backward pass of {back} "
        f"the forward{' and activations computed again' if math.fsum(flops.recompute) else ''}."
    )


def _notes(recipe: Recipe) -> tuple[str, ...]:
    """Which figures rest on defaults, so that nobody takes them for plans."""
    training, sampling, found = recipe.training, recipe.sampling, list[str]()
    plain = Training()
    if (training.iterations, training.batch_size) == (plain.iterations, plain.batch_size):
        found.append(
            f"the length of training, {training.iterations:,} iterations of {training.batch_size} images, is the "
            "default: [training] iterations and batch_size say your own"
        )
    if sampling.steps is None and sampling.nfe is None and sampling.steps_per_stage is None:
        found.append(f"{recipe.steps} steps of sampling are the default: [sampling] steps or nfe say your own")
    return tuple(found)


# --- doubts -----------------------------------------------------------------------------------------------------------


def _uncounted(parts: Sequence[Parts], coder: Coder | None) -> Mapping[str, int]:
    """Operators without a counting rule, and how often one run of each part has them."""
    once = {id(part): part for part in (*(part for each in parts for part in each.all()), *(coder or ()))}
    found: Counter[str] = Counter()
    for part in once.values():
        found.update(part.uncounted)
    return dict(found)


def _sums(parts: Iterable[PartCosts]) -> tuple[int, int]:
    """Exact MACs by fvcore with our rules, and by torch's counter."""
    found = list(parts)
    return sum(part.macs("exact") for part in found), sum(part.second for part in found)


def _audit(parts: Sequence[Parts]) -> Audit:
    first, second = _sums(part for each in parts for part in each.all())
    return Audit(second, (first - second) / max(second, 1))


def _disagreements(parts: Sequence[Parts], coder: Coder | None) -> tuple[str, ...]:
    """Where the two counters differ."""
    places = {f"stage {index}": each.all() for index, each in enumerate(parts)}
    if coder is not None:
        places["the autoencoder"] = coder
    sums = {name: _sums(some) for name, some in places.items()}
    return tuple(
        f"fvcore counts {first:,} exact MACs in {name}, torch's counter {second:,}"
        for name, (first, second) in sums.items()
        if first != second
    )


# --- counts -----------------------------------------------------------------------------------------------------------


def _counted(recipe: Recipe, *, cache: bool) -> dict[str, PartCosts]:
    """Costs of the parts of a recipe by label; equal parts are counted once, and known ones not at all."""
    keys = _keys(recipe)
    first = {label: next(other for other in keys if keys[other] == key) for label, key in keys.items()}
    counts: dict[str, PartCosts] = {}
    if cache:
        recalled = {label: store.recall(keys[label], PartCosts) for label in set(first.values())}
        counts = {label: found for label, found in recalled.items() if found is not None}
    missing = set(first.values()) - counts.keys()
    if missing:
        from msdk.budgeting.parts import count_objective, count_parts
        from msdk.denoiser.building import build

        denoiser = build(recipe, "meta")
        fresh = count_parts(denoiser, recipe.fed, missing)
        if "objective" in missing:
            fresh["objective"] = count_objective(recipe.training.loss, denoiser)
        counts |= fresh
        for label, costs in fresh.items() if cache else ():
            store.keep(keys[label], attrs.asdict(costs))
    return {label: counts[original] for label, original in first.items()}


def _simulated(recipe: Recipe, *, cache: bool) -> Sequence[tuple[int, int]]:
    """Backward and recomputed FLOPs by stage, from a simulated backward pass."""
    options = recipe.training
    key = {"kind": "backward", "parts": _keys(recipe), "augment": options.augment > 0, "recompute": options.recompute}
    known = store.recall(key, tuple[tuple[int, int], ...]) if cache else None
    if known is not None and len(known) == len(recipe.decoders):
        return known
    found = counted(recipe)
    if cache:
        store.keep(key, found)
    return found


def _keys(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Label of a part -> all that its count depends on."""
    encoder = {"shape": recipe.fed, "encoder": _identity(recipe.encoder)}
    keys: dict[str, dict[str, Any]] = {"encoder.0": {"kind": "encoder", **encoder}}
    if recipe.adapter is not None:
        encoder["adapter"] = to_data(recipe.adapter)
        keys["adapter.0"] = {"kind": "adapter", **encoder}
    for index, decoder in enumerate(recipe.decoders):
        keys[f"decoder.{index}"] = {"kind": "decoder", **encoder, "decoder": _identity(decoder)}
    if recipe.sharing == "separate":
        for label in ("encoder", "adapter"):
            if f"{label}.0" in keys:
                keys |= {f"{label}.{index}": keys[f"{label}.0"] for index in range(len(recipe.decoders))}
    if recipe.autoencoder is not None:
        settings = {"shape": recipe.data.shape, "autoencoder": _identity(recipe.autoencoder)}
        keys |= {f"autoencoder.{way}": {"kind": f"autoencoder.{way}", **settings} for way in ("encode", "decode")}
    for label in keys:
        kind, _, index = label.partition(".")
        if index.isdecimal() and recipe.freezes(kind, int(index)):
            keys[label] = {**keys[label], "frozen": True}
    objective = _identity(recipe.training.loss)
    return {**keys, "objective": {"kind": "objective", "objective": objective, "parts": list(keys.values())}}


def _identity(part: object) -> dict[str, Any]:
    """The settings of a part that decide its count, and the code that it is made of."""
    try:
        settings = {key: value for key, value in to_data(part).items() if key != "weights"}
    except UnknownNameError:  # a part of one's own that no recipe can name: known to this process alone
        return {"part": repr(part), "code": store.THIS_PROCESS}
    return {**settings, "code": store.fingerprint(type(part))}


def _trace(recipe: Recipe, *, cache: bool) -> list[Call]:
    """The network calls of the recipe's sampler; their times are remembered, because finding them needs torch."""
    sampler, schedule, steps = recipe.solver, recipe.schedule, recipe.steps
    parts = [_identity(part) for part in (recipe.samplers or (recipe.sampler,))]
    key = {"kind": "calls", "samplers": parts, "schedule": _identity(schedule), "steps": steps}
    if recipe.sampling.steps_per_stage is not None:
        key |= {"steps_per_stage": recipe.sampling.steps_per_stage, "edges": recipe.partition().edges}
    times = store.recall(key, tuple[tuple[float, ...], ...]) if cache else None
    if times is None:
        times = call_times(sampler, schedule, steps)
        if cache:
            store.keep(key, times)
    return recipe.calls(times=times)
