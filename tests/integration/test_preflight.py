"""Preflight finds what would keep a run from doing its work, all of it at once (SPEC section 12)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from alerts_engine import AlertsEngine, Phase, schema
from alerts_engine.database import Database
from alerts_engine.errors import PoolerError
from alerts_engine.operations.preflight import preflight
from alerts_engine.reports import to_json
from alerts_engine.session_locks import check_session_locks, session_locks_hold
from alerts_engine.statements import folder, migration_ids
from tests.support import legacy
from tests.support.pooler import needs_pooler, pooler
from tests.support.world import (
    DAY,
    add_delivery,
    add_event,
    add_plan_settings,
    add_user,
    prepared,
    settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.operations.findings import Findings

WELL_SET = {"time_zone": "Europe/Amsterdam", "app_base_url": "https://app.example", "telegram_bot_token": "1:token"}
UNREACHABLE = "postgresql://engine:very-secret-word@127.0.0.1:1/alerts"
RULE = """
SELECT 'WIND_LULL' AS alert_type, 'Europe' AS scope_region, '{}'::text[] AS scope_assets, 3 AS severity,
       'Wind drops' AS headline, NULL AS body, '{}'::int4[] AS driver_event_ids, 'wind' AS cooldown_key,
       'WIND_LULL:' || $1::timestamptz::date AS event_fingerprint, NULL::jsonb AS payload"""


async def look(url: str, phase: Phase = Phase.ALL, *, dry_run: bool = False, **fields: Any) -> Findings:
    """What preflight finds with settings that are otherwise well."""
    return await preflight(settings(url, **{**WELL_SET, **fields}), phase, dry_run=dry_run)


def only(texts: list[str]) -> str:
    """The one text."""
    assert len(texts) == 1, texts
    return texts[0]


# --- settings -------------------------------------------------------------------------------------------------------


async def test_all_is_well(database_url: str):
    """A migrated database and a configured channel: nothing to say, in the shape of the specification (R-1)."""
    found = await look(database_url)
    assert found.ok
    assert to_json(found) == {
        "db_ok": True,
        "migrations_ok": True,
        "channels_configured": {"email": False, "telegram": True, "sms": False},
        "credentials": None,
        "notes": ["no allowlist: 0 users may get alerts"],
        "warnings": [],
        "errors": [],
    }


async def test_unset_zone_and_address_are_warnings(database_url: str):
    """A default zone and no base URL may be meant, or forgotten (R-1)."""
    found = await preflight(settings(database_url, telegram_bot_token="1:token"))
    assert found.ok
    assert [text.split()[0] for text in found.warnings] == ["ALERTS_TIMEZONE", "ALERTS_APP_BASE_URL"]


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"email_from": "a@b.example"}, ["BREVO_API_KEY"]),
        ({"resend_api_key": "r", "email_provider": "resend"}, ["EMAIL_FROM"]),
        ({"twilio_auth_token": "very-secret-word"}, ["TWILIO_ACCOUNT_SID", "TWILIO_PHONE_NUMBER"]),
    ],
)
async def test_half_configured_channel_names_what_is_missing(
    database_url: str, fields: dict[str, str], missing: list[str]
):
    """The missing variables by name, and no value (R-1, R-2)."""
    warning = only((await look(database_url, **fields)).warnings)
    assert "half configured" in warning
    assert [word.strip(",") for word in warning.split() if word.isupper()] == missing
    assert "secret" not in warning


@pytest.mark.parametrize(("phase", "dry_run", "ok"), [
    (Phase.ALL, False, False), (Phase.C, False, False), (Phase.C, True, True), (Phase.ALL, True, True),
    (Phase.A, False, True), (Phase.B, False, True), (Phase.D, False, True),
])  # fmt: skip
async def test_real_sending_needs_a_channel(database_url: str, phase: Phase, dry_run: bool, ok: bool):
    """Only a real run of phase C cannot do without one (R-1)."""
    found = await look(database_url, phase, dry_run=dry_run, telegram_bot_token=None)
    assert found.ok is ok
    assert any("TELEGRAM_BOT_TOKEN" in text for text in found.errors) is not ok


async def test_restraints_are_told(database_url: str, postgresql: psycopg.Connection):
    """What keeps messages back on purpose is a warning; users that are not there are named (R-1, C-15)."""
    user = add_user(prepared(postgresql))
    found = await look(
        database_url, channels_paused="sms,email", send_allowlist_user_ids=f"{user},{user + 5}", enabled="no"
    )
    switched_off, paused, allowed, unknown = found.warnings
    assert "ALERTS_V2_ENABLED" in switched_off
    assert "ALERTS_CHANNELS_PAUSED is set: messages of sms, email" in paused
    assert "only 2 user(s)" in allowed
    assert unknown.endswith(f"do not exist: {user + 5}")
    assert found.ok


# --- the database ---------------------------------------------------------------------------------------------------


async def test_database_down_hides_nothing_else(tmp_path: Path):
    """Rules, templates and settings are looked at all the same (R-2)."""
    (tmp_path / "empty.sql").write_text(" \n")
    (tmp_path / "instant.sms.txt").write_text("{{ alert.headline }}\n{% if %}")
    found = await look(UNREACHABLE, rules_dir=tmp_path, templates_dir=tmp_path, telegram_bot_token=None)
    assert (found.db_ok, found.migrations_ok) == (False, False)
    no_channel, unreachable = found.errors
    assert "no channel" in no_channel
    assert any(text.startswith("rule empty.sql: is empty") for text in found.warnings)
    assert "no connection to the database" in unreachable
    assert any(text.startswith("template instant.sms.txt, line 2: ") for text in found.warnings)
    assert "secret" not in str(to_json(found))


LINK_SECRET = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"link_secret": LINK_SECRET}, "ALERTS_LINK_SECRET is set and ALERTS_PUBLIC_BASE_URL is not"),
        ({"public_base_url": "https://app.example"}, "ALERTS_PUBLIC_BASE_URL is set and ALERTS_LINK_SECRET is not"),
        ({"public_base_url": "http://localhost:8026", "link_secret": LINK_SECRET}, "does not begin with https://"),
        ({"public_base_url": "https://app.example", "link_secret": LINK_SECRET}, None),
    ],
)
async def test_half_of_the_unsubscribe_links_is_told(fields: dict[str, str], said: str | None):
    """By name, without the value; both are fine (SPEC U-1, R-2)."""
    found = await look(UNREACHABLE, **fields)
    told = [text for text in found.warnings if "LINK_SECRET" in text or "PUBLIC_BASE_URL" in text]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]
    assert LINK_SECRET not in str(to_json(found))


async def test_bare_database_tells_how_many_migrations_are_pending(bare_database_url: str):
    """All of them, as one error that names the command (R-1)."""
    found = await look(bare_database_url)
    assert (found.db_ok, found.migrations_ok) == (True, False)
    assert only(found.errors) == f"all {len(migration_ids())} migrations are pending: run alerts-engine migrate"


async def test_one_pending_migration(database_url: str, postgresql: psycopg.Connection):
    """A database of the version before (R-1)."""
    prepared(postgresql).execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", [migration_ids()[-1]])
    found = await look(database_url)
    assert not found.migrations_ok
    assert only(found.errors) == f"1 migration is pending ({migration_ids()[-1]}): run alerts-engine migrate"


async def test_several_pending_migrations(database_url: str, postgresql: psycopg.Connection):
    """How many, and where they begin (R-1)."""
    prepared(postgresql).execute("DELETE FROM _yoyo_migration WHERE migration_id = ANY(%s)", [[*migration_ids()[-3:]]])
    found = await look(database_url)
    assert only(found.errors) == f"3 migrations are pending, from {migration_ids()[-3]} on: run alerts-engine migrate"


async def test_missing_table_is_named(database_url: str, postgresql: psycopg.Connection):
    """Whatever the record of migrations says (R-1)."""
    prepared(postgresql).execute("DROP TABLE user_alert_digest_items, asset_risk")
    found = await look(database_url)
    assert not found.migrations_ok
    assert "asset_risk, user_alert_digest_items" in only(found.errors)


async def test_events_outside_the_window_are_counted(database_url: str, postgresql: psycopg.Connection):
    """Those that were never fanned out and never will be, unless somebody says so (B-1)."""
    db, now = prepared(postgresql), datetime.now(UTC)
    for age, fanned_out in ((2 * DAY, False), (3 * DAY, False), (4 * DAY, True), (0 * DAY, False)):
        add_event(db, now - age, fanned_out=fanned_out)
    found = await look(database_url)
    assert found.ok
    assert only(found.warnings).startswith("2 event(s) were never fanned out")


async def test_held_deliveries_are_counted(database_url: str, postgresql: psycopg.Connection):
    """Deliveries from before the engine wait for an operator's word."""
    db = prepared(postgresql)
    user = add_user(db)
    held, _ = (add_delivery(db, user, add_event(db, fanned_out=True)) for _ in range(2))
    db.execute("UPDATE user_alert_deliveries SET next_retry_at = 'infinity' WHERE id = %s", [held])
    warning = only((await look(database_url)).warnings)
    assert warning.startswith("1 queued deliveries")
    assert "NULL" in warning


async def test_legacy_database(bare_database_url: str):
    """Pending before it is migrated, usable after; what was there brings warnings only (DB-3)."""
    legacy.create(bare_database_url)
    before = await look(bare_database_url)
    schema.apply(bare_database_url)
    after = await look(bare_database_url)
    assert (before.db_ok, before.migrations_ok, len(before.errors)) == (True, False, 1)
    assert (after.db_ok, after.migrations_ok, after.errors) == (True, True, [])


async def test_odd_plans_are_named(database_url: str, postgresql: psycopg.Connection):
    """What fan-out reads as missing is told; a plan that is not active or leaves things out is not (B-5)."""
    db = prepared(postgresql)
    good = {"email": {"mode": "limited", "max_per_day": 8, "realtime_limit": None}, "telegram": {"enabled": True}}
    add_plan_settings(db, "good", good)
    add_plan_settings(db, "bare", {})
    add_plan_settings(db, "words", {"email": {"max_per_day": "eight"}, "sms": {"enabled": "yes"}})
    add_plan_settings(db, "below", {"email": {"realtime_limit": -0.5}})
    add_plan_settings(db, "list", [1])
    add_plan_settings(db, "past", [1], active=False)
    warnings = (await look(database_url)).warnings
    assert [text.split(",")[0].removeprefix("plan_settings of ") for text in warnings] == [
        "below: delivery_config cannot be understood at email.realtime_limit",
        "list: delivery_config cannot be understood at delivery_config",
        "words: delivery_config cannot be understood at email.max_per_day",
    ]
    assert "sms.enabled" in warnings[2]


async def test_preflight_changes_nothing(database_url: str, postgresql: psycopg.Connection):
    """It looks, and keeps no lock (R-1)."""
    found = await look(database_url)
    assert found.ok
    locks = (
        prepared(postgresql)
        .execute(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        )
        .fetchone()
    )
    runs = postgresql.execute("SELECT count(*) FROM alerts_engine_runs").fetchone()
    assert (locks[0], runs[0]) == (0, 0)


# --- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT nothing FROM nowhere", 'relation "nowhere" does not exist'),
        (RULE.replace("3 AS severity", "3 AS seriousness"), "unknown column(s) seriousness"),
        (RULE.replace("$1::timestamptz", "$3::timestamptz"), "$1"),
        ("DELETE FROM users", "is not a SELECT"),
        (f"WITH gone AS (DELETE FROM users RETURNING id) {RULE} FROM gone", "tries to write"),
    ],
)
async def test_broken_rule_is_named_with_its_problem(database_url: str, tmp_path: Path, text: str, problem: str):
    """Phase A's own words, before phase A has to say them (A-5)."""
    (tmp_path / "broken.sql").write_text(text)
    (tmp_path / "working.sql").write_text(RULE)
    found = await look(database_url, rules_dir=tmp_path)
    warning = only(found.warnings)
    assert warning.startswith("rule broken.sql: ")
    assert problem in warning
    assert found.ok
    assert (await look(database_url, Phase.B, rules_dir=tmp_path)).ok


@pytest.mark.parametrize("end", [";", " -- a remark", "; -- a remark"])
async def test_working_rule_is_left_alone_however_it_ends(database_url: str, tmp_path: Path, end: str):
    """What phase A can run is no error (A-1)."""
    (tmp_path / "working.sql").write_text(RULE + end)
    assert (await look(database_url, rules_dir=tmp_path)).warnings == []


async def test_rule_is_tried_without_its_rows(database_url: str, tmp_path: Path):
    """A rule that would take long, or find nonsense, is not run: its columns tell enough."""
    (tmp_path / "long.sql").write_text(RULE.replace("3 AS severity", "1 / (random() * 0)::int4 AS severity"))
    assert (await look(database_url, rules_dir=tmp_path)).warnings == []


async def test_rule_with_a_built_in_name_is_named(database_url: str, tmp_path: Path):
    """It would hide or be hidden: rename it (A-1)."""
    built_in = next((folder("sql") / "rules").glob("*.sql")).name
    (tmp_path / built_in).write_text(RULE)
    warning = only((await look(database_url, rules_dir=tmp_path)).warnings)
    assert warning == f"rule {built_in}: has the name of a built-in rule: rename the file"


# --- a pooler between -----------------------------------------------------------------------------------------------

LENDING = [("transaction",), ("transaction", "server_round_robin = 1"), ("transaction", "default_pool_size = 1")]


@pytest.fixture
async def through_pooler(postgresql: psycopg.Connection, request: pytest.FixtureRequest):
    """A pool through PgBouncer without prepared statements: as if the pooler kept them, which newer ones can."""
    with pooler(postgresql, *request.param) as url:
        pool = await asyncpg.create_pool(url, min_size=1, max_size=2, statement_cache_size=0)
        yield Database(pool)
        pool.terminate()


@needs_pooler
@pytest.mark.parametrize(
    ("through_pooler", "hold"),
    [(("session",), True), *((mode, False) for mode in LENDING)],
    indirect=["through_pooler"],
)
async def test_pooler_that_lends_connections_is_found_out(through_pooler: Database, hold: bool):
    """Tried on a lock, not guessed from a port or a name; in a run, too (R-1, L-1)."""
    for _ in range(3):
        assert await session_locks_hold(through_pooler) is hold
    assert not await through_pooler.is_direct()
    if hold:
        await check_session_locks(through_pooler)
    else:
        with pytest.raises(PoolerError, match="session mode"):
            await check_session_locks(through_pooler)


async def test_without_a_pooler_a_run_asks_for_one_thing_only(database_url: str):
    """Who answers is who was called: no lock has to be tried, and an empty run stays as short as it was (L-1)."""
    asked: list[str] = []

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda query: asked.append(query.query))

    async with asyncpg.create_pool(database_url, min_size=1, max_size=2, init=listen) as pool:
        assert await session_locks_hold(Database(pool))
        asked.clear()
        await check_session_locks(Database(pool))
    assert [query for query in asked if "RESET" not in query] == ["SELECT pg_backend_pid() AS pid"]


async def said_by_run(url: str) -> str | None:
    """The error that a run ends with before it has begun anything."""
    try:
        async with AlertsEngine(settings(url, **WELL_SET)) as engine:
            assert (await engine.run()).error is None
    except PoolerError as error:
        return str(error)
    return None


@needs_pooler
@pytest.mark.parametrize("mode", LENDING)
async def test_preflight_and_run_say_the_same_of_a_pooler(
    postgresql: psycopg.Connection, mode: tuple[str, ...], database_url: str
):
    """One error, whichever sign of it they meet first; nothing was begun (R-1, L-1)."""
    with pooler(postgresql, *mode) as url:
        found = [await look(url) for _ in range(3)]
        said = {await said_by_run(url) for _ in range(3)}
    (error,) = {only(one.errors) for one in found}
    assert said == {error}
    assert error.startswith("session locks do not hold through the connection pooler")
    assert error.endswith("point DATABASE_URL at PostgreSQL itself, or at a pooler in session mode")
    assert prepared(postgresql).execute("SELECT FROM alerts_engine_runs").rowcount == 0


@needs_pooler
async def test_statement_mode_names_itself(postgresql: psycopg.Connection):
    """In its own words, in preflight and in a run (R-1)."""
    with pooler(postgresql, "statement") as url:
        errors = [only((await look(url)).errors) for _ in range(3)]
        errors += [str(await said_by_run(url)) for _ in range(3)]
    for error in errors:
        assert error.startswith(
            "the connection pooler refuses: transaction blocks not allowed in statement pooling mode (SQLSTATE 08P01)"
        )
        assert "session mode" in error


@needs_pooler
async def test_a_pooler_in_session_mode_is_as_good_as_none(postgresql: psycopg.Connection):
    """Nothing is said, and the run runs (R-1)."""
    with pooler(postgresql, "session") as url:
        found = await look(url)
        assert await said_by_run(url) is None
    assert (found.errors, found.warnings) == ([], [])


@needs_pooler
@pytest.mark.parametrize("more", ["work_mem=64MB", "search_path=somewhere"])
async def test_what_a_pooler_refuses_is_told(postgresql: psycopg.Connection, more: str):
    """A setting in the URL that PgBouncer does not let through is an error that says where to look (R-1)."""
    with pooler(postgresql, "session") as url:
        found = await look(f"{url}&{more}")
        said = await said_by_run(f"{url}&{more}")
    assert not found.db_ok
    error = only(found.errors)
    assert error == said
    assert f"unsupported startup parameter: {more.split('=', 1)[0]}" in error
    assert "ignore_startup_parameters" in error


async def test_the_client_that_migrates_prepares_nothing(database_url: str):
    """However often it waits for another that migrates: behind a pooler it would meet another session (DB-2)."""
    with schema._connection(database_url) as connection:
        for _ in range(20):
            connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [schema.LOCK_KEY])
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
