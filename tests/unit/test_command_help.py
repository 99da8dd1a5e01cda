"""What every command says about itself (SPEC CLI-6b)."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from alerts_engine.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click import Command


def every_command(command: Command, *names: str) -> Iterator[tuple[tuple[str, ...], Command]]:
    """The program itself, its groups and its commands."""
    yield names, command
    for name, one in getattr(command, "commands", {}).items():
        yield from every_command(one, *names, name)


ALL = dict(every_command(get_command(app)))  # type: ignore[arg-type]


def help_of(names: tuple[str, ...]) -> str:
    return ALL[names].get_help(ALL[names].context_class(ALL[names], info_name=" ".join(("alerts-engine", *names))))


def section(text: str, title: str) -> list[str]:
    found = re.search(rf"^  {title}:\n((?:    .*\n?)+)", text, re.MULTILINE)
    assert found is not None, text
    return [line[4:] for line in found[1].splitlines()]


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_help_has_examples_that_are_right_usage(names: tuple[str, ...]):
    """Each begins with the command, and its parser takes it."""
    examples = section(help_of(names), "Examples")
    for line in examples:
        program, *words = shlex.split(line)
        assert program == "alerts-engine"
        assert tuple(words[: len(names)]) == names
        command, rest = get_command(app), words
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(line, list(rest))


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_help_says_what_each_exit_code_means(names: tuple[str, ...]):
    """0, 1 and 2, as CLI-2 has them; no line is wider than a terminal."""
    text = help_of(names)
    codes = [line[0] for line in section(text, "Exit codes") if line[0] != " "]
    assert codes == ["0", "1", "2"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("names", [names for names, one in ALL.items() if hasattr(one, "commands")], ids=" ".join)
def test_lists_of_commands_are_whole_sentences(names: tuple[str, ...]):
    """Nothing is cut away unread (section 3)."""
    assert "..." not in help_of(names).replace("[ARGS]...", "")
