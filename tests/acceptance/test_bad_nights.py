"""Bad nights, played: what an operator types at a terminal of 80 columns, and what there is to read (SPEC O-4, O-6)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alerts_engine import schema
from alerts_engine.embedded import embedded_postgres
from alerts_engine.sandbox import Fault
from tests.acceptance.conftest import add_news, answer_of, statuses
from tests.support.documents import MANUAL, blocks, section
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import CommandLine

pytestmark = pytest.mark.slow

USERS = 12


@dataclass
class Night:
    """An operator at a terminal; what is typed and shown is printed, so that ``pytest -s`` gives the transcript."""

    shell: CommandLine
    connection: psycopg.Connection
    sandbox: Sandbox
    settings: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """What was typed, and what was shown, in their order."""

    async def type(self, line: str, *, code: int = 0, **settings: str) -> str:
        """What a command shows; its words in one line, since where they break does not matter."""
        shown = await self.shell.on_terminal(*line.split(), code=code, width=80, **{**self.settings, **settings})
        if not shown.startswith("error: "):  # that one a terminal breaks by itself
            assert max(map(len, shown.splitlines()), default=0) <= 80
        print(f"$ alerts-engine {line}\n{shown}")
        self.seen.append((line, shown))
        return " ".join(shown.split())

    async def cron(self, phase: str = "all", *, code: int = 0) -> None:
        """A run as the schedule starts it."""
        answer = await self.shell("run", "--phase", phase, "--quiet", **self.settings)
        assert answer.code == code, answer.out + answer.err
        print(f"$ alerts-engine run --phase {phase} --quiet\n{answer.out}")

    def execute(self, statement: str) -> None:
        self.connection.execute(statement)  # type: ignore[arg-type]
        self.connection.commit()

    def due_now(self) -> None:
        """The next attempt's time has come."""
        self.execute("UPDATE user_alert_deliveries SET next_retry_at = now() WHERE status = 'queued'")


def in_one_line(text: str) -> str:
    """Numbers and line breaks are another night's."""
    return " ".join(re.sub(r"\d+", "#", text).split())


def is_as_the_manual_shows(heading: str, seen: list[tuple[str, str]]) -> None:
    """Each command of the manual's transcript was typed in that order, and showed what stands there."""
    (transcript,) = [block.text for block in blocks(MANUAL) if block.text in section(MANUAL, f"### {heading}")]
    nights = iter(seen)
    for part in re.split(r"^\$ alerts-engine ", transcript, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        said = [in_one_line(line) for line in shown.splitlines()]
        answers = (in_one_line(answer) for typed, answer in nights if typed == command)
        assert any(all(one in answer for one in said) for answer in answers), said


@pytest.fixture
def night(
    sending: CommandLine, postgresql: psycopg.Connection, sandbox: Sandbox, request: pytest.FixtureRequest
) -> Iterator[Night]:
    """An event for twelve users. What the test's own section of the manual shows must have been seen."""
    add_news(postgresql, users=USERS)
    night = Night(sending, postgresql, sandbox)
    yield night
    is_as_the_manual_shows(request.node.name.removeprefix("test_").replace("_", " ").capitalize(), night.seen)


async def test_the_provider_is_down(night: Night):
    """Nothing is lost: what waits is tried again by itself, and the commands say so."""
    night.sandbox.faults.add(Fault(provider="brevo", status=503))
    await night.cron()
    health = await night.type("health", code=1)
    assert health.startswith("✗ failing")
    assert "12 of the 12 sends by email in the last two hours did not succeed" in health
    assert "→ alerts-engine failures --channel email" in health
    failures = await night.type("failures --channel email")
    assert failures.startswith("! email: 12 deliveries for 12 people will be tried again, since")
    assert "the provider has trouble of its own" in failures
    sample = failures.rsplit(" ", 1)[1]
    life = await night.type(f"delivery show {sample}")
    assert "next: the next run of phase C that finds it due sends it" in life
    night.sandbox.faults.clear()
    night.due_now()
    await night.cron("c")
    assert (await night.type("failures")).startswith("✓ nothing failed")
    assert len(night.sandbox.messages) == USERS


async def test_the_key_is_wrong(night: Night):
    """The channel is down, its rows wait unspent, and the command names the variable."""
    night.sandbox.faults.add(Fault(provider="brevo", status=401))
    await night.cron(code=1)
    health = await night.type("health", code=1)
    assert "✗ email is down: the provider refuses the key (auth_failed); its messages wait" in health
    assert "→ alerts-engine preflight --check-credentials" in health
    failures = await night.type("failures")
    assert failures.startswith("✗ email: 12 deliveries for 12 people waiting: the channel is down")
    checked = await night.type("preflight --check-credentials", code=1, BREVO_API_KEY="an-old-key")
    assert "Brevo refuses BREVO_API_KEY" in checked
    night.sandbox.faults.clear()
    await night.cron()
    health = await night.type("health")
    assert health.startswith("✓ ok")
    assert len(night.sandbox.messages) == USERS


async def test_one_address_is_refused(night: Night):
    """One reader's trouble is nobody's alarm: health is ok, and two commands lead to the reader."""
    night.sandbox.faults.add(Fault("user3@example.com", status=400))
    await night.cron()
    assert (await night.type("health")).startswith("✓ ok")
    failures = await night.type("failures")
    assert failures.startswith("✗ email: 1 delivery for 1 person failed for good")
    assert "newest users: 3" in failures
    assert "failed" in await night.type("explain --user USER3@example.com --event 1")


async def test_a_rule_is_broken(night: Night, tmp_path: Path):
    """The other rules go on; health names the rule, and its trial shows the error."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "storms.sql").write_text("SELECT no_such_column FROM events")
    night.settings = {"ALERTS_RULES_DIR": str(tmp_path / "rules")}
    await night.cron(code=1)
    assert len(night.sandbox.messages) == USERS
    health = await night.type("health")
    assert health.startswith("! degraded")
    assert "phase a failed: rule storms.sql" in health
    assert "→ alerts-engine runs show last" in health
    assert "no_such_column" in await night.type("rules test rules/storms.sql", code=1)
    (tmp_path / "rules" / "storms.sql").unlink()
    await night.cron()
    assert (await night.type("health")).startswith("✓ ok")


async def test_the_runner_is_killed(night: Night):
    """The history says where it ran and what it held; the next run closes it, and finds out about its sends."""
    night.sandbox.faults.add(Fault(hang=True))
    process = await night.shell.start("run", "--quiet")
    await night.sandbox.wait_for_requests(USERS)
    assert f"process {process.pid}, holds phase c" in await night.type("runs --limit 1")
    process.send_signal(signal.SIGKILL)
    await answer_of(process)
    night.sandbox.faults.clear()
    night.execute("UPDATE alerts_engine_runs SET started_at = started_at - interval '10 minutes'")
    night.execute("UPDATE user_alert_deliveries SET lease_expires_at = now() WHERE status = 'sending'")
    health = await night.type("health")
    assert "began 10 minutes ago and holds nothing" in health
    assert "was killed or lost → alerts-engine run --phase all" in health
    await night.cron()
    assert "interrupted: the process was killed" in await night.type("runs")
    night.connection.rollback()
    assert set(statuses(night.connection)) <= {"queued", "sent"}
    night.execute(
        "UPDATE user_alert_deliveries SET next_retry_at = now(), send_started_at = send_started_at - interval '2 min'"
        " WHERE status = 'queued'"
    )
    night.sandbox.advance(120)
    await night.cron("c")
    assert sorted(message.destination for message in night.sandbox.messages) == sorted(
        f"user{number}@example.com" for number in range(1, USERS + 1)
    )


async def test_the_allowlist_is_forgotten(night: Night):
    """Nobody misses what was never made; so health reminds, and explain says it for the one who asks."""
    night.settings = {"ALERTS_SEND_ALLOWLIST_USER_IDS": "1"}
    await night.cron()
    assert len(night.sandbox.messages) == 1
    health = await night.type("health")
    assert "only 1 user can get alerts: ALERTS_SEND_ALLOWLIST_USER_IDS is set" in health
    assert "this user is not in it" in await night.type("explain --user user2@example.com --event 1")


def gone(pid: int) -> None:
    """Wait until the process is."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)


async def test_the_database_is_restarted(sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection):
    """While it is away each command says so in a line; afterwards every outcome is there, and nobody got it twice."""
    import psycopg as driver

    folder = workshop() / f"night-{os.getpid()}"
    with embedded_postgres(folder) as url:
        await asyncio.to_thread(schema.apply, url)
        with driver.connect(url) as connection:
            add_news(connection, users=USERS)
        sending.settings["DATABASE_URL"] = url
        sandbox.faults.add(Fault(delay=2))
        process = await sending.start("run", "--quiet")
        await sandbox.wait_for_requests(USERS)
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        await asyncio.to_thread(gone, pid)
        night = Night(sending, postgresql, sandbox)
        assert "no connection to the database" in await night.type("health", code=1)
        with embedded_postgres(folder, keep_running=True):
            ended = await answer_of(process)
            assert ended.code == 1
            sandbox.faults.clear()
            assert "phase c failed: the phase lock's connection died" in await night.type("health")
            await night.cron()
            assert (await night.type("health")).startswith("✓ ok")
            is_as_the_manual_shows("The database is restarted", night.seen)
            with driver.connect(url) as connection:
                assert statuses(connection) == {"sent": USERS}
    assert len(sandbox.messages) == USERS
