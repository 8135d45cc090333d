"""docs/cli.md shows every command, and no unknown ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from paddock.cli.app import COMMANDS, app

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown() -> list[list[str]]:
    """The arguments of each `paddock` on the page."""
    found = []
    for block in FENCE.findall(PAGE):
        for line in block.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, "|"]:
                if word in ("|", "<", ">"):
                    if words[:1] == ["paddock"]:
                        found.append(words[1:])
                    words = []
                else:
                    words.append(word)
    return found


def parsed(args: list[str]) -> list[str]:
    """The names of the command and of its subcommand that `args` call; runs nothing."""
    names: list[str] = []
    command: Any = get_command(app)
    context = command.make_context("paddock", list(args))
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, args = command.resolve_command(context, rest)
        names.append(name)
        context = command.make_context(name, args, parent=context)
    return names


@pytest.mark.parametrize("args", shown(), ids=" ".join)
def test_a_command_on_the_page_is_one(args: list[str]) -> None:
    assert parsed(args)


def test_every_command_is_on_the_page() -> None:
    assert {parsed(args)[0] for args in shown()} == set(COMMANDS)


def test_every_option_of_run_is_on_the_page() -> None:
    root: Any = get_command(app)
    options = [
        max(parameter.opts, key=len)
        for parameter in root.get_command(None, "run").params
        if parameter.param_type_name == "option"
    ]
    hidden = {"--help", "--save", "--project", "--json"}  # shown by examples, or as their opposite
    assert [name for name in options if name not in hidden and f"`{name}" not in PAGE] == []
