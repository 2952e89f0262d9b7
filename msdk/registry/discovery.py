"""Parts of installed packages: found by their entry points, without importing them.

An entry point in the group `msdk.<kind>` names a part, one in `msdk.kinds` a kind that the package brings. The
`entrypoints` package reads them; what it gives up on is read again here, so that a package that is broken costs only
itself.
"""

import configparser
import contextlib
import functools
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import attrs

from msdk.errors import PluginError, nearest
from msdk.registry.kinds import GROUP, KINDS

VARIABLE = "MSDK_PLUGINS"

DISTRIBUTION = "msdk-diffusion"
"""What is installed to have msdk."""

FORMER = "msdk"
"""What that was called before its first release. The package index knows somebody else's package by this name."""


@attrs.frozen
class Origin:
    """Where a registered name comes from.

    Attributes:
        name: The registered name, without an owner.
        owner: `"msdk"`, the name of an installed distribution, or the module that called `add`.
        target: `"module:Class"`.
        version: Version of the distribution, empty for parts added by the running program.
    """

    name: str
    owner: str
    target: str
    version: str = ""


@attrs.frozen
class BrokenPlugin:
    """An installed distribution whose declarations could not be read, and why.

    Attributes:
        owner: Its name.
        reason: What is wrong.
        ours: Whether it means to be a plugin of msdk; what strangers break only `msdk plugin doctor` tells.
    """

    owner: str
    reason: str
    ours: bool = True


def mode() -> Literal["on", "off", "strict"]:
    """What the variable MSDK_PLUGINS asks for: "off" leaves all out, "strict" refuses to go on beside a broken one.

    Raises:
        PluginError: It asks for something else.
    """
    asked = os.environ.get(VARIABLE, "on") or "on"
    for known in ("on", "off", "strict"):
        if asked == known:
            return known
    raise PluginError(f"{VARIABLE} is {asked!r}: set it to on, off or strict.{nearest(asked, ('on', 'off', 'strict'))}")


def installed_parts() -> tuple[dict[str, list[Origin]], list[BrokenPlugin]]:
    """Parts of installed packages by kind, and packages that could not be read. Imports none of them.

    What packages bring under the kind "kinds" are kinds themselves.

    Raises:
        PluginError: MSDK_PLUGINS is "strict" and a package could not be read.
    """
    asked = mode()
    if asked == "off":
        return {}, []
    parts, every = scanned()
    broken = [one for one in every if one.ours]
    if broken and asked == "strict":
        told = "; ".join(f"{one.owner}: {one.reason}" for one in broken)
        raise PluginError(f"{VARIABLE} is strict, and these plugins are broken: {told}. `msdk plugin doctor` has more.")
    return parts, broken


@functools.cache
def scanned() -> tuple[dict[str, list[Origin]], list[BrokenPlugin]]:
    """Scans the path once for entry points in `msdk.*` groups.

    The scan goes folder by folder, because one malformed `entry_points.txt` makes the `entrypoints` package give up on
    everything after it; a folder that fails is read again one distribution at a time.
    """
    found: list[tuple[str, Origin]] = []
    broken: list[BrokenPlugin] = []
    seen: set[str] = set()
    for folder in dict.fromkeys(sys.path):
        try:
            here = list(_scan(folder))
        except Exception:  # a stranger's file: parser, encoding and interpolation errors alike
            here = list(_scan_slowly(folder, broken))
        # A copy further down the path is shadowed, as in an import.
        found += [(kind, origin) for kind, origin in here if origin.owner not in {*seen, FORMER, DISTRIBUTION}]
        seen |= {origin.owner for _, origin in here}
    kinds = [GROUP, *KINDS, *(origin.name for kind, origin in found if kind == GROUP)]
    parts: dict[str, list[Origin]] = {}
    for kind, origin in found:
        reason = _wrong(kind, origin, kinds, parts.get(kind, ()))
        if reason:
            broken.append(BrokenPlugin(origin.owner, reason))
        elif not any(_alike(origin, other) for other in parts.setdefault(kind, [])):
            parts[kind].append(origin)
    return parts, list(dict.fromkeys(broken))


def _wrong(kind: str, origin: Origin, kinds: Sequence[str], before: Sequence[Origin]) -> str | None:
    """Why an entry point cannot be used, beside those found before it; None where it can."""
    if kind not in kinds:
        return f"no kind of part '{kind}' (group msdk.{kind}){nearest(kind, kinds)}"
    if not re.fullmatch(r"[\w.]+:[\w.]+", origin.target):
        return f"'{origin.name} = {origin.target}' is not of the form module:Class"
    if kind == GROUP and origin.name in (GROUP, *KINDS):
        return f"it brings a kind '{origin.name}', and msdk has one of that name: choose another"
    for other in before:
        if other.name == origin.name and other.owner == origin.owner and other.target != origin.target:
            return f"'{origin.name}' is both {other.target} and {origin.target}: install it again"  # of two versions
        if other.name == origin.name and other.owner != origin.owner and kind == GROUP:
            return f"it brings a kind '{origin.name}', as '{other.owner}' does: uninstall one of them"
    return None


def _alike(one: Origin, other: Origin) -> bool:
    """Whether two entry points differ by the version of their distribution at most."""
    return (one.owner, one.name, one.target) == (other.owner, other.name, other.target)


def _scan(folder: str) -> Iterator[tuple[str, Origin]]:
    """Kind and origin of each msdk entry point in one folder of the path."""
    import entrypoints  # 40 ms, and only listings and lookups need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of strangers' entry points that are not ours to judge
        for config, distribution in entrypoints.iter_files_distros(path=[folder]):
            if distribution is not None:
                yield from _points(config, distribution.name, distribution.version)


def _scan_slowly(folder: str, broken: list[BrokenPlugin]) -> Iterator[tuple[str, Origin]]:
    """The same, one distribution at a time, noting those that cannot be read."""
    import importlib.metadata

    import entrypoints

    for distribution in importlib.metadata.distributions(path=[folder]):
        # Its METADATA may be missing or broken; the folder that holds it is called NAME-VERSION.dist-info all the same.
        owner, text = normalised(Path(getattr(distribution, "_path", folder)).name.partition("-")[0]), ""
        with contextlib.suppress(Exception):
            owner = normalised(distribution.name)
        try:
            text = distribution.read_text("entry_points.txt") or ""
            config = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
            config.read_string(text, source="entry_points.txt")
            yield from _points(config, owner, distribution.version)
        except Exception as error:
            if isinstance(error, UnicodeDecodeError):
                text = error.object.decode(errors="replace")
            reason = f"its entry_points.txt cannot be read: {' '.join(str(error).split())}"
            broken.append(BrokenPlugin(owner, reason, ours="msdk" in owner or "msdk" in text))


def _points(config: configparser.ConfigParser, owner: str, version: str | None) -> Iterator[tuple[str, Origin]]:
    for group in config.sections():
        if group.startswith("msdk."):
            for name, target in config.items(group, raw=True):
                origin = Origin(name, normalised(owner), target.split("[")[0].strip(), version or "")
                yield group.removeprefix("msdk."), origin


def requirement_of(owner: str) -> str | None:
    """The versions of msdk that an installed distribution declares in its dependencies, ">=0.1,<0.2"; None: any."""
    found = _requirements(owner)
    return found.get(DISTRIBUTION) or found.get(FORMER) or None


def requires_stranger(owner: str) -> bool:
    """Whether an installed distribution asks for msdk by its former name, which pip would get from somebody else."""
    return FORMER in _requirements(owner)


def _requirements(owner: str) -> dict[str, str]:
    """The dependencies of an installed distribution on msdk: the name that it uses -> the range, "" for any version."""
    import importlib.metadata

    try:
        declared = importlib.metadata.requires(owner) or []
    except FileNotFoundError:
        return {}  # the backport raises an error of its own where one without metadata is imported from a zip
    except importlib.metadata.PackageNotFoundError:
        return {}
    # `packaging` takes 20 ms to import, so it only sees versions, and those of msdk alone.
    dependency = re.compile(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?\s*([<>=!~][^;)]*)?")
    found = ((normalised(match[1]), (match[2] or "").strip()) for match in map(dependency.match, declared) if match)
    return {name: wanted for name, wanted in found if name in (DISTRIBUTION, FORMER)}


def unsuited(owner: str) -> str | None:
    """Why an installed distribution is for another msdk; None where it is for this one."""
    wanted = requirement_of(owner)
    if wanted is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from msdk import __version__

    try:
        good = SpecifierSet(wanted).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        return f"it requires msdk {wanted}, which is no range of versions"
    return None if good else f"it is for msdk {wanted}, and this is msdk {__version__}"


def normalised(distribution: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()  # PEP 503
