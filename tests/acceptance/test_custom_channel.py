"""A channel that a package adds by an entry point, exactly as ``channels/README.md`` shows it (SPEC I-6)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from tests.acceptance.conftest import CommandLine

README = Path(__file__).parent.parent.parent / "alerts_engine" / "channels" / "README.md"
QUOTAS = {"pro": {"email": 20, "acme.webhook": 2, "digests": 24, "alert_types": ["ALL"]}}


@pytest.fixture
async def hook() -> AsyncIterator[tuple[str, list[dict[str, object]]]]:
    """A server that takes every alert, and what it got."""
    got: list[dict[str, object]] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.json_response({})

    application = web.Application()
    application.router.add_post("/alerts", take)
    async with TestServer(application) as server:
        yield str(server.make_url("/alerts")), got


@pytest.fixture
def with_package(alerts_engine: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line beside an installed package with the README's code and its entry point."""
    text = README.read_text()
    toml, code = re.findall(r"```(?:toml|python)\n(.*?)```", text, re.DOTALL)[:2]
    site = tmp_path / "site"
    info = site / "acme_alerts-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_alerts.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-alerts\nVersion: 1.0\n")
    name, target = re.search(r'"([\w.]+)" = "([\w:]+)"', toml).groups()
    (info / "entry_points.txt").write_text(f"[alerts_engine.channels]\n{name} = {target}\n")
    alerts_engine.settings |= {"PYTHONPATH": str(site), "ALERTS_PLAN_QUOTAS": json.dumps(QUOTAS)}
    return alerts_engine


def add_people(connection: psycopg.Connection, url: str) -> None:
    """Three users of the plan ``pro``: two have a webhook, one of these has switched it off."""
    connection.execute("INSERT INTO users (email) VALUES (''), (' '), ('  ')")
    connection.execute("INSERT INTO user_plans (user_id, plan) SELECT id, 'pro' FROM users")
    connection.execute(
        "INSERT INTO user_alert_prefs (user_id, region, alert_type) SELECT id, 'global', 'HIGH_IMPACT_EVENT' FROM users"
    )
    connection.execute(
        "INSERT INTO user_alert_destinations SELECT id, 'acme.webhook', %s FROM users WHERE id < 3", [url]
    )
    connection.execute("INSERT INTO user_channel_preferences VALUES (2, 'acme.webhook', FALSE)")
    connection.execute(
        "INSERT INTO events (title, source_url, region, severity_score)"
        " SELECT 'Pipeline ' || n || ' shut', 'https://news.example/' || n, 'Europe', 5"
        " FROM generate_series(1, 3) AS n"
    )
    connection.commit()


async def test_a_custom_channel_goes_through_the_whole_chain(
    with_package: CommandLine, postgresql: psycopg.Connection, hook: tuple[str, list[dict[str, object]]]
):
    """Fanned out by plan, preference, destination and quota; sent and counted; the package is not touched."""
    url, got = hook
    add_people(postgresql, url)
    answer = await with_package("run", "--json")
    assert answer.code == 0, answer.err
    assert answer.phase("b")["counts"]["created_instant"] == 2
    assert answer.phase("b")["counts"]["deliveries_skipped_quota"] == 1
    assert answer.phase("c")["counts"]["by_channel"]["acme.webhook"]["sent"] == 2
    assert sorted(alert for message in got for alert in message["alerts"]) == ["Pipeline 1 shut", "Pipeline 2 shut"]


async def test_a_custom_channel_is_explained_previewed_and_checked(
    with_package: CommandLine, postgresql: psycopg.Connection, hook: tuple[str, list[dict[str, object]]]
):
    """By the same words as any other."""
    add_people(postgresql, hook[0])
    await with_package("run", "--phase", "a", "--json")
    preflight = await with_package("preflight", "--json")
    assert preflight.json["channels_configured"] == {
        "email": False, "telegram": False, "sms": False, "acme.webhook": True,
    }  # fmt: skip
    reasons = {}
    for user in (1, 2, 3):
        answer = await with_package("explain", "--user", str(user), "--event", "1", "--json")
        decisions = {one["channel"]: one for one in answer.json["explanations"][0]["decisions"]}
        reasons[user] = decisions["acme.webhook"]["verdict"]
    assert reasons == {1: "deliver", 2: "prefs", 3: "missing_destination"}
    shown = await with_package("preview", "--event", "1", "--channel", "acme.webhook")
    assert shown.out == '{"alerts": ["Pipeline 1 shut"]}\n'
    told = await with_package("explain", "--user", "3", "--event", "1")
    assert "the user has no webhook URL" in told.out


async def test_a_custom_channel_can_be_paused(
    with_package: CommandLine, postgresql: psycopg.Connection, hook: tuple[str, list[dict[str, object]]]
):
    """Its rows stay queued, and go out once it is not paused any more (SPEC section 4)."""
    url, got = hook
    add_people(postgresql, url)
    paused = await with_package("run", "--json", ALERTS_CHANNELS_PAUSED="sms,acme.webhook")
    assert paused.code == 0, paused.err
    assert got == []
    queued = postgresql.execute("SELECT DISTINCT channel, status FROM user_alert_deliveries").fetchall()
    assert queued == [("acme.webhook", "queued")]
    warned = await with_package("preflight", "--json", ALERTS_CHANNELS_PAUSED="acme.webhook")
    assert "ALERTS_CHANNELS_PAUSED is set: messages of acme.webhook stay queued" in warned.json["warnings"]
    await with_package("run", "--json")
    assert len(got) == 2


async def test_a_paused_channel_that_nobody_adds_is_an_error(with_package: CommandLine):
    """Which lists the custom channels among those that there are, and does not repeat what was given."""
    answer = await with_package("run", "--json", ALERTS_CHANNELS_PAUSED="acme.wehbook")
    known = "`email`, `telegram`, `sms`, `acme.webhook`"
    assert answer.code == 1
    assert answer.json["error"] == f"ALERTS_CHANNELS_PAUSED must be channels with commas between them, of {known}"


async def test_a_package_that_cannot_be_loaded_is_named(with_package: CommandLine, tmp_path: Path):
    """One line that says which entry point, and what to do."""
    (tmp_path / "site" / "acme_alerts.py").write_text("raise RuntimeError('private')")
    answer = await with_package("run", "--json")
    assert answer.code == 1
    assert "the entry point acme.webhook of alerts_engine.channels cannot be loaded (RuntimeError)" in answer.err
    assert "private" not in answer.out + answer.err


async def test_too_many_channels_are_refused(with_package: CommandLine, tmp_path: Path):
    """Rather than mixed up (SPEC I-6)."""
    site = tmp_path / "site"
    with (site / "acme_alerts.py").open("a") as code:
        code.write("\nfrom dataclasses import replace\n")
        code.writelines(f"HOOK{n} = replace(WEBHOOK, name='acme.hook{n}')\n" for n in range(5))
    with (site / "acme_alerts-1.0.dist-info" / "entry_points.txt").open("a") as entries:
        entries.writelines(f"acme.hook{n} = acme_alerts:HOOK{n}\n" for n in range(5))
    answer = await with_package("run", "--json")
    assert answer.code == 1
    assert "9 channels are more than 8" in answer.err
