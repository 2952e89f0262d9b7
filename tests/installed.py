"""Packages as if they were installed: a folder on the path with a module and its `.dist-info`, without pip."""

import os
import subprocess
import sys
import tomllib


def dist_info(site, name, entry_points, *, version="1.0", requires=()):
    """Writes the metadata of a distribution into a folder of the path."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "entry_points.txt").write_text(entry_points)
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")


def as_installed(package, site):
    """Does with a source package what `pip install -e` does, as far as msdk can tell."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
        for group, names in project["entry-points"].items()
    )
    dist_info(site, project["name"], points, version=project["version"], requires=project["dependencies"])


def python(*arguments, path=(), **environment):
    """Runs Python with folders on its path; returns what it left."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "200", **environment}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=env)
