"""The readers' page over real HTTP, in both bindings: as readers, mail programs, scanners and attackers use it."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from alerts_engine import AlertsEngine, Phase
from alerts_engine.preferences.aiohttp_app import create_app
from alerts_engine.preferences.fastapi_router import create_router
from alerts_engine.reader_links import ReaderLinks, ReaderToken
from alerts_engine.sandbox import Sandbox
from tests.support import ground
from tests.support.serving import BINDINGS, served
from tests.support.world import add_delivery, add_event, add_preference, add_user, prepared, run, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

SECRET, OTHER = "0123456789abcdef0123456789abcdef", "another-secret-just-as-long-1234"
LINKS = ReaderLinks(SECRET, "https://app.example")
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
FIELDS = {"link_secret": SECRET, "public_base_url": "https://app.example"}
HIGH = "HIGH_IMPACT_EVENT"


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@dataclass
class Visitor:
    """Somebody with a link: no login, no cookies."""

    base: str
    session: aiohttp.ClientSession

    async def get(self, token: str, method: str = "GET", **order: Any) -> tuple[int, str]:
        async with self.session.request(method, f"{self.base}/alerts/preferences/{token}", **order) as answer:
            self.headers = answer.headers
            return answer.status, await answer.text()

    async def post(self, token: str, data: Any = None, **order: Any) -> tuple[int, str]:
        return await self.get(token, "POST", data=data, **order)


@asynccontextmanager
async def visiting(binding: str, url: str, **fields: Any) -> AsyncIterator[Visitor]:
    configured = settings(url, **FIELDS | fields)
    app = create_app(configured) if binding == "aiohttp" else create_router(configured)
    async with served(app) as base, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Visitor(base, session)


in_both = pytest.mark.parametrize("binding", BINDINGS)


def token_of(user: int, scope: str = HIGH, channel: str = "email") -> str:
    return LINKS.token(ReaderToken(user, channel, scope))


def kept(db: psycopg.Connection) -> dict[str, list[Any]]:
    """All that a choice may change."""
    tables = ("user_channel_preferences", "user_notification_settings", "user_alert_stops", "alert_consents",
              "user_alert_deliveries", "user_alert_digest_items", "user_alert_digests")  # fmt: skip
    return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def consents(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    rows = db.execute("SELECT user_id, channel, alert_type, choice, way FROM alert_consents ORDER BY id")
    return [tuple(row) for row in rows]


# --- readers --------------------------------------------------------------------------------------------------------


@in_both
async def test_the_page_says_what_the_reader_gets(db, database_url, binding):
    """In words, with what may be chosen; it is kept by nobody, and loads nothing (SPEC U-2)."""
    user = add_user(db, "pro")
    add_preference(db, user, region="Black Sea <b>", alert_type="REGIONAL_RISK_SPIKE")
    add_preference(db, user, region="global", alert_type="ASSET_RISK_SPIKE", asset="gas")
    async with visiting(binding, database_url) as visitor:
        status, page = await visitor.get(token_of(user))
    assert status == 200
    assert "Black Sea &lt;b&gt;: regional risk alerts" in page
    assert "all regions: asset risk alerts (gas)" in page
    offers = re.findall(r'name="choice" value="(\w+)"', page)
    assert offers == ["stop_type", "only_digests", "stop_channel"]
    assert "<script" not in page
    assert not re.search(r'(?:src|href|action)="', page)
    assert visitor.headers["Cache-Control"] == "no-store"
    assert visitor.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in visitor.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in visitor.headers


@in_both
async def test_every_choice_can_be_taken_back(db, database_url, binding):
    """Each writes the tables that the fan-out reads, and a record; made twice it is made once (SPEC U-2, U-3)."""
    user, token = add_user(db, "pro"), None
    token = token_of(user)
    states = {
        "stop_type": "SELECT count(*) FROM user_alert_stops WHERE alert_type = 'HIGH_IMPACT_EVENT'",
        "only_digests": "SELECT count(*) FROM user_notification_settings WHERE digest_only",
        "stop_channel": "SELECT count(*) FROM user_channel_preferences WHERE channel = 'email' AND NOT enabled",
    }
    backs = {"stop_type": "resume_type", "only_digests": "also_at_once", "stop_channel": "resume_channel"}
    async with visiting(binding, database_url) as visitor:
        for choice, back in backs.items():
            for wanted, count in ((choice, 1), (choice, 1), (back, 0), (back, 0)):
                status, page = await visitor.post(token, {"choice": wanted})
                assert status == 200
                assert 'role="status"' in page
                assert db.execute(states[choice]).fetchone()[0] == count
                assert f'value="{back if count else choice}"' in page
    assert consents(db) == [
        (user, "email", HIGH if "type" in one else None, one, "page") for pair in backs.items() for one in pair
    ]


async def test_what_was_stopped_is_respected_and_comes_back(db, database_url):
    """The fan-out refuses that type on that channel, and nothing else (SPEC U-3, B-4)."""
    user = add_user(db, "pro", telegram="1")
    add_preference(db, user)
    add_preference(db, user, alert_type="REGIONAL_RISK_SPIKE")

    async def made() -> set[tuple[str, str]]:
        events = {add_event(db): "high", add_event(db, alert_type="REGIONAL_RISK_SPIKE"): "spike"}
        await run(database_url, Phase.B)
        rows = db.execute("SELECT alert_event_id, channel FROM user_alert_deliveries")
        return {(events[row[0]], row[1]) for row in rows if row[0] in events}

    async with visiting("aiohttp", database_url) as visitor:
        await visitor.post(token_of(user), {"choice": "stop_type"})
        assert await made() == {("high", "telegram"), ("spike", "telegram"), ("spike", "email")}
        await visitor.post(token_of(user), {"choice": "stop_channel"})
        assert await made() == {("high", "telegram"), ("spike", "telegram")}
        await visitor.post(token_of(user), {"choice": "resume_channel"})
        await visitor.post(token_of(user), {"choice": "resume_type"})
        assert await made() == {(what, channel) for what in ("high", "spike") for channel in ("email", "telegram")}


async def test_what_is_queued_already_is_skipped(db, database_url):
    """Alerts of that type that wait, at once or for a digest, and in digests that were never tried (SPEC U-3)."""
    user, other = add_user(db), add_user(db)
    high, spike = add_event(db, fanned_out=True), add_event(db, alert_type="REGIONAL_RISK_SPIKE", fanned_out=True)
    tried = add_delivery(db, user, add_event(db, fanned_out=True), "email")
    db.execute("UPDATE user_alert_deliveries SET attempts = 1, next_retry_at = now() WHERE id = %s", [tried])
    in_digest = [add_delivery(db, user, event, "email", "digest") for event in (high, spike)]
    await run(database_url, Phase.D)
    single, alike = add_delivery(db, user, high), add_delivery(db, other, high)
    telegram = add_delivery(db, user, high, "telegram")
    async with visiting("aiohttp", database_url) as visitor:
        assert (await visitor.post(token_of(user), {"choice": "stop_type"}))[0] == 200
    rows = {row.id: (row.status, row.last_error) for row in db.execute("SELECT * FROM user_alert_deliveries")}
    assert rows[single] == rows[in_digest[0]] == ("skipped", "channel_disabled")
    assert rows[in_digest[1]] == ("skipped", "batched_into_digest")
    assert rows[tried] == rows[alike] == rows[telegram] == ("queued", None)
    assert [row[0] for row in db.execute("SELECT delivery_id FROM user_alert_digest_items")] == [in_digest[1]]


async def test_what_a_fan_out_made_meanwhile_is_skipped_when_it_is_claimed(db, database_url):
    """It decided before the reader did (SPEC U-3, C-10)."""
    user = add_user(db)
    delivery = add_delivery(db, user, add_event(db, fanned_out=True))
    db.execute("INSERT INTO user_alert_stops VALUES (%s, 'email', %s)", [user, HIGH])
    async with Sandbox.start() as sandbox, AlertsEngine(ground.settings(database_url, sandbox.url)) as engine:
        await engine.run(Phase.C)
        assert len(sandbox.messages) == 0
    row = db.execute("SELECT status, last_error FROM user_alert_deliveries WHERE id = %s", [delivery]).fetchone()
    assert tuple(row) == ("skipped", "channel_disabled")


async def test_a_link_of_a_digest_is_about_no_type(db, database_url):
    """The page does not offer to stop one, and refuses to (SPEC U-2)."""
    token = token_of(add_user(db), scope="")
    async with visiting("aiohttp", database_url) as visitor:
        _, page = await visitor.get(token)
        assert "stop_type" not in page
        assert (await visitor.post(token, {"choice": "stop_type"}))[0] == 400
    assert consents(db) == []


# --- mail programs and scanners -------------------------------------------------------------------------------------


@in_both
@pytest.mark.parametrize("multipart", [False, True])
async def test_one_click_of_a_mail_program_stops_all_emails(db, database_url, binding, multipart):
    """A POST without cookies, as either kind of form; again is once (SPEC U-1, RFC 8058)."""
    user = add_user(db)
    async with visiting(binding, database_url) as visitor:
        for _ in range(2):
            data: Any = ONE_CLICK
            if multipart:
                data = aiohttp.FormData(ONE_CLICK, default_to_multipart=True)
            status, _ = await visitor.post(token_of(user), data)
            assert status == 200
    assert consents(db) == [(user, "email", None, "stop_channel", "one_click")]
    (row,) = db.execute("SELECT channel, enabled FROM user_channel_preferences").fetchall()
    assert tuple(row) == ("email", False)


@in_both
async def test_whoever_only_looks_changes_nothing(db, database_url, binding):
    """Scanners follow links, ask for heads, prefetch, and add parameters (SPEC U-2)."""
    user = add_user(db, "pro")
    add_delivery(db, user, add_event(db, fanned_out=True))
    before = kept(db)
    async with visiting(binding, database_url) as visitor:
        for _ in range(3):
            assert (await visitor.get(token_of(user)))[0] == 200
            assert (await visitor.get(token_of(user), "HEAD")) == (200, "")
            assert (await visitor.get(token_of(user), headers={"Sec-Purpose": "prefetch"}))[0] == 200
            assert (await visitor.get(token_of(user) + "?choice=stop_channel&List-Unsubscribe=One-Click"))[0] == 200
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert (await visitor.get(token_of(user), method, data=ONE_CLICK))[0] == 405
    assert kept(db) == before


# --- attackers ------------------------------------------------------------------------------------------------------


@in_both
async def test_a_wrong_link_is_not_found_and_changes_nothing(db, database_url, binding):
    """Forged, altered, truncated, of another secret, of another user, of nobody (SPEC U-1, U-2)."""
    user, victim = add_user(db), add_user(db)
    mine, theirs = token_of(user), token_of(victim)
    wrong = [
        "x", "x.y", mine[:-1], mine[:-1] + ("A" if mine[-1] != "A" else "B"),
        f"{theirs.split('.')[0]}.{mine.split('.')[1]}",
        ReaderLinks(OTHER, "https://x.example").token(ReaderToken(user, "email", HIGH)),
        token_of(10**9), f"{mine}.{mine}", "%00", "..%2F" + mine,
    ]  # fmt: skip
    before = kept(db)
    async with visiting(binding, database_url) as visitor:
        answers = {token: await visitor.post(token, ONE_CLICK) for token in wrong}
    assert {status for status, _ in answers.values()} == {404}
    assert len({page for token, (_, page) in answers.items() if "%" not in token}) == 1
    assert kept(db) == before


@in_both
async def test_a_new_secret_makes_old_links_worthless(db, database_url, binding):
    """And links of the new one work (SPEC U-1)."""
    user = add_user(db)
    async with visiting(binding, database_url, link_secret=OTHER) as visitor:
        assert (await visitor.post(token_of(user), ONE_CLICK))[0] == 404
        fresh = ReaderLinks(OTHER, "https://app.example").token(ReaderToken(user, "email", ""))
        assert (await visitor.post(fresh, ONE_CLICK))[0] == 200
    assert len(consents(db)) == 1


@in_both
async def test_guessing_is_slowed_down_and_readers_are_not(db, database_url, binding):
    """Twenty wrong links a minute from one address; a right one still works from there (SPEC U-2)."""
    user = add_user(db)
    async with visiting(binding, database_url) as visitor:
        answers = [(await visitor.get(f"guess{number}"))[0] for number in range(25)]
        assert answers == [404] * 20 + [429] * 5
        assert visitor.headers["Retry-After"] == "60"
        assert (await visitor.get(token_of(user)))[0] == 200
        answers = [(await visitor.get(token_of(user)))[0] for number in range(70)]
    assert answers[:50] == [200] * 50
    assert answers[-1] == 429


@in_both
@pytest.mark.parametrize("missing", ["link_secret", "public_base_url"])
async def test_without_both_settings_there_is_no_page(db, database_url, binding, missing):
    """Every link is wrong then (SPEC U-1)."""
    async with visiting(binding, database_url, **{missing: None}) as visitor:
        assert (await visitor.get(token_of(add_user(db))))[0] == 404


@in_both
async def test_odd_bodies_are_refused(db, database_url, binding):
    """Nothing chosen, an unknown choice, a broken form, one that is too large (SPEC U-2)."""
    token = token_of(add_user(db))
    bodies: list[tuple[Any, dict[str, str]]] = [
        ("", {}),
        ({"choice": "delete_everything"}, {}),
        ("List-Unsubscribe=One-Click", {"Content-Type": "text/plain"}),
        (b"\xff\xfe=1", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"--x\r\nnonsense", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"nonsense", {"Content-Type": "multipart/form-data"}),
        ({"choice": "x" * 100_000}, {}),
    ]
    async with visiting(binding, database_url) as visitor:
        for body, headers in bodies:
            address = f"{visitor.base}/alerts/preferences/{token}"
            async with visitor.session.post(address, data=body, headers=headers) as answer:
                assert answer.status in {400, 413, 415}, body
    assert consents(db) == []


async def test_the_token_is_in_no_log(db, database_url, capfd):
    """Neither a right one nor a wrong one, whatever happens (SPEC O-3)."""
    user = add_user(db)
    async with visiting("aiohttp", database_url) as visitor:
        await visitor.post(token_of(user), ONE_CLICK)
        await visitor.get("wrong-token-of-somebody")
    logged = "".join(capfd.readouterr())
    assert "request" in logged
    assert token_of(user) not in logged
    assert token_of(user).split(".")[1] not in logged
    assert "wrong-token-of-somebody" not in logged
