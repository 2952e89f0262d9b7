"""Would the tests notice? Small random mistakes are written into msdk, one by one, and the place's fast tests run.

A mutant is a copy of the project in which one place of msdk's own code says something else: another operator, a number
beside the right one, a condition turned round, a statement, keyword or dictionary entry left out. Places are drawn
uniformly by a seed; messages, docstrings and annotations are left alone. Torch is imported once, in the process that
forks for each mutant. A test that fails here and passes without the change has caught it, and so has the time limit.
Survivors are printed as a diff; those that no test can tell are in `EQUIVALENT`, with the reason. Aim, never asserted:
95 % of 200.

    python benchmarks/bench_mutants.py --map map.jsonl --record tests
    python benchmarks/bench_mutants.py --map map.jsonl --keys benchmarks/mutants.txt --out mutants.jsonl

The first call, repeated until it says that nothing is left, notes which lines each fast test executes and how long it
takes: a mutant then meets the tests that reach its place, the quickest and nearest first, for `--seconds`. Without a
map it meets all tests of its room, which takes minutes. The second call goes on where it stopped, and `--again` tries
the survivors once more. The keys, drawn by `--runs 200 --seed 0`, are the same mutants when msdk changes a little.
"""

import argparse
import ast
import contextlib
import copy
import difflib
import functools
import importlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HOME = Path(__file__).resolve().parents[1]
NETWORKS = ["tests/encoders", "tests/denoiser", "tests/autoencoders", "tests/pretrained", "tests/test_families.py"]
TESTS: dict[str, list[str]] = {
    "authoring": ["tests/authoring"],
    "autoencoders": ["tests/autoencoders", "tests/pretrained/test_autoencoders.py"],
    "cache": ["tests/test_cache.py"],
    "budgeting": ["tests/budgeting", "tests/cli/test_budgets.py", "tests/test_shipped.py"],
    "cli": ["tests/cli", "tests/sampling", "tests/report", "tests/clustering"],
    "clustering": ["tests/clustering", "tests/clusterings"],
    "clusterings": ["tests/clusterings", "tests/clustering"],
    "combinations": ["tests/combinations", "tests/testing"],
    "datasets": ["tests/datasets", "tests/training/test_labels.py"],
    "decoders": NETWORKS,
    "denoiser": ["tests/denoiser", "tests/training/test_training.py", "tests/runs", "tests/pretrained"],
    "encoders": NETWORKS,
    "layers": NETWORKS,
    "lr_schedules": ["tests/training"],
    "noise_levels": ["tests/noise_levels", "tests/training"],
    "objectives": ["tests/objectives", "tests/training"],
    "optimizers": ["tests/training"],
    "parameterizations": ["tests/parameterizations", "tests/denoiser", "tests/pretrained"],
    "pretrained": ["tests/pretrained"],
    "recipe": ["tests/recipe", "tests/registry", "tests/cli"],
    "registry": ["tests/registry", "tests/authoring", "tests/recipe", "tests/cli"],
    "report": ["tests/report", "tests/cli"],
    "runs": ["tests/runs", "tests/training", "tests/cli"],
    "samplers": ["tests/samplers"],
    "sampling": ["tests/sampling", "tests/samplers", "tests/cli"],
    "schedules": ["tests/schedules", "tests/samplers", "tests/denoiser"],
    "testing": ["tests/testing"],
    "trackers": ["tests/trackers", "tests/training"],
    "training": ["tests/training", "tests/runs", "tests/objectives"],
    "weightings": ["tests/weightings", "tests/training"],
    "wrappers": ["tests/wrappers", "tests/sampling"],
}
"""The tests of a room; parts keep the laws of their kind besides, and loose modules run the loose tests."""
LOOSE = [
    "tests/test_batch.py",
    "tests/test_partition.py",
    "tests/test_threads.py",
    "tests/test_public.py",
    "tests/test_retired.py",
    "tests/cli",
    "tests/training",
    "tests/sampling",
    "tests/recipe",
]
EQUIVALENT: dict[str, str] = {
    "msdk.datasets.shards: differs = next(((a, b) for a, b in zip(names, longest, strict=False) if a != b), None)"
    " -> differs = next(((a, b) for a, b in (zip(names, longest)) if a != b), None)": "strict=False is the default",
    "msdk.report.runs: zip(ledger.images_by_stage, ledger.forward_macs_by_stage, "
    'training["loss_by_stage"], strict=True)'
    " -> (zip(ledger.images_by_stage, ledger.forward_macs_by_stage, training['loss_by_stage']))": (
        "one entry a stage in all three: an assertion of ours that nothing can trip"
    ),
    "msdk.autoencoders.conv_net: for block, attend in zip(self.blocks, self.attentions, strict=True):"
    " -> for block, attend in zip(self.blocks, self.attentions, strict=False):": (
        "both are made side by side: an assertion of ours that nothing can trip"
    ),
    'msdk.report.page: "flops",'
    " -> 'flopsx',": "the key joins a button and its figure in the page, both written from here; any name does",
}
"""Mutants that no test can tell from the original, by module, line of old code and line of new code: why."""

OTHER: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}


QUIET = ("--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning")
FATES = ("survived", "caught", "broken")


class Mutant(NamedTuple):
    module: str
    line: int
    old: str
    new: str
    source: str

    @property
    def key(self) -> str:
        """What is the same for the same change, wherever its line stands."""
        return f"{self.module}: {self.old.strip()} -> {self.new.strip()}"


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand at this place by mistake."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in OTHER:
            yield ast.BinOp(left, OTHER[type(op)](), right)
        case ast.Compare(left, ops, comparators):
            yield ast.Compare(left, [OTHER[type(ops[0])](), *ops[1:]], comparators)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(OTHER[type(op)](), values)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(float() as value):
            yield ast.Constant(value * 1.25 if value else 0.125)
        case ast.Constant(str() as value) if value and not any(letter.isspace() for letter in value):
            yield ast.Constant(value + "x")
        case ast.Call(ast.Name(name), args, keywords) if name in OPPOSITE:
            yield ast.Call(ast.Name(OPPOSITE[name]), args, keywords)
        case ast.Call(ast.Attribute(value, name), args, keywords) if name in OPPOSITE:
            yield ast.Call(ast.Attribute(value, OPPOSITE[name]), args, keywords)
        case ast.Call(function, args, [*_, ast.keyword(arg=str()) as last]) if len(args) + len(node.keywords) > 1:
            yield ast.Call(function, args, [keyword for keyword in node.keywords if keyword is not last])
        case ast.Dict(keys, values) if len(keys) > 1:
            yield ast.Dict(keys[:-1], values[:-1])
        case _:
            return


def statements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Expr(ast.Call()):
            yield ast.Pass()
        case ast.AugAssign(target, op, value) if type(op) in OTHER:
            yield ast.AugAssign(target, OTHER[type(op)](), value)
        case _:
            return


def spoken(node: ast.AST) -> bool:
    """Is this for readers or for the type checker, and not for the program?"""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.Expr(ast.Constant()):
            return True
        case ast.Call(ast.Name(name)) if name.endswith("Error") or name in ("TypeVar", "cast"):
            return True
        case ast.If(ast.Name("TYPE_CHECKING")):
            return True
        case ast.Assign([ast.Name("__all__")]):
            return True
        case _:
            return False


def places(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Every place below this node, with what could stand there instead."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment", "type_params", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or spoken(child):
                continue
            if isinstance(child, (ast.If, ast.While)):
                yield child.test, ast.UnaryOp(ast.Not(), child.test)
            for other in [*expressions(child), *statements(child)]:
                yield child, other
            yield from places(child)


def mutant(path: Path, place: ast.AST, other: ast.AST) -> Mutant:
    """One file with something else at one place."""
    assert isinstance(place, ast.expr | ast.stmt)
    assert place.end_lineno is not None
    assert place.end_col_offset is not None
    source = path.read_text(encoding="utf-8")
    lines = [0, *itertools.accumulate(len(line) for line in source.encode().splitlines(keepends=True))]
    begin, end = lines[place.lineno - 1] + place.col_offset, lines[place.end_lineno - 1] + place.end_col_offset
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(other)))
    text = text if isinstance(other, ast.stmt | ast.Constant) else f"({text})"
    changed = (source.encode()[:begin] + text.encode() + source.encode()[end:]).decode()
    number = place.lineno - 1
    return Mutant(module_of(path), place.lineno, source.splitlines()[number], changed.splitlines()[number], changed)


def found(only: str = "") -> list[tuple[Path, ast.AST, ast.AST]]:
    """Every place of the modules that begin so, with what could stand there."""
    files = sorted(path for path in (HOME / "msdk").rglob("*.py") if "templates" not in path.parts)
    files = [path for path in files if path.name not in ("retired.py", "__main__.py") and "testing" not in path.parts]
    files = [path for path in files if ".".join(path.relative_to(HOME).parts).startswith(only)]
    return [(path, *pair) for path in files for pair in places(ast.parse(path.read_text(encoding="utf-8")))]


def drawn(count: int, seed: int, only: str = "") -> list[Mutant]:
    """So many mutants, each place as likely as any other."""
    all_places = found(only)
    print(f"{len(all_places)} places in {len({path for path, *_ in all_places})} files", file=sys.stderr)
    return [mutant(*one) for one in random.Random(seed).sample(all_places, min(count, len(all_places)))]


def kept(keys: list[str]) -> list[Mutant]:
    """The mutants of these keys, those left out whose place the source no longer has."""
    wanted = dict.fromkeys(keys)
    begins = {(module, change.partition(" -> ")[0]) for module, _, change in (key.partition(": ") for key in keys)}
    lines = functools.cache(lambda path: path.read_text(encoding="utf-8").splitlines())
    by_key: dict[str, Mutant] = {}
    for path, place, other in found():
        assert isinstance(place, ast.expr | ast.stmt)
        if (module_of(path), lines(path)[place.lineno - 1].strip().partition(" -> ")[0]) in begins:
            one = mutant(path, place, other)
            by_key.setdefault(one.key, one)
    for key in wanted:
        if key not in by_key:
            print(f"no longer there: {key}", file=sys.stderr)
    return [by_key[key] for key in wanted if key in by_key]


def tests_of(module: str) -> list[list[str]]:
    """The runs of pytest that belong to a module, in their order."""
    from msdk.registry.kinds import KINDS

    room = module.split(".")[1] if module.count(".") > 1 else ""
    stem = module.rsplit(".", 1)[-1]
    folders = TESTS.get(room, LOOSE if not room else [])
    near = [
        str(path.relative_to(HOME)) for folder in folders for path in sorted((HOME / folder).glob(f"test_{stem}*.py"))
    ]
    runs = [near] if near else []
    if room in KINDS:
        runs.append(["tests/testing/test_built_ins.py", "-k", room])
    return [*runs, folders]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__")


def path_of(module: str) -> Path:
    place = HOME.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def overlaid(mutant: Mutant, folder: Path) -> None:
    """The project once more, by hard links, but for the one file that is another."""
    left_out = shutil.ignore_patterns(".git", ".venv", "*.egg-info", ".pytest_cache", ".ruff_cache", ".hypothesis")
    shutil.copytree(HOME, folder, copy_function=os.link, ignore=left_out)
    file = folder / path_of(mutant.module).relative_to(HOME)
    file.unlink()
    file.write_text(mutant.source, encoding="utf-8")


STARTED = """
import atexit, importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("bench_mutants", {bench!r})
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
recorder = bench.Recorder(pathlib.Path(), set(), 0.0)
here = pathlib.Path(__file__).parent
atexit.register(recorder.tell, here)
recorder.follow(here)
"""
"""What a Python that a test starts runs first."""


SLOWEST = 6.0
"""Seconds of processor time: tests that take longer are stopped, and left out of the map."""


def stopped(signum: int, frame: object) -> None:
    raise TimeoutError(f"the test takes longer than {SLOWEST} s")


def spent() -> float:
    """Seconds of processor time, with the processes that have ended."""
    return sum(os.times()[:4])


class Recorder:
    """A plugin of pytest that writes a line for each test: which lines of msdk it executes, and its seconds.

    What a fixture of several tests executes counts for each of them, and so do the processes that a test starts.
    """

    def __init__(self, file: Path, known: set[str], until: float) -> None:
        self.file, self.known, self.until = file, known, until
        self.lines: set[tuple[str, int]] = set()
        self.calls: dict[Any, int] = {}
        self.shared: dict[tuple[str, str], tuple[set[tuple[str, int]], float]] = {}
        self.in_shared = 0.0
        self.failed: set[str] = set()
        self.begins = f"{HOME / 'msdk'}{os.sep}"
        self.leave = os._exit

    def trace(self, frame: Any, event: str, argument: object) -> Any:
        code = frame.f_code
        name = code.co_filename
        if name.startswith("<attrs generated") and code.co_name == "__init__":
            self.lines.add((name[:-1].rsplit(" ", 1)[1], 0))
            return None
        if not name.startswith(self.begins) or not code.co_flags & 1:  # no function: executed at import
            return None
        self.calls[code] = calls = self.calls.get(code, 0) + 1
        return self.line(frame, event, argument) if calls < 50 else None

    def line(self, frame: Any, event: str, argument: object) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.known]
        print(f"{len(items)} tests left to record", file=sys.stderr)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        outer, self.lines, begun = self.lines, set(), spent()
        try:
            return (yield)
        finally:
            seconds = spent() - begun
            self.in_shared += seconds
            self.shared[fixturedef.baseid, fixturedef.argname] = (self.lines, seconds)
            self.lines = outer

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome != "passed":
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        if time.monotonic() > self.until:
            item.session.shouldstop = "the time is up"
            return (yield)
        self.lines, self.in_shared = set(), 0.0
        self.calls.clear()
        self.write(item.nodeid, 0.0, passed=False)  # until it has ended: stopping it may end this process
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            started = Path(folder)
            (started / "sitecustomize.py").write_text(STARTED.format(bench=str(Path(__file__).resolve())))
            patch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
            self.follow(started)
            begun = spent()
            signal.setitimer(signal.ITIMER_PROF, SLOWEST)
            try:
                return (yield)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                sys.settrace(None)
                threading.settrace(None)  # pyright: ignore[reportArgumentType]
                os._exit = self.leave
                seconds = spent() - begun - self.in_shared
                told = [json.loads(file.read_text()) for file in started.glob("*.lines")]
                self.told(item, seconds, self.lines.union(*(map(tuple, lines) for lines in told)))

    def follow(self, started: Path) -> None:
        """Trace this process; those that it forks tell their lines here when they leave."""
        process = os.getpid()

        def leaving(status: int) -> None:
            if os.getpid() != process:
                self.tell(started)
            self.leave(status)

        os._exit = leaving
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def tell(self, started: Path) -> None:
        sys.settrace(None)
        if started.is_dir():
            (started / f"{os.getpid()}.lines").write_text(json.dumps(sorted(self.lines)))

    def told(self, item: Any, seconds: float, lines: set[tuple[str, int]]) -> None:
        """Write what a test and its fixtures executed."""
        for name in item.fixturenames:
            for fixture in item._fixtureinfo.name2fixturedefs.get(name, ()):
                more, longer = self.shared.get((fixture.baseid, name), (set(), 0.0))
                lines |= more
                seconds += longer
        self.write(item.nodeid, seconds, passed=item.nodeid not in self.failed, lines=lines)

    def write(self, test: str, seconds: float, *, passed: bool, lines: Iterable[tuple[str, int]] = ()) -> None:
        masks: dict[str, int] = {}
        for name, line in lines:
            name = module_of(Path(name)) if line else name
            masks[name] = masks.get(name, 0) | 1 << line
        told = {name: f"{mask:x}" for name, mask in sorted(masks.items())}
        one = {"test": test, "seconds": round(seconds, 2), "passed": passed, "lines": told}
        with self.file.open("a") as file:
            file.write(json.dumps(one) + "\n")


def record(tests: list[str], file: Path, minutes: float) -> None:
    """Write the map of tests that are not in it yet."""
    known = {json.loads(line)["test"] for line in file.read_text().splitlines()} if file.exists() else set()
    recorder = Recorder(file, known, time.monotonic() + minutes * 60)
    signal.signal(signal.SIGPROF, stopped)
    os.chdir(HOME)
    sys.path.insert(0, str(HOME))
    pytest.main([*tests, "-q", "-p", "no:cacheprovider", "-m", "not slow", *QUIET], plugins=[recorder])


class Reached(NamedTuple):
    """A test of the map."""

    test: str
    seconds: float
    lines: dict[str, int]


class Map:
    """Which tests reach which lines."""

    def __init__(self, file: Path) -> None:
        told = [json.loads(line) for line in file.read_text().splitlines()]
        last = {one["test"]: one for one in told}.values()
        self.passed = {one["test"] for one in last if one["passed"]}
        self.tests = [
            Reached(
                one["test"],
                one["seconds"] if one["passed"] else max(2 * SLOWEST, one["seconds"]),  # it was stopped, or failed
                {name: int(mask, 16) for name, mask in one["lines"].items()},
            )
            for one in last
            if one["lines"]
        ]
        self.sources = {module_of(path): path.read_text(encoding="utf-8") for path in (HOME / "msdk").rglob("*.py")}
        self.words: dict[str, str] = {}
        for path in (HOME / "tests").rglob("test_*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef):
                    self.words[f"{path.relative_to(HOME)}::{node.name}"] = ast.get_source_segment(text, node) or ""

    def naming(self, names: list[str]) -> set[str]:
        """Tests that say one of these names."""
        word = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
        return {test for test, text in self.words.items() if names and word.search(text)}

    def mentions(self, name: str) -> dict[str, int]:
        """Lines of msdk that say this name."""
        word = re.compile(rf"\b{re.escape(name)}\b")
        found = {
            module: [n for n, line in enumerate(source.splitlines(), 1) if word.search(line)]
            for module, source in self.sources.items()
            if name in source
        }
        return {module: sum(1 << line for line in lines) for module, lines in found.items() if lines}

    def around(self, mutant: Mutant) -> list[ast.stmt]:
        """Classes, functions and statements that a mutant stands in, the innermost last."""
        return [
            node
            for node in ast.walk(ast.parse(self.sources[mutant.module]))
            if isinstance(node, ast.stmt) and node.lineno <= mutant.line <= (node.end_lineno or 0)
        ]

    def sought(self, mutant: Mutant, chain: list[ast.stmt]) -> Iterator[dict[str, int]]:
        """Lines that a test should reach, the most telling first."""
        inner = chain[-1]
        functions = [node for node in chain if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        classes = [node.name for node in chain if isinstance(node, ast.ClassDef)]
        if functions:
            body = functions[-1].body
            if mutant.line >= body[0].lineno:
                yield {mutant.module: 1 << mutant.line}
                yield {mutant.module: span(inner.lineno, inner.end_lineno or 0)}
            yield {mutant.module: span(body[0].lineno, body[-1].end_lineno or 0)}
        else:
            stored = [
                node for node in ast.walk(inner) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            ]
            mentions = [self.mentions(node.id) for node in stored]
            yield {mutant.module: functools.reduce(int.__or__, (lines.get(mutant.module, 0) for lines in mentions), 0)}
            yield {f"{mutant.module}.{'.'.join(classes)}": 1}
            yield from mentions
        yield {mutant.module: -1}

    def chosen(self, mutant: Mutant, seconds: float) -> list[str]:
        """The tests for a mutant: those that reach its place, near and quick ones first, then those of its room."""
        near = tuple(itertools.chain(*tests_of(mutant.module)))
        left, telling, taken = {one.test: one for one in self.tests}, [], 0.0
        chain = self.around(mutant)
        names = [node.name for node in chain if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        naming = self.naming([name for name in names if not name.startswith("__")])

        def order(one: Reached) -> float:
            named = one.test.partition("[")[0] in naming
            return one.seconds * (0.2 if one.test.startswith(near) else 1) * (0.2 if named else 1)

        groups = [
            [one for one in self.tests if any(one.lines.get(name, 0) & mask for name, mask in lines.items())]
            for lines in self.sought(mutant, chain)
        ]
        about = [one for one in self.tests if one.test.startswith(near)]
        groups.insert(0, [one for one in about if one.test.partition("[")[0] in naming and one.seconds < 1])
        groups.append(about)
        for group in groups:
            for one in sorted(group, key=order):
                if one.test in left and (taken + one.seconds <= seconds or not telling):
                    telling.append(left.pop(one.test))
                    taken += one.seconds
        files = dict.fromkeys(one.test.partition("::")[0] for one in telling)
        return [one.test for file in files for one in telling if one.test.partition("::")[0] == file]


def span(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


def tried(folder: Path, runs: list[list[str]], out: Path) -> None:
    """In a process of its own: run the tests until one fails, and leave by a status that says so."""
    os.setsid()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sources = [str(folder), *(str(path) for path in (folder / "plugins").glob("*/src"))]
    os.environ["PYTHONPATH"] = os.pathsep.join(sources)
    sys.path[:0] = sources[1:]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("msdk", "tests")]:
        del sys.modules[name]
    with out.open("w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        for run in runs:
            status = pytest.main([*run, "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *QUIET])
            said.flush()
            if status not in (0, 5):
                os._exit(1)
    os._exit(0)


PRELOADED = (
    *("attrs", "beartype", "cattrs", "cyclopts", "fvcore.nn", "hypothesis", "jaxtyping", "numpy", "PIL.Image"),
    *("rich", "timm.layers", "torch._dynamo", "torch.utils.flop_counter"),
)


def preloaded() -> None:
    """What every test imports, once: all but msdk itself."""
    import torch

    with contextlib.redirect_stderr(io.StringIO()):
        for name in PRELOADED:
            importlib.import_module(name)
    torch.set_num_threads(1)


class Try(NamedTuple):
    """A process that is trying a mutant, or, once a test failed, whether that test passes without the change."""

    mutant: Mutant
    folder: Path
    begun: float
    failed: str = ""


def begin(one: Try, runs: list[list[str]]) -> int:
    overlaid(one.mutant, one.folder)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            tried(one.folder, runs, one.folder.with_suffix(".txt"))
        os._exit(2)
    return child


def measure(
    mutants: list[Mutant],
    processes: int,
    limit: float,
    until: float,
    runs_of: Callable[[Mutant], list[list[str]]],
    sound: set[str],
) -> Iterator[dict[str, Any]]:
    """Each mutant's fate, as they come; none is begun after the time that is given. Sound tests are tried no more."""
    waiting = list(reversed(mutants))
    working: dict[int, Try] = {}
    with tempfile.TemporaryDirectory(prefix="mutants") as place:
        while True:
            while waiting and len(working) < processes and time.monotonic() < until:
                one = Try(waiting.pop(), Path(place) / f"{len(waiting)}", time.monotonic())
                working[begin(one, runs_of(one.mutant))] = one
            if not working:
                return
            child, status = os.waitpid(-1, os.WNOHANG)
            for late, one in working.items():
                if time.monotonic() - one.begun > limit:
                    os.killpg(late, signal.SIGKILL)
            if not child:
                time.sleep(0.05)
                continue
            one = working.pop(child)
            file = one.folder.with_suffix(".txt")
            said = file.read_text(errors="replace") if file.exists() else ""
            shutil.rmtree(one.folder)
            fate = "late" if os.WIFSIGNALED(status) else FATES[os.waitstatus_to_exitcode(status)]
            if one.failed:
                fate = "caught" if fate == "survived" else "broken"
                sound |= {one.failed} if fate == "caught" else set()
            found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", said, re.MULTILINE)
            by = one.failed or (found[1] if found else "")
            if fate == "caught" and not one.failed and by not in sound:
                unchanged = one.mutant._replace(source=path_of(one.mutant.module).read_text())
                control = Try(unchanged, one.folder, one.begun, by)
                run = [by] if "::" in by else [by, "--collect-only"]
                working[begin(control, [run])] = control
                continue
            seconds = round(time.monotonic() - one.begun, 1)
            yield {"key": one.mutant.key, "line": one.mutant.line, "fate": fate, "seconds": seconds, "by": by}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules that begin so, such as msdk.samplers")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--limit", type=float, default=180, help="seconds for one mutant; one that takes longer is caught"
    )
    parser.add_argument("--minutes", type=float, default=60, help="begin none after so long")
    parser.add_argument("--out", type=Path, help="a file of fates, one a line, that a later call goes on with")
    parser.add_argument("--again", action="store_true", help="try the survivors in the file once more")
    parser.add_argument("--map", type=Path, help="a file of the lines that each test reaches")
    parser.add_argument(
        "--record", nargs="+", metavar="TESTS", help="write the map of these tests, as far as time goes"
    )
    parser.add_argument("--seconds", type=float, default=45, help="of tests for one mutant, with a map")
    parser.add_argument("--keys", type=Path, help="a file of the mutants to try: written by the draw if there is none")
    parser.add_argument("--show", action="store_true", help="print the mutants, run nothing")
    asked = parser.parse_args()
    if asked.record:
        preloaded()
        record(asked.record, asked.map, asked.minutes)
        return
    if asked.keys is not None and asked.keys.exists():
        chosen = [
            mutant for mutant in kept(asked.keys.read_text().splitlines()) if mutant.module.startswith(asked.only)
        ]
    else:
        chosen = drawn(asked.runs, asked.seed, asked.only)
    if asked.keys is not None and not asked.keys.exists():
        asked.keys.write_text("".join(f"{mutant.key}\n" for mutant in chosen))
    by_place = None if asked.map is None else Map(asked.map)

    def runs_of(mutant: Mutant) -> list[list[str]]:
        return tests_of(mutant.module) if by_place is None else [by_place.chosen(mutant, asked.seconds)]

    if asked.show:
        for mutant in chosen:
            print(f"{mutant.module}:{mutant.line}\n{shown(mutant)}")
            if by_place is not None:
                print(*runs_of(mutant)[0], sep="\n")
        return
    known: dict[str, dict[str, Any]] = {}
    if asked.out is not None and asked.out.exists():
        known = {fate["key"]: fate for fate in map(json.loads, asked.out.read_text().splitlines())}
    left = [mutant for mutant in chosen if mutant.key not in EQUIVALENT]
    left = [m for m in left if m.key not in known or (asked.again and known[m.key]["fate"] == "survived")]
    preloaded()
    by_key = {mutant.key: mutant for mutant in left}
    until = time.monotonic() + asked.minutes * 60
    # Tests of the map passed when it was made.
    sound = {fate["by"] for fate in known.values() if fate["fate"] == "caught"} | (
        by_place.passed if by_place else set()
    )
    fates = measure(left, asked.processes, asked.limit, until, runs_of, sound)
    for number, fate in enumerate(fates, start=1):
        known[fate["key"]] = fate
        if asked.out is not None:
            with asked.out.open("a") as file:
                file.write(json.dumps(fate) + "\n")
        print(
            f"{number}/{len(left)} {fate['fate']} in {fate['seconds']} s: {fate['key'].partition(':')[0]}",
            file=sys.stderr,
        )
        if fate["fate"] == "survived":
            print(f"{fate['key'].partition(':')[0]}:{fate['line']}\n{shown(by_key[fate['key']])}", file=sys.stderr)
    fates = [known[mutant.key]["fate"] for mutant in chosen if mutant.key in known and mutant.key not in EQUIVALENT]
    same = sum(mutant.key in EQUIVALENT for mutant in chosen)
    caught = fates.count("caught") + fates.count("late")
    share = caught / len(fates) if fates else 0.0
    total = {"mutants": len(chosen), "tried": len(fates), "caught": caught, "late": fates.count("late")}
    print(json.dumps({"results": total | {"equivalent": same, "share": round(share, 4)}, "seed": asked.seed}))


def shown(mutant: Mutant) -> str:
    """The change, as a diff of its lines."""
    lines = difflib.unified_diff(
        path_of(mutant.module).read_text().splitlines(), mutant.source.splitlines(), n=2, lineterm=""
    )
    return "\n".join(list(lines)[3:])


if __name__ == "__main__":
    main()
