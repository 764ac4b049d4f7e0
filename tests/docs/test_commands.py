"""
Every command that a page shows is run here, or is marked as needing more than this machine has.

A block opened by "```console" is run: `tidegate` in this process from the repository's root, `make` as a look at the
Makefile. A block opened by "```console cluster" needs a cluster; there only the names of our own commands and options
are checked.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tidegate.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")])
BLOCK = re.compile(r"^```console(?P<mark>[^\n]*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
# Commands that run for minutes, or for ever: their options are checked, and they have tests of their own.
LONG = {"sandbox", "run", "backtest"}


@dataclass(frozen=True)
class Shown:
    """One command line of a page; `cluster` where its block is marked so."""

    page: str
    line: str
    cluster: bool


def shown() -> Iterator[Shown]:
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            body = block["body"].replace("\\\n", " ")
            for line in body.splitlines():
                if line.startswith("$ "):
                    yield Shown(str(page.relative_to(ROOT)), line[2:].strip(), "cluster" in block["mark"])


def identity(command: Shown) -> str:
    return f"{command.page}: {command.line}"


def words(command: Shown) -> list[str]:
    return shlex.split(command.line, comments=True)


def find_option_errors(arguments: list[str]) -> str:
    """What click says of these arguments without carrying them out; empty where they are right."""
    context = click.Context(main)
    group: click.Command = main
    try:
        while isinstance(group, click.Group) and arguments and not arguments[0].startswith("-"):
            found = group.get_command(context, arguments[0])
            if found is None:
                break
            group, arguments = found, arguments[1:]
        group.make_context("tidegate", list(arguments), resilient_parsing=False)
    except click.exceptions.Exit:
        return ""
    except click.UsageError as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("command", [c for c in shown() if not c.cluster], ids=identity)
def test_a_shown_command_works(command: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = words(command)
    assert program in {"make", "tidegate", "git", "cd"}, "mark the block as `console cluster`"
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in arguments if "=" not in word and not word.startswith("-")} <= targets
    elif program == "tidegate" and arguments[0] in LONG:
        assert find_option_errors(arguments) == ""
    elif program == "tidegate":
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == (2 if "exit 2" in command.line else 0), result.output


@pytest.mark.parametrize("command", [c for c in shown() if c.cluster], ids=identity)
def test_a_command_for_a_cluster_has_options_that_exist(command: Shown) -> None:
    program, *arguments = words(command)
    if program == "tidegate":
        assert find_option_errors(arguments) == ""


def test_the_manifest_on_the_first_page_can_be_planned(tmp_path: Path) -> None:
    manifest = re.search(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert manifest is not None
    (tmp_path / "infd.yaml").write_text(manifest[1])
    arguments = ["-f", str(ROOT / "examples" / "accelerators.yaml"), "-f", str(tmp_path), "--demand", "14"]
    result = CliRunner().invoke(main, ["plan", *arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", ["plan", "backtest", "sandbox"])
def test_the_page_of_a_command_names_all_of_its_options(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    page = (ROOT / "docs" / f"{name}.md").read_text()
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert sorted(option for option in options if not re.search(rf"{option}(?![\w-])", page)) == []


def test_links_between_pages_lead_somewhere() -> None:
    dead = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)} -> {target}")
    assert dead == []


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end with, as GitHub makes it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_to_headings_lead_somewhere() -> None:
    dead = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?://|mailto:)([^)#]*)#([^)]+)\)", page.read_text()):
            if anchor not in anchors(page.parent / target if target else page):
                dead.append(f"{page.relative_to(ROOT)} -> {target}#{anchor}")
    assert dead == []
