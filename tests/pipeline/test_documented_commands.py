"""Every command that README and docs print is one that exists, with options and params that exist; none is run.

And `--help` says of every command, argument and option what it is.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipeline.cli import app
from spasemsr.config import parse_params
from tests.worlds import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
_IN_TABLE = re.compile(r"^\| `([^`]+)`", re.MULTILINE)


def commands(page: Path, program: str) -> list[list[str]]:
    """Words of every command of a program in the fenced blocks and first table cells of a page."""
    text = page.read_text()
    blocks = [block.partition("\n")[2] for block in text.split("\n```")[1::2]]  # the first line names a language
    lines = [line for block in blocks for line in block.splitlines()] + _IN_TABLE.findall(text)
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


OURS = [(page.name, words[1:]) for page in PAGES for words in commands(page, "spasemsr")]
EXPERIMENTS = [(page.name, words[1:]) for page in PAGES for words in commands(page, "dvc") if "-S" in words]


def named(case: Any) -> str:
    return " ".join(case) if isinstance(case, list) else str(case)


def test_there_are_some():
    assert len(OURS) > 20 and len(EXPERIMENTS) > 8


def _undescribed(command: Any, name: str) -> list[str]:
    """The command, its parameters, and those of its subcommands, whose help is no sentence."""
    said = [(name, command.help), *((f"{name} {one.name}", getattr(one, "help", None)) for one in command.params)]
    found = [place for place, text in said if not (text and text[0].isupper() and text.rstrip().endswith("."))]
    for inner, sub in getattr(command, "commands", {}).items():
        found += _undescribed(sub, f"{name} {inner}")
    return found


def test_every_command_argument_and_option_is_explained_in_a_sentence():
    assert _undescribed(typer.main.get_command(app), "spasemsr") == []


@pytest.mark.parametrize("name", ["upscale", "serve"])
def test_every_option_about_pictures_is_in_their_page(name):
    options = [option for one in typer.main.get_command(app).commands[name].params for option in one.opts]
    page = (ROOT / "docs/upscaling.md").read_text()
    assert [option for option in options if option.startswith("--") and f"`{option}" not in page] == []


@pytest.mark.parametrize(("page", "words"), OURS, ids=named)
def test_a_printed_command_is_one_of_ours(page, words):
    words = [word.strip("[]") for word in words]  # what is optional stands in brackets
    command, context = typer.main.get_command(app), None
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    if words != ["--help"]:
        context = command.make_context("spasemsr", [_typed(word) for word in words])
        assert context is not None


def _typed(word: str) -> str:
    """A number where a page says N."""
    return "3" if word == "N" else word


@pytest.mark.parametrize(("page", "words"), EXPERIMENTS, ids=named)
def test_a_printed_experiment_sets_params_that_exist(page, words):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for word, setting in pairwise(words):
        if word == "-S":
            key, _, value = setting.partition("=")
            added = key.startswith("++")  # where the file need not state it; whether it exists, the params say below
            *parents, last = key.removeprefix("++").split(".")
            place = raw
            for part in parents:
                place = place.setdefault(part, {}) if added else place[part]
            assert added or last in place, f"{page}: {key}"
            place[last] = yaml.safe_load(value)
    parse_params(raw, page)
