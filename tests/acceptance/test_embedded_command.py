"""The command line on the embedded PostgreSQL (SPEC CLI-1)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from alerts_engine.embedded import FOLDER, embedded_postgres
from alerts_engine.logs import Redaction

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.conftest import CommandLine

COMMANDS = (
    ["migrate", "--embedded", "--json", "--verbose", "--log-json"],
    ["run", "--embedded", "--phase", "all", "--json", "--verbose", "--log-json"],
    ["run", "--embedded", "--dry-run", "--verbose"],
    ["preflight", "--embedded", "--json", "--verbose"],
    ["runs", "--embedded", "--verbose"],
    ["explain", "--embedded", "--user", "99", "--verbose"],
    ["rules", "test", "nonsense.sql", "--embedded", "--verbose"],
)


@pytest.mark.slow
async def test_the_password_is_never_shown(alone: CommandLine):
    """Whatever a command says, and whatever it and the server log, the password is in one file alone (O-3)."""
    (alone.folder / "nonsense.sql").write_text("SELECT nonsense FROM nowhere")
    begun = await alone(*COMMANDS[0])
    said = begun.out + begun.err
    with embedded_postgres(alone.folder / FOLDER):  # or each command would start it and stop it again
        for words in COMMANDS[1:]:
            answer = await alone(*words)
            assert answer.out or answer.err
            said += answer.out + answer.err
    password = (alone.folder / FOLDER / "postgres.password").read_text().strip()
    assert len(password) > 20
    assert password not in said
    assert files_with(password, alone.folder) == [f"{FOLDER}/postgres.password"]


def files_with(text: str, folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes())
    return [str(path.relative_to(folder)) for path in found]


def test_the_url_is_masked_in_logs(tmp_path: Path):
    """It has the password, and is masked although nobody named it as a secret (O-3)."""
    with embedded_postgres(tmp_path) as url:
        password = (tmp_path / "postgres.password").read_text().strip()
        assert password in url
        for text in (url, f"cannot use {url!r}: no", f"<{url}>"):
            assert password not in Redaction(()).text(text)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else_is_one_line(alone: CommandLine):
    """The error says what to do, and nothing is changed in the folder (CLI-2)."""
    theirs = alone.folder / FOLDER
    theirs.mkdir()
    os.chown(theirs, 1, -1)
    answer = await alone("run", "--embedded")
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert "belongs to another user" in answer.err
    assert list(theirs.iterdir()) == []
