"""What the pages show works: Python runs, TOML loads, JSON parses, commands have those options."""

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs
import click
import pytest

from orchestrator import load_settings
from orchestrator.cli.main import commands

ROOT = Path(__file__).parents[2]
#: The page of the command line has usages, which tests/meta/test_reference_pages.py compares.
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"`(orchestrator [^`\n]+)`")
_TARGET = re.compile(r"^([a-z-]+):.*##", re.MULTILINE)
#: What separates the commands of one line.
_BETWEEN = re.compile(r"\|\||\||&&|;")
_ASSIGNMENT = re.compile(r"\w+=")
MAKE_TARGETS = set(_TARGET.findall((ROOT / "Makefile").read_text()))


@attrs.frozen
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            inner = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            line = text.count("\n", 0, found.start()) + 1
            yield Block(page, line, found["language"], inner)


BLOCKS = list(blocks())


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Each `orchestrator …` and `make …` of the pages, with where it is, as words."""
    for block in of("console", "sh", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for words in split(line):
                yield f"{block}: {line.strip()}", words
    for page in PAGES:
        if page.name != "command-line.md":
            for span in _SPAN.findall(_BLOCK.sub("", page.read_text())):
                for words in split(span):
                    yield f"{page.relative_to(ROOT)}: {span}", words


def split(line: str) -> Iterator[list[str]]:
    """The words of each command on a line, without assignments before and redirections after."""
    without_texts = re.sub(r"'[^']*'", lambda text: text[0].replace("|", " "), line)
    for part in _BETWEEN.split(without_texts):
        words = shlex.split(part, comments=True)
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        if words and Path(words[0]).name in ("orchestrator", "make"):
            end = next((n for n, word in enumerate(words) if word[0] in "<>"), len(words))
            yield [Path(words[0]).name, *words[1:end]]


COMMANDS = dict(shown_commands())


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block runs as a module; what it does as a program isn't begun."""
    # attrs and dataclasses look their module up.
    module = ModuleType("snippet")
    monkeypatch.setitem(sys.modules, "snippet", module)
    exec(compile(block.text, str(block), "exec"), module.__dict__)  # noqa: S102 - our own pages


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_settings(block: Block, tmp_path: Path) -> None:
    """Each key is one, and has a value that it takes."""
    assert tomllib.loads(block.text)
    file = tmp_path / "settings.toml"
    file.write_text(block.text)
    load_settings(file, environ={})


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    """Each block of JSON is one value."""
    json.loads(block.text)


@pytest.mark.parametrize(("place", "words"), COMMANDS.items(), ids=list(COMMANDS))
def test_commands_have_the_options_that_are_shown(place: str, words: list[str]) -> None:
    """A command takes the options and arguments that are shown; a target of make exists."""
    program, *rest = words
    if program == "make":
        named = [word for word in rest if not _ASSIGNMENT.match(word)]
        assert set(named) <= MAKE_TARGETS
        return
    parse(commands, rest)


def parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """A command alone needs no arguments: in a sentence it may be named so."""
    # Its options are kept by the command from its first context on, `-h` among them.
    context = click.Context(command, parent=parent, **command.context_settings)
    given, left, _ = command.make_parser(context).parse_args(list(words))
    if left and isinstance(command, click.Group):
        named = command.get_command(context, left[0])
        assert named is not None, left[0]
        parse(named, left[1:], context)
        return
    assert not left
    needed = [one.name for one in command.params if isinstance(one, click.Argument) if one.required]
    assert not words or all(given.get(name or "") for name in needed)
