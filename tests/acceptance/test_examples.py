"""The examples of the library's guide: what is shown is what is here, and it works (SPEC section 22)."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from alerts_engine.sandbox import Sandbox
from tests.acceptance.conftest import CommandLine, answer_of
from tests.support.world import add_user, prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLES = REPOSITORY / "tests" / "examples"
GUIDE = (REPOSITORY / "alerts_engine" / "README.md").read_text("utf-8")
TOKEN = "a-token-that-nobody-guesses"
SHOWN = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def test_what_the_guide_shows_are_the_files():
    """Every example is shown or linked, every example that is shown is a file, letter by letter (SPEC section 22)."""
    files = {path.relative_to(REPOSITORY).as_posix(): path.read_text() for path in EXAMPLES.glob("*.py")}
    files.pop("tests/examples/__init__.py")
    linked = {path for path in files if f"](../{path})" in GUIDE}
    assert {path: text for path, text in files.items() if path not in linked} == SHOWN
    assert len(re.findall("^```", GUIDE, re.MULTILINE)) == 2 * len(SHOWN)


def test_the_number_of_lines_is_true():
    """The guide begins with it."""
    code = SHOWN["tests/examples/first_alert.py"]
    assert re.search(r"first alert, (\d+) lines", GUIDE)[1] == str(
        sum(bool(line.strip()) for line in code.splitlines())
    )


def test_the_columns_are_those_of_the_table(db):
    """What must be given is what has no default and may not be NULL (SPEC I-1, DB-6)."""
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", GUIDE, re.MULTILINE)
    said = {name: words for names, words in rows for name in re.findall(r"`(\w+)`", names)}
    columns = db.execute(
        "SELECT column_name AS name, is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AS needed"
        " FROM information_schema.columns WHERE table_name = 'alert_events'"
    ).fetchall()
    assert {column.name for column in columns} == set(said)
    assert {column.name for column in columns if column.needed} == {
        name for name, words in said.items() if words.startswith("must be given")
    }


# --- run ------------------------------------------------------------------------------------------------------------


def shell_of(tmp_path: Path, url: str, sandbox: Sandbox) -> CommandLine:
    given = {"DATABASE_URL": url, "PYTHONPATH": str(REPOSITORY), "INTERNAL_RUNNER_TOKEN": TOKEN, **sandbox.settings}
    return CommandLine(tmp_path, given)


@pytest.mark.slow
async def test_the_first_alert_arrives():
    """In a folder with nothing in it, with nothing set (SPEC I-4)."""
    place = REPOSITORY / ".alerts-engine" / "first-alert"
    place.mkdir(parents=True, exist_ok=True)
    answer = await CommandLine(place, {})(str(EXAMPLES / "first_alert.py"), program=(sys.executable,))
    assert answer.code == 0, answer.err
    assert answer.out.count("LNG terminal in Freeport shut after a fire") == 1


@asynccontextmanager
async def serving(shell: CommandLine) -> AsyncIterator[str]:
    """The FastAPI example, as its users start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = await shell.start(
        "-m", "uvicorn", "tests.examples.newsroom:app", "--port", str(port), program=(sys.executable,)
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(f"{url}/openapi.json") as response:
                        assert response.status == 200
                    break
                except aiohttp.ClientConnectionError:
                    assert server.returncode is None
                    await asyncio.sleep(0.05)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        await answer_of(server)


@pytest.mark.slow
async def test_the_fastapi_application_publishes_and_sends(db, database_url, tmp_path):
    """Over HTTP: the handler's transaction decides, and its own worker sends (SPEC I-1)."""
    add_user(db, "pro", email="a@example.com")
    async with Sandbox.start() as sandbox, serving(shell_of(tmp_path, database_url, sandbox)) as url:
        async with aiohttp.ClientSession() as client:
            async with client.post(f"{url}/outages/Freeport") as response:
                published: dict[str, Any] = await response.json()
            async with client.post(f"{url}/outages/Freeport") as response:  # the outage is known: a unique violation
                assert response.status == 500
        async with asyncio.timeout(30):
            await sandbox.wait_for_messages(1)
        assert [message.destination for message in sandbox.messages] == ["a@example.com"]
        async with aiohttp.ClientSession(f"{url}/internal/alerts/engine/") as client:
            async with client.get("health") as response:
                assert response.status == 401
            async with client.get("runs", headers={"x-internal-token": TOKEN}) as response:
                assert (await response.json())["runs"]
            async with client.get("") as response:
                assert "<title>alerts-engine</title>" in await response.text()
    assert published["created"] is True
    assert [row.id for row in db.execute("SELECT id FROM alert_events")] == [published["event_id"]]


@pytest.mark.slow
async def test_the_scripts_publish_and_send(db, database_url, tmp_path):
    """psycopg's publishes, cron's sends; each twice, and the alert goes out once (SPEC I-1)."""
    add_user(db, "pro", email="a@example.com")
    async with Sandbox.start() as sandbox:
        shell = shell_of(tmp_path, database_url, sandbox)
        said = []
        for _ in range(2):
            for words in (("psycopg_script.py", "Freeport"), ("cron_script.py",)):
                answer = await shell(str(EXAMPLES / words[0]), *words[1:], program=(sys.executable,))
                assert answer.code == 0, answer.err
                said.append(answer.out.strip())
        assert len(sandbox.messages) == 1
    assert said[0] == "published"
    assert said[2] == "known already"


async def test_the_cron_script_says_what_is_wrong(tmp_path):
    """One line, exit 1 (SPEC CLI-2)."""
    answer = await CommandLine(tmp_path, {})(str(EXAMPLES / "cron_script.py"), program=(sys.executable,))
    assert answer.code == 1
    assert "DATABASE_URL is not set" in answer.err
    assert "Traceback" not in answer.err
