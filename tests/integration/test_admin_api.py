"""The admin API over real HTTP, by both bindings: the operations' own answers (SPEC section 11)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alerts_engine import AlertsEngine, Phase
from alerts_engine.admin.admin_site import admin_site
from alerts_engine.admin.engine_source import EngineSource
from alerts_engine.reports import to_json
from tests.support.admin import TOKEN, client_of, made
from tests.support.serving import BINDINGS
from tests.support.world import add_delivery, add_event, add_preference, add_user, prepared, run, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

    from tests.support.admin import Client

DESCRIPTION = json.loads((files("alerts_engine.admin") / "openapi.json").read_text("utf-8"))


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@pytest.fixture(params=BINDINGS)
async def client(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Client]:
    async with client_of(made(request.param, database_url)) as opened:
        yield opened


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AlertsEngine]:
    async with AlertsEngine(settings(database_url)) as opened:
        yield opened


def add_failed(
    db: psycopg.Connection, count: int, *, cause: str = "brevo_503", attempts: int = 5, event: int = 0
) -> int:
    """So many users whose email failed half an hour ago; the event."""
    event = event or add_event(db, datetime.now(UTC) - timedelta(hours=1), fanned_out=True)
    for _ in range(count):
        number = add_delivery(db, add_user(db, "pro"), event, status="queued")
        db.execute(
            "UPDATE user_alert_deliveries SET status = 'failed', attempts = %s, last_error = %s,"
            " failure_kind = 'transient', ended_at = now() - interval '30 min' WHERE id = %s",
            [attempts, cause, number],
        )
    return event


# --- runs -----------------------------------------------------------------------------------------------------------


async def test_runs_are_those_of_the_command_line(client, engine, database_url):
    """Newest first, each with its items (P-1)."""
    reports = [await run(database_url, phase, now=None) for phase in (Phase.A, Phase.ALL)]
    said = await client.get("/runs")
    assert said == {"runs": to_json(await engine.recorded_runs(50))}
    assert [one["run_id"] for one in said["runs"]] == [report.run_id for report in reversed(reports)]
    assert [item["phase"] for item in said["runs"][0]["items"]] == ["a", "b", "d", "c"]


async def test_one_run(client, database_url):
    """By its id, by its first characters, or as the last one; 404 when unknown (P-1)."""
    report = await run(database_url, Phase.ALL, now=None)
    for name in (report.run_id, report.run_id[:13], report.run_id.upper(), "last"):
        said = await client.get(f"/runs/{name}")
        assert said["run_id"] == report.run_id
        assert len(said["items"]) == 4
    for unknown in (uuid4(), "zzz", "0" * 40, "ff%20ff", "%F0%9F%98%80"):
        status, said = await client("GET", f"/runs/{unknown}")
        assert (status, set(said)) == (404, {"error"}), unknown


async def test_runs_come_in_pages(client, db):
    """As many as asked for, and then those before the last one."""
    ids = [uuid4() for _ in range(7)]
    for number, run_id in enumerate(ids):
        db.execute(
            "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, status)"
            " VALUES (%s, 'local', 'all', now() - make_interval(mins => %s), 'success')",
            [run_id, number // 2],  # some began at once
        )
    seen: list[UUID] = []
    while page := (await client.get(f"/runs?limit=2{f'&before={seen[-1]}' if seen else ''}"))["runs"]:
        seen += [UUID(one["run_id"]) for one in page]
    assert sorted(seen) == sorted(ids)
    assert seen[-1] == ids[-1]


# --- what is wrong --------------------------------------------------------------------------------------------------


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "generated_at"}


async def test_health_is_that_of_the_command_line(client, engine, db, database_url):
    """All of it, also when it is bad: 200, since it was answered (O-4)."""
    add_failed(db, 3)
    await run(database_url, Phase.ALL, now=None)
    said = await client.get("/health")
    assert without_time(said) == without_time(to_json(await engine.health()))
    assert said["last_run"]["status"] == "success"


async def test_failures_lead_to_one_delivery(client, db):
    """From a cause to its rows, in pages, to a delivery's life (O-6)."""
    event = add_failed(db, 5)
    add_failed(db, 1, cause="twilio_30005", event=event)
    said = await client.get("/failures?channel=email")
    assert [(one["code"], one["count"]) for one in said["causes"]] == [("brevo_503", 5), ("twilio_30005", 1)]
    assert said["deliveries"] is None
    seen, cursor = [], ""
    while cursor is not None:
        page = await client.get(f"/failures?cause=brevo_503&limit=2{cursor and f'&cursor={cursor}'}")
        seen += [one["id"] for one in page["deliveries"]]
        cursor = page["cursor"]
    assert len(set(seen)) == len(seen) == 5
    life = await client.get(f"/deliveries/{seen[0]}")
    assert (life["row"]["status"], life["row"]["last_error"], life["event"]["id"]) == ("failed", "brevo_503", event)


async def test_retry_failed_counts_first_and_then_does(client, db):
    """Dry run, run, and again: the same rows once (O-5)."""
    add_failed(db, 3)
    add_failed(db, 1, cause="timeout")

    async def retry(**more: str) -> int:
        asked = {"kind": "deliveries", "since_hours": "2", "reset_attempts": "true", **more}
        return (await client.post("/retry_failed", params=asked))["count"]

    def queued() -> int:
        return db.execute("SELECT count(*) FROM user_alert_deliveries WHERE status = 'queued'").fetchone()[0]

    assert await retry(dry_run="true") == 4
    assert await retry(dry_run="true", reset_attempts="false") == 0
    assert (queued(), await retry(cause="timeout"), queued()) == (0, 1, 1)
    assert (await retry(), await retry(), queued()) == (3, 0, 4)


async def test_retry_failed_takes_a_form_as_well(client, db):
    add_failed(db, 2)
    asked = {"kind": "deliveries", "since_hours": "2", "reset_attempts": "1"}
    assert (await client.post("/retry_failed", data=asked))["count"] == 2


async def test_changes_are_made_by_post_alone(client, db):
    """A GET changes nothing (P-2)."""
    add_failed(db, 1)
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        status, _ = await client(method, "/retry_failed?kind=deliveries&since_hours=2&reset_attempts=true")
        assert status == 405
    assert db.execute("SELECT DISTINCT status FROM user_alert_deliveries").fetchall() == [("failed",)]


async def test_metrics_are_what_prometheus_reads(client, db):
    """With the token, or with it as a bearer; the bearer opens nothing else (P-5)."""
    add_failed(db, 1)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for headers in (None, bearer):
        status, text = await client("GET", "/metrics", headers=headers)
        assert status == 200
        assert "alerts_engine_health_status" in {family.name for family in text_string_to_metric_families(text)}
    assert (await client("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}x"}))[0] == 401
    assert (await client("GET", "/metrics", headers={"Authorization": f"Basic {TOKEN}"}))[0] == 401
    assert (await client("GET", "/runs", headers=bearer))[0] == 401


# --- one thing ------------------------------------------------------------------------------------------------------


async def test_explain_is_that_of_the_command_line(client, engine, db, database_url):
    """By id, or by address in a POST (P-4a, B-9)."""
    user = add_user(db, "pro", email="Somebody@Example.com")
    add_preference(db, user)
    event = add_event(db, datetime.now(UTC) - timedelta(minutes=5))
    await run(database_url, Phase.B, now=None)
    expected = {"user_id": user, "explanations": to_json(await engine.explain(user, event))}
    assert await client.get(f"/explain?user={user}&event={event}") == expected
    for address in ("Somebody@Example.com", "somebody@example.com "):
        assert await client.post("/explain", data={"user": address, "event": event}) == expected
    assert expected["explanations"][0]["decisions"][0]["verdict"] == "deliver"


async def test_an_unknown_address_is_not_repeated(client, db):
    """Not in the error (O-3)."""
    status, said = await client("POST", "/explain", data={"user": "nobody@example.com"})
    assert (status, said) == (404, {"error": "no user has this address"})


async def test_search_knows_what_a_text_may_mean(client, db):
    """Ids, addresses in any spelling, words, a fingerprint (P-4a)."""
    user = add_user(db, email="ann@example.com", telegram="-100123456", phone="+31612345678")
    twin = add_user(db, email="bob@example.com", phone="+31612345678")
    event = add_event(db, fingerprint="outage:100%_x", region="Asia")
    other = add_event(db, fingerprint="other", region="Asia")
    number = add_delivery(db, user, event)

    async def found(text: str, what: str) -> list[Any]:
        said = await client.post("/search", data={"q": text})
        return [one["id"] if isinstance(one, dict) else one for one in said[what]]

    for text in (str(user), "ANN@example.com", "-100123456"):
        assert await found(text, "user_ids") == [user], text
    for text in ("+31612345678", "+31 6 1234 5678", "+31 (6) 1234-5678"):
        assert await found(text, "user_ids") == [user, twin], text
    assert await found(str(number), "delivery_ids") == [number]
    assert await found(str(event), "events") == [event]
    assert await found("headLINE", "events") == [other, event]
    assert await found("asia", "events") == [other, event]
    assert await found("outage:100%_x", "events") == [event]
    for nothing in ("%", "head%line", "head_ine", "nobody@example.com", "' OR 1=1 --", "\\", "9" * 30):
        assert not any((await client.post("/search", data={"q": nothing})).values()), nothing


async def test_events_and_a_users_deliveries_come_in_pages(client, db):
    """Newest first, none twice, none left out."""
    user = add_user(db)
    events = [add_event(db) for _ in range(5)]
    deliveries = [add_delivery(db, user, event) for event in events]
    for path, name, expected in (
        ("/events", "events", events), (f"/users/{user}/deliveries", "deliveries", deliveries)
    ):  # fmt: skip
        seen, before = [], ""
        while before is not None:
            page = await client.get(f"{path}?limit=2{before and f'&before={before}'}")
            seen += [one["id"] for one in page[name]]
            before = page["before"]
        assert seen == expected[::-1]


async def test_the_way_of_an_event(client, db):
    """Its deliveries, by channel and state (P-4a)."""
    event = add_event(db, fanned_out=True)
    for status in ("sent", "sent", "queued"):
        add_delivery(db, add_user(db), event, status=status)
    add_delivery(db, add_user(db), event, "telegram", "digest")
    said = await client.get(f"/events/{event}")
    assert said["event"]["id"] == event
    assert [(one["channel"], one["outcome"], one["rows"]) for one in said["outcomes"]] == [
        ("email", "queued", 1), ("email", "sent", 2), ("telegram", "queued", 1),
    ]  # fmt: skip


async def test_no_answer_has_an_address(client, db):
    """Whatever is asked of a user (O-3)."""
    user = add_user(db, email="ann@example.com", phone="+31612345678")
    event = add_event(db, fanned_out=True)
    number = add_delivery(db, user, event)
    for path in (f"/explain?user={user}", f"/users/{user}/deliveries", f"/deliveries/{number}", "/failures", "/health"):
        said = json.dumps(await client.get(path))
        assert "ann@" not in said
        assert "3161234" not in said


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/runs?limit=0", "limit"), ("/runs?limit=501", "limit"), ("/runs?limit=ten", "limit"),
        ("/runs?limit=-1", "limit"), ("/runs?limit=1.5", "limit"), ("/runs?limit=%D9%A1", "limit"),
        ("/runs?limit=1&limit=2", "limit"), ("/runs?limt=5", "limt"), ("/runs?before=last", "before"),
        ("/runs?limit=" + "9" * 5000, "limit"), ("/runs/last?x=1", "x"), ("/health?since=1", "since"),
        ("/failures?since_hours=0", "since_hours"), ("/failures?since_hours=nan", "since_hours"),
        ("/failures?since_hours=-inf", "since_hours"), ("/failures?since_hours=1e9", "since_hours"),
        ("/failures?channel=fax", "channel"), ("/failures?cause=x&cursor=1", "cursor"),
        ("/failures?limit=101", "limit"),
        ("/failures?cause=%00", "cause"), ("/failures?cause=x&cursor=1.99999999999999999999", "cursor"),
        ("POST /retry_failed", "kind"), ("POST /retry_failed?kind=x&since_hours=1", "kind"),
        ("POST /retry_failed?kind=digests", "since_hours"),
        ("POST /retry_failed?kind=digests&since_hour=1", "since_hour"),
        ("POST /retry_failed?kind=digests&since_hours=1&reset_attempts=maybe", "reset_attempts"),
        ("POST /retry_failed?kind=digests&since_hours=1&reason=x", "reason"),
        ("POST /retry_failed?kind=digests&since_hours=1&reason=channel_not_configured&cause=x", "cause"),
        ("/explain", "user"), ("/explain?user=1&event=0", "event"),
        ("/explain?user=1&event=9223372036854775808", "event"),
        ("/explain?user=" + "a" * 501, "user"), ("/events?before=x", "before"), ("POST /search", "q"),
        ("/users/1/deliveries?limit=0", "limit"),
    ],
    ids=lambda value: value[:60],
)  # fmt: skip
async def test_a_bad_parameter_is_named(client, path, names):
    """400 that says which, and does not repeat the value (P-2)."""
    method, _, path = path.rpartition(" ")
    status, said = await client(method or "GET", path)
    assert status == 400, said
    assert said["error"].startswith(f"parameter {names}: ")


@pytest.mark.parametrize("path", ["/deliveries/", "/digests/", "/events/", "/deliveries/{}/x", "/users/{}/deliveries"])
@pytest.mark.parametrize("number", ["999", "0", "x", "-1", "1.0", "9" * 19, "9" * 400, "%00", "1;drop", "..%2f1"])
async def test_what_there_is_not_is_404(client, path, number):
    status, said = await client("GET", path.format(number) if "{}" in path else path + number)
    assert (status, set(said)) == (404, {"error"})


async def test_a_database_that_is_away_is_503(client, db, postgresql):
    """One sentence; not the URL's password (O-3)."""
    postgresql.execute("ALTER TABLE alerts_engine_runs RENAME TO gone")
    status, said = await client("GET", "/runs")
    assert (status, "alerts-engine migrate" in said["error"]) == (500, True)
    for binding in BINDINGS:
        async with client_of(made(binding, "postgresql://me:sesame@127.0.0.1:1/nothing")) as other:
            status, said = await other("GET", "/health")
        assert status == 503
        assert "no connection to the database" in said["error"]
        assert "sesame" not in said["error"]


# --- which engine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
async def test_it_works_on_the_applications_engine(binding, database_url):
    """Given, or made later; before it is open the answer is 503, and nobody closes it (P-3, I-1)."""
    later: list[AlertsEngine] = [AlertsEngine(settings(database_url, internal_runner_token=TOKEN))]
    app = made(binding, database_url, engine=lambda: later[-1])
    async with client_of(app) as client:
        status, said = await client("GET", "/runs")
        assert (status, "not open" in said["error"]) == (503, True)
        async with later[0] as engine:
            assert await client.get("/runs") == {"runs": []}
    async with later[0] as engine, client_of(made(binding, database_url, engine=engine)) as client:
        assert await client.get("/runs") == {"runs": []}
    with pytest.raises(Exception, match="closed"):
        _ = engine.database


@pytest.mark.parametrize("binding", BINDINGS)
async def test_its_own_engine_goes_with_it(binding, database_url, db):
    """It connects when it is first asked, and leaves no connection behind (P-3)."""

    def connections() -> int:
        return db.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'alerts-engine'"
        ).fetchone()[0]  # fmt: skip

    async with client_of(made(binding, database_url)) as client:
        assert (await client("GET", "/runs", headers={}))[0] == 401
        assert connections() == 0
        await client.get("/runs")
        assert connections() >= 1
    assert connections() == 0


# --- the description --------------------------------------------------------------------------------------------------


async def test_the_description_is_served(client):
    assert await client.get("/openapi.json") == DESCRIPTION


def test_the_description_has_every_route():
    """But for the dashboard's, which are the page's own (P-3)."""
    source = EngineSource(settings=settings("postgresql://nobody@127.0.0.1:1/nothing"))
    routes = {
        (route.method.lower(), route.path)
        for route in admin_site(source).routes
        if not route.open and not route.path.startswith("/dashboard/")
    }
    described = {(method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods}
    assert routes == described
