"""What an email says of its reader: why it came, how to stop, and the same at every attempt (SPEC M-3b, U-1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.channels import channels
from alerts_engine.operations.preview import PreviewKind, message_of, preview
from alerts_engine.preferences.aiohttp_app import create_app
from alerts_engine.sandbox import Fault, Sandbox
from tests.support import ground
from tests.support.serving import served
from tests.support.world import add_delivery, add_event, add_preference, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

LINKED = {"link_secret": "0123456789abcdef0123456789abcdef", "public_base_url": "https://app.example"}
SPIKE = {"alert_type": "REGIONAL_RISK_SPIKE", "fanned_out": True}


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


async def send(url: str, sandbox: Sandbox, phase: Phase = Phase.C, **fields: Any) -> None:
    async with AlertsEngine(ground.settings(url, sandbox.url, **fields)) as engine:
        report = await engine.run(phase)
    assert report.status == "success"


def why(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("You get this")]
    return line


WISHES: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([], {}, "you have not chosen any alerts yet, and everybody begins with Europe: high-impact events."),
    ([{"region": "europe "}], {}, "you follow europe: high-impact events."),
    ([{"region": "global"}], {}, "you follow all regions: high-impact events."),
    ([{"region": "Asia"}, {"region": "global", "cooldown_minutes": 5}, {"cooldown_minutes": 9}], {},
     "you follow all regions: high-impact events."),
    ([{"alert_type": "ASSET_RISK_SPIKE", "asset": "gas"}], {"alert_type": "ASSET_RISK_SPIKE", "assets": ["gas"]},
     "you follow Europe: asset risk alerts (gas)."),
    ([{"alert_type": "WIND_OUTAGE", "threshold": 70.0}], {"alert_type": "WIND_OUTAGE", "value": 70.0},
     "you follow Europe: wind outages."),
]  # fmt: skip


@pytest.mark.parametrize("wish", WISHES)
async def test_an_email_says_which_preference_matched(db, database_url, sandbox, wish):
    """The one that decides, in words, or the defaults (SPEC M-3b)."""
    rows, event, said = wish
    user = add_user(db, "pro")
    for row in rows:
        add_preference(db, user, **row)
    add_delivery(db, user, add_event(db, fanned_out=True, **event))
    await send(database_url, sandbox)
    (message,) = sandbox.messages
    assert why(message.text) == f"You get this email because {said}"
    assert f"because {said}" in message.html


async def test_where_no_preference_matches_any_more_it_is_said_in_general(db, database_url, sandbox):
    """The reader changed them after the fan-out (SPEC M-3b)."""
    user = add_user(db, "pro")
    add_preference(db, user, region="Asia")
    add_delivery(db, user, add_event(db, fanned_out=True))
    await send(database_url, sandbox)
    assert "matches your notification preferences" in why(sandbox.messages[0].text)


async def test_a_digest_says_what_its_alerts_have_in_common(db, database_url, sandbox):
    """Each preference once, three of them (SPEC M-3b)."""
    user = add_user(db, "pro")
    for region in ("Europe", "Asia", "Africa", "Oceania", "global"):
        add_preference(
            db, user, region=region, alert_type="REGIONAL_RISK_SPIKE", cooldown_minutes=9 * (region == "global")
        )
    for region in ("Europe", "Europe", "Asia", "Africa", "Oceania"):
        add_delivery(db, user, add_event(db, region=region, **SPIKE), "email", "digest")
    await send(database_url, sandbox, Phase.D)
    db.execute("UPDATE user_alert_digests SET next_retry_at = now()")
    await send(database_url, sandbox)
    assert why(sandbox.messages[0].text) == (
        "You get this email because you follow Africa: regional risk alerts; Asia: regional risk alerts; "
        "Europe: regional risk alerts; and 1 more."
    )


@pytest.mark.parametrize("provider", ["brevo", "resend"])
async def test_an_email_can_be_stopped_by_one_click(db, database_url, sandbox, provider):
    """Its headers are those of RFC 8058, and its link is the reader's own (SPEC U-1, M-3b)."""
    users = [add_user(db), add_user(db)]
    event = add_event(db, fanned_out=True)
    for user in users:
        add_delivery(db, user, event)
    await send(database_url, sandbox, email_provider=provider, **LINKED)
    links = {}
    for message in sandbox.messages:
        headers = message.headers
        link = headers["List-Unsubscribe"].strip("<>")
        assert link.startswith("https://app.example/alerts/preferences/")
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert headers["Auto-Submitted"] == "auto-generated"
        assert headers["X-Entity-Ref-ID"] == message.tags[0].removeprefix("alerts_engine:")
        assert message.text.count(link) == message.html.count(link) == 1
        assert "reader.invalid" not in message.text + message.html
        assert message.destination not in link
        links[message.destination] = link
    assert len(set(links.values())) == 2
    app = create_app(settings(database_url, **LINKED))
    async with served(app) as base, aiohttp.ClientSession() as session:
        chosen = links[db.execute("SELECT email FROM users WHERE id = %s", [users[0]]).fetchone()[0]]
        url = chosen.replace("https://app.example", base)
        async with session.post(url, data={"List-Unsubscribe": "One-Click"}) as answer:
            assert answer.status == 200
    assert [row[0] for row in db.execute("SELECT user_id FROM user_channel_preferences")] == [users[0]]


async def test_without_the_settings_there_is_no_link(db, database_url, sandbox):
    """But still why, and what every generated email has (SPEC U-1, M-3b)."""
    add_delivery(db, add_user(db), add_event(db, fanned_out=True))
    await send(database_url, sandbox)
    (message,) = sandbox.messages
    assert message.headers.keys() == {"Auto-Submitted", "X-Entity-Ref-ID"}
    assert "nsubscribe" not in message.text + message.html


@pytest.mark.parametrize("kind", ["instant", "digest"])
async def test_a_repeat_has_the_same_bytes_whatever_the_reader_changed(db, database_url, sandbox, kind):
    """Its answer was lost, and the preference is another one by now (SPEC C-12, M-3b)."""
    user = add_user(db, "pro")
    add_preference(db, user)
    delivery = add_delivery(db, user, add_event(db, fanned_out=True), "email", kind)
    if kind == "digest":
        await send(database_url, sandbox, Phase.D)
        db.execute("UPDATE user_alert_digests SET next_retry_at = now()")
    fields = {"email_provider": "resend", **LINKED}
    sandbox.faults.add(Fault(provider="resend", reset=True, accept=True, times=1))
    await send(database_url, sandbox, **fields)
    db.execute("UPDATE user_alert_prefs SET region = 'global'")
    db.execute("UPDATE user_alert_deliveries SET next_retry_at = now() WHERE next_retry_at IS NOT NULL")
    db.execute("UPDATE user_alert_digests SET next_retry_at = now()")
    await send(database_url, sandbox, **fields)
    table = "user_alert_deliveries" if kind == "instant" else "user_alert_digests"
    # Resend answers a repeat with other bytes by a 409: this one was the same, so it is settled as sent.
    assert [tuple(row) for row in db.execute(f"SELECT status, last_error FROM {table}")] == [("sent", None)]
    assert len(sandbox.messages) == 1
    assert delivery


@pytest.mark.parametrize("kind", [PreviewKind.DELIVERY, PreviewKind.DIGEST])
async def test_a_preview_is_the_message_byte_for_byte(db, database_url, sandbox, kind):
    """With the reader's link and reasons, before it is sent and after (SPEC section 3)."""
    user = add_user(db, "pro")
    add_preference(db, user, region="global")
    number = add_delivery(
        db, user, add_event(db, fanned_out=True), "email", "instant" if kind == "delivery" else "digest"
    )
    if kind is PreviewKind.DIGEST:
        await send(database_url, sandbox, Phase.D)
        db.execute("UPDATE user_alert_digests SET next_retry_at = now()")
        number = db.execute("SELECT id FROM user_alert_digests").fetchone()[0]
    configured = ground.settings(database_url, sandbox.url, **LINKED)
    shown = []
    async with AlertsEngine(configured) as engine:
        shown.append(message_of(await preview(engine.database, kind, number), "email", configured))
        await engine.run(Phase.C)
        shown.append(message_of(await preview(engine.database, kind, number), "email", configured))
    (sent,) = sandbox.messages
    assert shown[0] == shown[1]
    assert (shown[0].html, shown[0].text, shown[0].subject) == (sent.html, sent.text, sent.subject)  # type: ignore[attr-defined]
    assert channels()["email"].form.show(shown[0], "text") == sent.text
    assert re.search(r"https://app.example/alerts/preferences/[\w.-]+", sent.text)
