"""health, failures, delivery show, retry-failed and explain by address, as an operator types them (SPEC section 10)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from alerts_engine.sandbox import Fault
from alerts_engine.types import Phase
from tests.acceptance.conftest import add_news

if TYPE_CHECKING:
    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import CommandLine

RUNNER = (sys.executable, "-m", "alerts_engine.runner")


@pytest.fixture
def news(postgresql: psycopg.Connection) -> psycopg.Connection:
    """An event for three users."""
    add_news(postgresql, users=3)
    return postgresql


async def test_health_of_a_run_that_went_well(sending: CommandLine, news: psycopg.Connection):
    """Ok, exit 0, and what was done (O-4)."""
    await sending.has_run()
    shown = await sending.on_terminal("health", width=80)
    assert shown.startswith("✓  ok: alerts go out")
    answer = await sending("health", "--json")
    assert (answer.code, answer.json["status"], answer.json["problems"]) == (0, "ok", [])
    assert answer.json["deliveries"]["24h"]["email"]["instant"]["sent"] == 3


async def test_health_says_what_is_wrong_first_and_what_helps_next_to_it(
    sending: CommandLine, news: psycopg.Connection, sandbox: Sandbox
):
    """Exit 1 for failing, 0 for degraded unless asked (O-4)."""
    sandbox.faults.add(Fault(status=401))
    assert (await sending("run")).code == 1
    shown = await sending.on_terminal("health", width=80, code=1)
    first, problem, command = [line for line in shown.splitlines() if line.strip()][:3]
    assert first.startswith("✗  failing")
    assert problem.startswith("✗  email is down: the provider refuses the key")
    assert "→ alerts-engine preflight --check-credentials" in shown
    assert command
    await sending.has_run(Phase.A)
    news.execute("UPDATE alerts_engine_run_items SET counts = '{}', status = 'success' WHERE phase = 'c'")
    news.execute(
        "UPDATE alerts_engine_runs SET finished_at = now() - interval '45 minutes', started_at = now() - interval '1h'"
    )
    news.commit()
    usual, strict = await sending.several(("health", "--json"), ("health", "--json", "--fail-on", "degraded"))
    assert (usual.code, usual.json["status"], strict.code) == (0, "degraded", 1)


async def test_the_older_flag_asks_the_same(sending: CommandLine, news: psycopg.Connection):
    """``--health`` of the runner, with what only a run is told (CLI-3)."""
    await sending.has_run()
    answer = await sending("--health", "--phase", "all", "--log-json", program=RUNNER)
    assert (answer.code, answer.out.splitlines()[0]) == (0, "✓  ok: alerts go out")


async def test_from_the_cause_to_one_delivery_in_two_commands(
    sending: CommandLine, news: psycopg.Connection, sandbox: Sandbox
):
    """Email fails since …, for whom; then one person's delivery (O-6)."""
    sandbox.faults.add(Fault(status=503))
    assert (await sending("run")).code == 0
    shown = await sending.on_terminal("failures", width=80)
    assert shown.startswith("!  email: 3 deliveries for 3 people will be tried again, since 2")
    (cause,) = (await sending("failures", "--json")).json["causes"]
    assert (cause["count"], cause["users"], cause["state"]) == (3, 3, "waiting")
    show = cause["command"].removeprefix("alerts-engine ").split()
    life = await sending.on_terminal(*show, width=80)
    assert "failed for now" in life
    assert "brevo_internal_server_error: the provider has trouble of its own" in " ".join(life.split())
    steps = (await sending(*show, "--json")).json["steps"]
    assert [step["step"] for step in steps] == ["event", "created", "begun", "retry", "waiting"]
    rows = await sending.on_terminal("failures", "--cause", cause["code"], width=80)
    assert "deliveries" in rows


async def test_failed_rows_are_taken_up_after_a_look(sending: CommandLine, news: psycopg.Connection, sandbox: Sandbox):
    """With --dry-run first (O-5)."""
    sandbox.faults.add(Fault(status=503))
    await sending("run", ALERTS_MAX_ATTEMPTS="1")
    sandbox.faults.clear()
    asked = ("retry-failed", "--kind", "deliveries", "--since-hours", "24", "--reset-attempts")
    look, done, again = await sending.several((*asked, "--dry-run"), (*asked, "--json"), asked)
    assert "3 deliveries would be queued again" in look.out
    assert (done.json["count"], done.json["by_cause"][0]["channel"]) == (3, "email")
    assert "Nothing that trying again could help." in again.out
    assert (await sending("run")).code == 0
    assert len(sandbox.messages) == 3


@pytest.mark.parametrize("name", ["1", "USER1@example.com", "+1 555 0000001", "4711"])
async def test_a_user_is_found_by_any_address(sending: CommandLine, news: psycopg.Connection, name: str):
    """By id first; the address is in no output (O-6, O-3)."""
    news.execute("UPDATE users SET phone_number = '+15550000001', telegram_chat_id = '4711' WHERE id = 1")
    news.commit()
    await sending.has_run()
    answer = await sending("explain", "--user", name, "--json", "--verbose")
    assert (answer.code, answer.json["user_id"]) == (0, 1)
    if "@" in name:
        assert name.lower() not in (answer.out + answer.err).lower()


async def test_an_address_of_several_lists_their_ids(sending: CommandLine, news: psycopg.Connection):
    """And one of nobody does not repeat it."""
    news.execute("UPDATE users SET phone_number = '+15550000001' WHERE id < 3")
    news.commit()
    several, nobody, wrong = await sending.several(
        ("explain", "--user", "+15550000001"), ("explain", "--user", "x@example.com"), ("explain", "--user", "0")
    )
    assert (several.code, nobody.code, wrong.code) == (1, 1, 2)
    assert "several users have this address: 1, 2; give the id of one" in several.err
    assert "no user has this address" in nobody.err
    assert "x@example.com" not in nobody.err


async def test_what_is_not_there_is_one_line(sending: CommandLine):
    answers = await sending.several(
        ("delivery", "show", "7"), ("digest", "show", "7"), ("failures", "--channel", "fax")
    )
    assert [answer.code for answer in answers] == [1, 1, 1]
    assert "there is no delivery 7" in answers[0].err
    assert "there is no digest 7" in answers[1].err
    assert "there is no channel fax: there are email, telegram, sms" in answers[2].err
