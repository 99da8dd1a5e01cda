"""The documents are followed: what they show is executed, one block after the other."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from alerts_engine.embedded import FOLDER, embedded_postgres
from alerts_engine.sandbox import Fault
from alerts_engine.settings import Settings, variable_name
from tests.acceptance.conftest import CommandLine, add_news, answer_of
from tests.support.documents import DOCUMENTS, REPOSITORY, Block, blocks
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from alerts_engine.sandbox import Sandbox

ELSEWHERE = {"alerts_engine/README.md", "alerts_engine/admin/README.md", "alerts_engine/channels/README.md"}
"""Their code is that of tests/examples, of a custom channel, and of a server; the tests of these execute it."""
FOLLOWED = [document for document in DOCUMENTS if document not in ELSEWHERE and blocks(document)]


@dataclass(slots=True)
class Reader:
    """Somebody who follows a document from its top to its end, on a database and a sandbox of their own."""

    shell: CommandLine
    connection: psycopg.Connection

    async def follow(self, block: Block) -> None:
        match block.language:
            case "sh":
                await self._type(block)
            case "python":
                answer = await self.shell("-c", block.text, program=(sys.executable,))
                assert answer.code == 0, answer.err
            case "sql" | "jinja" if block.file is not None:
                path = self.shell.folder / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text)
            case "sql":
                self.connection.execute(block.text.encode())
                self.connection.commit()
            case "ini":
                variables = {line.split("=")[0] for line in block.lines if not line.startswith("#")}
                assert variables <= {variable_name(name) for name in Settings.model_fields}
            case "json":
                Fault.from_json(block.text.encode())
            case "text" | "mermaid":
                pass
            case "console" | "cron" | "systemd" | "yaml":  # the nights and the schedules have tests of their own
                pass
            case other:
                pytest.fail(f"nobody knows what to do with a block of {other!r}")

    async def _type(self, block: Block) -> None:
        own: dict[str, str] = {}
        for line in block.lines:
            words = shlex.split(line, comments=True)
            match words:
                case []:
                    pass
                case ["export", assignment]:
                    name, value = assignment.split("=", 1)
                    assert name in {variable_name(one) for one in Settings.model_fields}, name
                    own |= {} if name in self.shell.settings else {name: value}
                case ["make", target]:
                    planned = await CommandLine(REPOSITORY).start("-n", target, program=("make",))
                    assert (await answer_of(planned)).code == 0, line
                case ["alerts-engine", "sandbox", *options]:
                    await self._serve(["sandbox", *options, "--port", "0"])
                case ["alerts-engine", *arguments]:
                    answer = await self.shell(*[self._known(word) for word in arguments], **own)
                    assert answer.code == 0, f"{line}: {answer.err}"
                case ["python", "-m", *arguments]:
                    answer = await self.shell("-m", *arguments, program=(sys.executable,), **own)
                    assert answer.code == 0, f"{line}: {answer.err}"
                case _:
                    pytest.fail(f"nobody executes {line!r}")

    async def _serve(self, arguments: list[str]) -> None:
        process = await self.shell.start(*arguments)
        assert process.stdout is not None
        assert b"export" in await process.stdout.readuntil(b"TWILIO_BASE_URL=")
        process.send_signal(signal.SIGTERM)
        assert (await answer_of(process)).code == 0

    def _known(self, word: str) -> str:
        """``RUN_ID`` stands for the newest run."""
        if word != "RUN_ID":
            return word
        row = self.connection.execute(
            "SELECT run_id FROM alerts_engine_runs ORDER BY started_at DESC LIMIT 1"
        ).fetchone()
        self.connection.rollback()
        assert row is not None
        return str(row[0])


@pytest.fixture
async def reader(sandbox: Sandbox, postgresql: psycopg.Connection, database_url: str) -> AsyncIterator[Reader]:
    """A database with instant messages and a digest in it, and a folder for an embedded server, which runs already."""
    place = workshop() / f"docs-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    add_news(postgresql, users=9)
    shell = CommandLine(place, {"DATABASE_URL": database_url, **sandbox.settings})
    await shell.has_run()
    postgresql.execute("INSERT INTO user_notification_settings (user_id, digest_only) VALUES (2, TRUE)")
    postgresql.execute("INSERT INTO events (title, region, severity_score) VALUES ('Strike in the port', 'Asia', 4)")
    postgresql.commit()
    await shell.has_run()
    with embedded_postgres(place / FOLDER):
        yield Reader(shell, postgresql)
    shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("document", FOLLOWED)
async def test_everything_shown_works(reader: Reader, document: str):
    """Commands, scripts, SQL and settings do, one after the other, what the reader expects (CLI-1, CLI-2)."""
    for block in blocks(document):
        await reader.follow(block)


@pytest.mark.slow
async def test_extract_of_the_demo_is_what_it_shows(reader: Reader):
    """The demo plays history, so its tables come out the same every time (F-2)."""
    shown = next(block for block in blocks("README.md") if block.language == "text")
    answer = await reader.shell("demo")
    assert answer.code == 0, answer.err
    told = {" ".join(line.split()) for line in answer.out.splitlines()}
    assert {" ".join(line.split()) for line in shown.lines if line} <= told
