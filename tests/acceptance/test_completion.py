"""What a shell completes (SPEC CLI-6b)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import CommandLine

SCRIPTS = str(Path(sys.executable).parent)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ru"], {"run", "runs", "rules"}),
        (["runs", "sh"], {"show"}),
        (["run", "--ph"], {"--phase"}),
        (["run", "--phase", ""], {"a", "b", "c", "d", "all"}),
    ],
)
async def test_bash_completes_commands_options_and_phases(alone: CommandLine, typed: list[str], offered: set[str]):
    """With what the program prints for bash, as ``--install-completion`` puts it there."""
    words = " ".join(map(shlex.quote, ["alerts-engine", *typed]))
    script = (
        'eval "$(_ALERTS_ENGINE_COMPLETE=source_bash alerts-engine)"\n'
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}\n"
        '"$(complete -p alerts-engine | sed "s/.*-F \\([^ ]*\\).*/\\1/")" alerts-engine\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    answer = await alone("-c", script, program=("/bin/bash",), PATH=f"{SCRIPTS}:/usr/bin:/bin")
    assert answer.code == 0, answer.err
    assert offered <= set(answer.out.split())
    assert answer.out.count("\n") < 10
