"""`msdk plugin doctor`: every installed plugin, its parts, how long it takes to import, and what is wrong with it.

Each plugin is imported in a process of its own, so that one that ends the program, hangs or is slow shows it there.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs

from msdk.errors import MsdkError, MsdkWarning, PluginError, printable
from msdk.registry import registries
from msdk.registry.discovery import (
    DISTRIBUTION,
    FORMER,
    VARIABLE,
    BrokenPlugin,
    Origin,
    installed_parts,
    mode,
    normalised,
    requirement_of,
    requires_stranger,
    scanned,
    unsuited,
)
from msdk.registry.faults import LONG, PATIENCE
from msdk.registry.kinds import GROUP, KINDS
from msdk.registry.lookup import brought_by, lacking

SLOW = 0.5
"""Seconds of import that are a problem: a recipe that names the part waits for them before its first error."""

MARK = "msdk-plugin-doctor: "
"""Begins the line of the examining process that is its answer; a plugin may print whatever it likes."""


@attrs.frozen
class Finding:
    """Something that is wrong, and what to do."""

    what: str
    fix: str


@attrs.frozen
class Part:
    """A part that a plugin registers.

    Attributes:
        kind: Its kind, in plural; "kinds" where it is a kind itself.
        name: Its name in recipes.
        target: "module:Class".
    """

    kind: str
    name: str
    target: str


@attrs.frozen
class Plugin:
    """What there is to know about an installed plugin.

    Attributes:
        name: Of the distribution.
        version: Its version, empty where it is not known.
        requires: The versions of msdk that it says it is for; None for any.
        parts: What it registers.
        seconds: That importing all of its parts takes beyond msdk; None where nothing could be imported.
        torch: Whether that imports torch.
        findings: What is wrong.
    """

    name: str
    version: str
    requires: str | None
    parts: tuple[Part, ...]
    seconds: float | None
    torch: bool
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """An entry of `msdk plugin doctor --json`."""
        return attrs.asdict(self)


def examine(progress: Callable[[str], None] = lambda name: None) -> list[Plugin]:
    """Every installed plugin, sorted by name, also those that MSDK_PLUGINS switches off.

    Args:
        progress: Told each plugin before it is imported.
    """
    with _all_on():
        return _examined(progress)


@contextlib.contextmanager
def _all_on() -> Generator[None]:
    """Plugins are looked at as if MSDK_PLUGINS were not set, here and in the processes that import them."""
    before = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before


def _examined(progress: Callable[[str], None]) -> list[Plugin]:
    found, broken = scanned()
    parts: dict[str, list[Part]] = {}
    for kind, origins in found.items():
        for origin in origins:
            parts.setdefault(origin.owner, []).append(Part(kind, origin.name, origin.target))
    unread: dict[str, list[Finding]] = {}
    for one in broken:
        fix = f"reinstall '{one.owner}', or tell its author: entry points are lines `name = module:Class`"
        unread.setdefault(one.owner, []).append(Finding(one.reason, fix))
    plugins: list[Plugin] = []
    for name in sorted({*parts, *unread}):
        progress(name)
        own = sorted(parts.get(name, ()), key=lambda part: (part.kind, part.name))
        seconds, torch, findings = _imported(name, own) if own else (None, False, [])
        findings = [*unread.get(name, ()), *_version(name), *_doubtful(name, own), *findings]
        plugins.append(
            Plugin(name, _installed(name), requirement_of(name), tuple(own), seconds, torch, tuple(findings))
        )
    return plugins


def _installed(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


def _version(name: str) -> list[Finding]:
    reason = unsuited(name)
    found = [Finding(reason, f"update '{name}', or install the msdk that it is for")] if reason else []
    if requires_stranger(name):
        what = f"it requires the distribution '{FORMER}', which on the package index is somebody else's"
        found.append(
            Finding(what, f"msdk is '{DISTRIBUTION}' there: update '{name}', or name that in its dependencies")
        )
    return found


def _doubtful(name: str, parts: Sequence[Part]) -> list[Finding]:
    """Names that somebody else has too."""
    found: list[Finding] = []
    known = registries()
    for part in parts:
        others = known[part.kind].owners(part.name) if part.kind in known else []
        owners = [owner for owner in others if normalised(owner) != name]
        if owners:
            found.append(
                Finding(
                    f"the name '{part.name}' of {part.kind} is also owned by {' and '.join(owners)}",
                    f"recipes have to say '{name}:{part.name}'; a name of its own would be better",
                )
            )
    return found


def _imported(name: str, parts: Sequence[Part]) -> tuple[float | None, bool, list[Finding]]:
    """Imports a plugin's parts in another process: seconds, whether torch came along, and what went wrong."""
    if unsuited(name):
        return None, False, []
    asked = json.dumps([[part.kind, part.name] for part in parts])
    command = [sys.executable, "-c", f"from msdk.authoring.doctor import probe; probe({name!r}, {asked!r})"]
    try:
        # The import has its own end; this is that of one which cannot be interrupted.
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE + LONG)
    except subprocess.TimeoutExpired:
        return None, False, [Finding(f"importing it took more than {PATIENCE} s", f"uninstall '{name}', or mend it")]
    answers = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not answers:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return None, False, [Finding(f"importing it ended the process ({last})", f"uninstall '{name}', or mend it")]
    answer = json.loads(answers[-1])
    findings = [
        Finding(text, f"mend or update '{name}'; everything else works without it") for text in answer["errors"]
    ]
    if answer["seconds"] > SLOW:
        cause = ", and imports torch" if answer["torch"] else ""
        findings.append(
            Finding(
                f"importing it takes {answer['seconds']:.1f} s{cause}",
                "import what is heavy inside `build`, so that recipes are checked without it",
            )
        )
    return answer["seconds"], answer["torch"], findings


def probe(name: str, asked: str) -> None:
    """Looks up the parts of a plugin in this process, and prints what came of it; for `examine`."""
    for kind in KINDS:
        importlib.import_module(f"msdk.{kind}.base")
    kinds = {origin.name: origin for origin in installed_parts()[0].get(GROUP, ())}
    for origin in kinds.values():
        if origin.owner != name:  # what others take to import is theirs
            brought_by(origin)
    errors: list[str] = []
    seconds = 0.0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", MsdkWarning)
        for kind, part in sorted(json.loads(asked), key=lambda each: each[0] != GROUP):
            begun = time.perf_counter()
            errors += _faults_of_kind(kinds[part]) if kind == GROUP else _faults(name, kind, part)
            seconds += time.perf_counter() - begun
    errors += dict.fromkeys(str(each.message) for each in told if issubclass(each.category, MsdkWarning))
    print("\n" + MARK + json.dumps({"seconds": seconds, "torch": "torch" in sys.modules, "errors": errors}), flush=True)


def _faults(owner: str, kind: str, name: str) -> list[str]:
    """What is wrong with a part."""
    known = registries()
    if kind not in known:
        return [f"'{name}' is of the kind '{kind}', which cannot be imported"]
    try:
        cls: Any = known[kind].get(f"{owner}:{name}")
    except PluginError as error:
        return [printable(error.what)]  # the doctor says the fix
    except MsdkError as error:
        return [str(error)]
    return _lacking(cls, kind, name)


def _faults_of_kind(origin: Origin) -> list[str]:
    """What is wrong with a kind that a plugin brings, and with the parts that come with it."""
    registry = brought_by(origin)
    if isinstance(registry, BrokenPlugin):
        return [registry.reason]
    record = registry.record
    try:
        base = registry.base()
    except Exception as error:
        return [f"the base of the kind '{origin.name}' cannot be loaded from {record.base}: {_told(error)}"]
    found = [fault for name in registry.own_names() for fault in _faults(origin.owner, origin.name, name)]
    if f"{base.__module__}:{base.__qualname__}" != record.base:
        found.append(f"the base of the kind '{origin.name}' is {base.__module__}:{base.__qualname__}: name it so")
    if importlib.util.find_spec(record.template.partition(":")[0]) is None:
        found.append(f"the template {record.template} of the kind '{origin.name}' is not there")
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _lacking(cls: Any, kind: str, name: str) -> list[str]:
    """What a class has not that a recipe needs of every part of its kind."""
    return [f"'{name}' of {kind} ({cls.__module__}.{cls.__qualname__}) {what}" for what in lacking(cls)]


def switched() -> str | None:
    """What MSDK_PLUGINS changes, in words; None where it changes nothing."""
    return {
        "on": None,
        "off": "MSDK_PLUGINS=off: plugins are installed, but none is used",
        "strict": "MSDK_PLUGINS=strict: a plugin that cannot be read stops everything",
    }[mode()]
