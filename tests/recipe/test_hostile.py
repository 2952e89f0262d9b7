"""No file makes a recipe hang, crash or eat memory: each is refused in words, within a second."""

import os
import time
from pathlib import Path

import pytest
from commands import quick

from msdk.errors import RecipeError
from msdk.recipe import load_recipe

BASE = Path(__file__).parents[2] / "recipes/digits/unified.toml"
DIGITS = f'extends = "{BASE}"\n'


def refused(load, *arguments):
    """What a recipe is refused with; fails where that takes longer than a second (of the processor, for slow hosts)."""
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load(*arguments)
    assert time.process_time() - began < 5  # it takes 0.6 s at most on a quiet machine
    assert len(str(caught.value)) < 30_000
    return str(caught.value)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Files that are no files: a pipe without a writer, devices, a loop of links, a folder, a sparse giant."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    os.symlink("/dev/zero", "zero")
    os.mkdir("folder")
    with open("giant", "wb") as file:
        file.truncate(2**40)
    return tmp_path


WORDS = {
    "pipe": "it is a device or a pipe, not a file",
    "zero": "it is a device or a pipe, not a file",
    "/dev/tty": "cannot be read",
    "/proc/self/mem": "cannot be read",
    "loop": "Too many levels of symbolic links",
    "folder": "it is a folder, not a file",
    "giant": "has more than",
    "a\0b": "NUL",
    "n" * 300: "File name too long",
    "none": "No such file",
}
UNFIT = {"a\0b": "expected a file name", "n" * 300: "expected a file name of at most 255 bytes"}
"""What is told where a field refuses the name before anything is opened."""


@pytest.mark.parametrize("name", WORDS, ids=range(len(WORDS)))
@pytest.mark.parametrize("key", ["extends", "extends-list", "use", "from", "itself"])
def test_what_is_no_file_is_not_read(places, name, key):
    """Whether it is extended, run, a clustering or the recipe itself."""
    text = '"' + name.replace("\0", "\\u0000") + '"'
    lines = {
        "extends": f"extends = {text}",
        "extends-list": f"extends = [{text}]",
        "use": f"use = [{text}]",
        "from": f"stages = {{ from = {text} }}",
        "itself": "",
    }
    (places / "r.toml").write_text(f'{lines[key]}\ndata = {{ name = "digits" }}\n')
    told = refused(load_recipe, name if key == "itself" else "r.toml")
    assert WORDS[name] in told or UNFIT.get(name, WORDS[name]) in told


def test_extending_is_bounded(places):
    """A diamond of 2^26 reads, a long chain, itself by a link, and many large files are told, not read."""
    for level in range(26):
        (places / f"d{level}.toml").write_text(f'extends = ["d{level + 1}.toml", "d{level + 1}.toml"]\n')
        (places / f"c{level}.toml").write_text(f'extends = "c{level + 1}.toml"\n')
    (places / "d26.toml").write_text(DIGITS)
    (places / "c26.toml").write_text(DIGITS)
    assert "more than 64 files are read" in refused(load_recipe, "d0.toml")
    load_recipe("c0.toml")  # a chain is fine
    os.symlink("me.toml", "again.toml")
    (places / "me.toml").write_text('extends = "again.toml"\n')
    assert "cannot extend itself" in refused(load_recipe, "me.toml")
    (places / "long.toml").write_text("#" * 100_000)
    (places / "two.toml").write_text('extends = ["long.toml", "long.toml"]\n')
    assert "all files together have more than" in refused(load_recipe, "two.toml")
    (places / "many.toml").write_text("use = [" + '"none.py",' * 1_000 + "]\n")
    assert "names more than 64 files" in refused(load_recipe, "many.toml")


DEEP = 20_000
TEXTS = {
    "lists": ("a = " + "[" * DEEP, "levels deep"),
    "tables": ("a = " + "{a=" * DEEP, "levels deep"),
    "closed": ("a = " + "[" * 100 + "]" * 100, "levels deep"),
    "dots": (".".join("a" * DEEP) + " = 1", "names with dots"),
    "quoted dots": ('"a b".' * DEEP + "a = 1", "names with dots"),
    "spaced dots": ("a . 'b'\t. " * 5_000 + "a = 1", "names with dots"),
    "header": ("[" + ".".join("a" * DEEP) + "]", "names with dots"),
    "decimal": ("a = " + "1" * 100_000, "64 bits"),
    "hexadecimal": ("training.seed = 0x" + "f" * 100_000, "got a number of 400,000 bits"),
    "hexadecimal float": ("training.lr = 0x" + "f" * 100_000, "training.lr"),
    "65 bits": (f"training.seed = {2**63}", "64 bits"),
    "float": ("training.lr = 1" + "0" * 100_000 + ".0", "expected a finite number"),
    "nul": ("a = 1\0", "not valid TOML"),
    "utf-16": (None, "not valid TOML"),
    "key": ("k" * 100_000 + " = 1", "unknown key"),
    "keys": ("\n".join(f"k{i} = 1" for i in range(4_000)), "3,903 more"),
    "wrong": ("decoders = [" + "1," * 4_000 + "]", "3,903 more"),
    "values": ("a = [" + "1," * 60_000 + "]", "more than 5,000 values"),
    "empty tables": ("[[a]]\n" * 20_000, "more than 5,000 values"),
    "name": ('encoder = { name = "' + "n" * 100_000 + '" }', "no encoder named 'nnn"),
    "value": ('title = ["' + "v" * 100_000 + '"]', "expected text, got ['vvv"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_what_costs_too_much_to_read_is_refused(kind, tmp_path):
    """Nesting, long dotted keys, huge numbers, and thousands of mistakes."""
    text, words = TEXTS[kind]
    file = tmp_path / "r.toml"
    file.write_bytes(DIGITS.encode("utf-16") if text is None else text.encode())
    assert words in refused(load_recipe, file)


@pytest.mark.parametrize(
    "text",
    [
        "training.lr=" + "[" * DEEP,
        "training.seed=" + "1" * 100_000,
        f"training.seed={2**64}",
        ".".join("a" * DEEP) + "=1",
        "decoders." + "9" * 5000 + ".channels=1",
        "training.lr.x=3",
    ],
    ids=range(6),
)
def test_overrides_are_bounded_too(text, tmp_path):
    """What a command line sets is held to the same."""
    (tmp_path / "r.toml").write_text(DIGITS + "training.lr = 1e-3\n")
    refused(load_recipe, tmp_path / "r.toml", [text])


def test_the_command_says_it_in_words(places, capsys, monkeypatch):
    """Exit code 2 and a message."""
    (places / "r.toml").write_text('extends = "pipe"\n')
    code, out, err = quick(capsys, monkeypatch, "recipe", "check", "r.toml")
    assert (code, out) == (2, "")
    assert "device or a pipe" in err


def test_a_byte_order_mark_is_read(tmp_path):
    """Editors of Windows write one, and ends of lines of their own."""
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + DIGITS.replace("\n", "\r\n").encode())
    (tmp_path / "plain.toml").write_text(DIGITS)
    assert load_recipe(tmp_path / "r.toml") == load_recipe(tmp_path / "plain.toml")


def test_a_home_that_nobody_has_is_told(tmp_path):
    """`~nobody` in any file name."""
    (tmp_path / "r.toml").write_text(DIGITS + 'use = ["~no-such-user/x.py"]\n')
    assert "there is no home folder for" in refused(load_recipe, tmp_path / "r.toml")


def test_a_loop_of_links_as_data_is_no_crash(places):
    """A recipe is read without its data; where these are is told when they are opened."""
    load_recipe(BASE, ['data={name="folder", path="loop", size=8}'])
