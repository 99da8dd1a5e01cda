"""The console script as its users have it: a process of its own, with an environment of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.sandbox import Sandbox
from alerts_engine.settings.model import variable_names
from alerts_engine.settings.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

SCRIPT = str(Path(sys.executable).with_name("alerts-engine"))
_SEVERAL = """
import fcntl, json, struct, sys, termios
from alerts_engine.cli import main
script, asked = sys.argv[1], json.loads(sys.argv[2])
for width, arguments in asked:
    if width:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    sys.argv = [script, *arguments]
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        print(f"\\f{code}", end="\\f", file=stream, flush=True)
"""
"""The console script, again and again in one process: most of what a command takes is its start."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout, which must be one JSON object and nothing else."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def phase(self, name: str) -> dict[str, Any]:
        """One phase of a run's report."""
        return next(phase for phase in self.json["phases"] if phase["phase"] == name)


@dataclass(slots=True)
class CommandLine:
    """Starts ``alerts-engine`` in ``folder`` with ``settings`` and nothing else in its environment."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    async def start(
        self, *arguments: str, program: tuple[str, ...] = (SCRIPT,), **settings: str
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **self.settings, **settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, program: tuple[str, ...] = (SCRIPT,), **settings: str) -> Answer:
        return await answer_of(await self.start(*arguments, program=program, **settings))

    async def has_run(self, phase: Phase = Phase.ALL, *, dry_run: bool = False) -> None:
        """What a run leaves, for a test of other commands: made in this process, where nothing has to be started."""
        given = read_variables(tuple(variable_names().values()), self.settings, None)
        async with AlertsEngine(Settings(_variables=given)) as engine:
            report = await engine.run(phase, dry_run=dry_run)
        assert report.status == "success", report.error

    async def several(self, *commands: tuple[str, ...], **settings: str) -> list[Answer]:
        """What each command answers, one after the other in one process."""
        program = (sys.executable, "-c", _SEVERAL, SCRIPT, json.dumps([(0, command) for command in commands]))
        answer = await self(program=program, **settings)
        pieces = zip(*(stream.split("\f")[:-1] for stream in (answer.out, answer.err)), strict=True)
        outs, codes = list(pieces)[::2], answer.out.split("\f")[1::2]
        assert len(codes) == len(commands), answer.err
        return [Answer(int(code), out, err) for code, (out, err) in zip(codes, outs, strict=True)]

    async def several_on_terminal(self, *commands: tuple[int, tuple[str, ...]], **settings: str) -> list[Answer]:
        """Every character that each command sends to a terminal of its width, all in one process."""
        program = (sys.executable, "-c", _SEVERAL, SCRIPT, json.dumps(commands))
        shown = await self.raw_on_terminal(program=program, **settings)
        # Both streams end at the terminal, and so do both of the marks behind a command.
        pieces = shown.split("\f")[:-1]
        assert len(pieces) == 4 * len(commands), shown
        return [Answer(int(pieces[at + 1]), pieces[at], "") for at in range(0, len(pieces), 4)]

    async def on_terminal(self, *arguments: str, code: int = 0, width: int = 200, **settings: str) -> str:
        """What a command shows on a terminal, without its colours; it must end with ``code``."""
        return without_colours(await self.raw_on_terminal(*arguments, code=code, width=width, **settings))

    async def raw_on_terminal(
        self, *arguments: str, code: int = 0, width: int = 200, program: tuple[str, ...] = (SCRIPT,), **settings: str
    ) -> str:
        """Every character that a command sends to a terminal."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *program, *arguments, cwd=self.folder, stdin=slave, stdout=slave, stderr=slave,
            env={**self.settings, "TERM": "xterm", **settings},
        )  # fmt: skip
        os.close(slave)
        shown = await asyncio.to_thread(_read_to_end, master)
        assert await process.wait() == code, shown
        return shown


def _read_to_end(master: int) -> str:
    pieces = []
    try:
        while piece := os.read(master, 4096):
            pieces.append(piece)
    except OSError:  # a terminal whose other end is closed
        pass
    os.close(master)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


async def answer_of(process: asyncio.subprocess.Process) -> Answer:
    """Wait for the end; a test that is cancelled leaves no process behind."""
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Answer(process.returncode, out.decode(), err.decode())


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """The command line with nothing set."""
    return CommandLine(tmp_path)


@pytest.fixture
def alerts_engine(tmp_path: Path, database_url: str) -> CommandLine:
    """The command line with a migrated database."""
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Every provider."""
    async with Sandbox.start() as started:
        yield started


@pytest.fixture
def sending(alerts_engine: CommandLine, sandbox: Sandbox) -> CommandLine:
    """The command line with a migrated database and every channel configured."""
    alerts_engine.settings |= sandbox.settings
    return alerts_engine


def add_news(connection: psycopg.Connection, *, users: int) -> None:
    """One severe event, and users of the plan ``pro`` who get it by email at once."""
    connection.execute(
        "INSERT INTO users (email) SELECT format('user%%s@example.com', n) FROM generate_series(1, %s) AS n", [users]
    )
    connection.execute("INSERT INTO user_plans (user_id, plan) SELECT id, 'pro' FROM users")
    connection.execute(
        "INSERT INTO user_alert_prefs (user_id, region, alert_type) SELECT id, 'global', 'HIGH_IMPACT_EVENT' FROM users"
    )
    connection.execute(
        "INSERT INTO events (title, source_url, region, severity_score, ai_summary) "
        "VALUES ('Pipeline shut', 'https://news.example/1', 'Europe', 5, 'Flows stopped at noon.')"
    )
    connection.commit()


def fingerprints(connection: psycopg.Connection, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """A hash of every table's rows, by name."""
    connection.rollback()
    names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    hashes = {}
    for (name,) in names:
        if name not in but:
            row = connection.execute(
                f"SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {name} AS t"  # type: ignore[arg-type]
            ).fetchone()
            assert row is not None
            hashes[name] = row[0]
    connection.rollback()
    return hashes


def statuses(connection: psycopg.Connection) -> dict[str, int]:
    """How many deliveries are in each state."""
    rows = connection.execute("SELECT status, count(*) FROM user_alert_deliveries GROUP BY status").fetchall()
    connection.rollback()
    return dict(rows)
