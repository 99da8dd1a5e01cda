"""What goes wrong between the engine and its database is said in the server's words, and betrays nothing (O-3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import psycopg
import pytest

from alerts_engine import AlertsEngine, AlertsEngineError, NewEvent, Phase, schema
from alerts_engine.database import connect
from alerts_engine.errors import DatabaseError, DatabaseUnreachableError, NotOpenError, RuleError, SchemaError
from alerts_engine.operations.rule_trial import try_rule
from alerts_engine.phases.rules import find_events
from alerts_engine.statements import command, read_rule
from tests.conftest import url_of
from tests.support.chains import chain, chain_text
from tests.support.postgres15 import Server15, server15
from tests.support.roles import PASSWORD, role
from tests.support.world import NOW, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from pathlib import Path

    from alerts_engine.database import Database

ADDRESS = "very.private@example.com"
USER = "somebodyelse"
Client = "Callable[[str], Awaitable[None]]"


async def open_engine(url: str) -> None:
    """As the engine does it."""
    async with connect(url):
        pass


async def migrate(url: str) -> None:
    """As ``alerts-engine migrate`` does it."""
    await asyncio.to_thread(schema.apply, url)


CLIENTS = [open_engine, migrate]


async def refusal(client: Client, url: str) -> DatabaseUnreachableError:
    """The error of a URL that leads nowhere, which has no chain behind it."""
    with pytest.raises(DatabaseUnreachableError) as caught:
        await client(url)
    assert list(chain(caught.value)) == [caught.value]
    assert "\n" not in str(caught.value)
    return caught.value


# --- malformed URLs -------------------------------------------------------------------------------------------------

MARKS = ["/", "#", "?", "@", ":", "%", " ", "[", "]", "&", "=", "%zz", "\\", "'", '"', "//", "?x=", "/?@#", "@/", "1/"]
PLACES = [
    "postgresql://somebodyelse:S3cr3t{}Word@127.0.0.1:1/db",
    "postgresql://somebodyelse:{}S3cr3tWord@127.0.0.1:1/db",
    "postgresql://somebodyelse:S3cr3tWord{}@127.0.0.1:1/db",
    "postgresql://somebodyelse:S3cr3t{}Word@/db?host=/nowhere",
    "postgresql://somebodyelse:12{}S3cr3tWord@no-such-host.invalid/db?sslmode=require",
    "postgresql://127.0.0.1:1/db?user=somebodyelse&password=S3cr3t{}Word",
]


@pytest.mark.parametrize("client", CLIENTS)
async def test_no_part_of_a_password_is_in_any_error_of_a_url(client: Client, subtests: pytest.Subtests):
    """Whatever character it holds, wherever a parser breaks it off: nothing in the whole chain (O-3, section 4)."""
    for place in PLACES:
        for mark in MARKS:
            with subtests.test(place=place, mark=mark):
                text = chain_text(await refusal(client, place.format(mark)))
                for part in ("S3cr3t", "Word", USER, "12"):
                    assert part not in text.replace("127.0.0.1", "")


MALFORMED = [
    "postgresql://somebodyelse:S3cr3tWord@127.0.0.1:S3cr3tPort/db",
    "postgresql://somebodyelse:S3cr3tWord@[::1/db",
    "postgresql://somebodyelse:S3cr3tWord@::1/db",
    "postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1/db?S3cr3tWord",
    "postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1/db?S3cr3tWord=1&x",
    "postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1/db?sslmode=S3cr3tWord",
    "postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1/db\nS3cr3tWord",
    "postgresql://somebodyelse:S3cr3tWord\0@127.0.0.1:1/db",
    "postgresql://somebodyelse:S3cr3tWord\u2100@127.0.0.1:1/db",
    "postgresql://somebodyelse:S3cr3tWord\udc80@127.0.0.1:1/db",
    "postgresql:/somebodyelse:S3cr3tWord@127.0.0.1:1/db",
    "somebodyelse:S3cr3tWord@127.0.0.1:1/db",
    "",
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("url", MALFORMED)
async def test_a_url_that_is_none_says_so_and_no_more(client: Client, url: str):
    """One line about DATABASE_URL or about the way there, and none of it in the chain (section 4)."""
    error = await refusal(client, url)
    assert "DATABASE_URL" in str(error)
    text = chain_text(error)
    assert "S3cr3t" not in text.replace('invalid sslmode value: "S3cr3tWord"', "")
    assert USER not in text


@pytest.mark.parametrize(
    ("password", "how"),
    [("a/b", "/ is written as %2F"), ("a#b", "# as %23"), ("a b", "%20"), ("a%b", "%25"), ("a@b", "@ as %40")],
)
async def test_a_url_that_could_be_read_in_two_ways_says_how_to_write_it(password: str, how: str):
    """asyncpg and libpq take it apart at different places, so neither gets it (section 4)."""
    for client in CLIENTS:
        assert how in str(await refusal(client, f"postgresql://u:{password}@127.0.0.1:1/db"))


# --- a server that refuses, or none ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict() -> Iterator[Server15]:
    """A server that wants a password, without TLS."""
    with server15("right/#?@: word") as server:
        server.start()
        yield server


def strict_url(server: Server15, password: str, *, user: str = "postgres", more: str = "") -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}/postgres{more}"


@pytest.mark.parametrize("client", CLIENTS)
async def test_any_password_works_when_it_is_percent_encoded(strict: Server15, client: Client):
    """What is refused elsewhere is a matter of writing it (section 4)."""
    await client(strict_url(strict, "right/#?@: word"))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("user", ["postgres", USER])
async def test_a_wrong_password_is_told_without_user_and_password(strict: Server15, client: Client, user: str):
    """The server's sentence, host and port; nothing else (R-2)."""
    error = await refusal(client, strict_url(strict, f"{PASSWORD}@/", user=user))
    assert "password authentication failed" in str(error)
    assert "127.0.0.1" in str(error)
    assert str(strict.port) in str(error)
    text = chain_text(error).replace("PostgreSQL", "")
    assert PASSWORD not in text
    assert user not in text


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_server_without_tls_is_told(strict: Server15, client: Client):
    """DATABASE_URL asks for it, the server has none."""
    error = await refusal(client, strict_url(strict, PASSWORD, more="?sslmode=require"))
    assert "server does not support SSL" in str(error)
    assert PASSWORD not in chain_text(error)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_database_that_is_not_there_is_named(client: Client, postgresql: psycopg.Connection):
    """In the server's words, and where it was looked for."""
    error = await refusal(client, url_of(postgresql, "nowhere_to_be_found"))
    assert 'database "nowhere_to_be_found" does not exist' in str(error)
    assert postgresql.info.host in str(error)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_role_that_has_no_connection_left_is_told(client: Client, postgresql: psycopg.Connection):
    """Too many connections for a role that is not named."""
    with role(prepared(postgresql), options="CONNECTION LIMIT 0") as url:
        error = await refusal(client, url)
    assert "too many connections for role" in str(error)
    text = chain_text(error)
    assert PASSWORD not in text
    assert "role_of_" not in text


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://somebodyelse:S3cr3tWord@no-such-host.invalid/db", "Name or service not known"),
        ("postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1/db", "Connection refused"),
        ("postgresql://somebodyelse:S3cr3tWord@localhost:1/db", "Connection refused"),
        ("postgresql://somebodyelse:S3cr3tWord@127.0.0.1:1,127.0.0.1:2/db", "Connection refused"),
        ("postgresql://somebodyelse:S3cr3tWord@/db?host=/nowhere", "No such file or directory"),
    ],
)
async def test_a_way_that_leads_nowhere_is_told_with_its_host(client: Client, url: str, said: str):
    """What the network says, and of which host."""
    error = await refusal(client, url)
    assert said in str(error)
    assert any(place in str(error) for place in ("127.0.0.1", "localhost:1", "no-such-host.invalid", "/nowhere"))
    assert str(error).startswith("no connection to the database")
    assert USER not in chain_text(error)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_server_that_is_not_ready_is_told(client: Client):
    """A standby that takes no queries: the sentence, and to try again."""
    with server15() as server:
        server.start("hot_standby=off", standby=True, wait=False)
        error = None
        async with asyncio.timeout(60):
            while error is None or "not accepting" not in str(error):
                error = await refusal(client, server.url)
    assert "the database system is not accepting connections" in str(error)


# --- statements -----------------------------------------------------------------------------------------------------


async def failed(work: Awaitable[object], kind: type[AlertsEngineError] = DatabaseError) -> str:
    """All that can be read in the error that ``work`` ends with."""
    with pytest.raises(kind) as caught:
        await work
    assert len(list(chain(caught.value))) == 1
    return chain_text(caught.value)


def statement_of(name: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A statement of the engine's own, as if it stood in ``sql/``."""
    from alerts_engine import statements

    (tmp_path / "trial.sql").write_text(f"-- name: {name}\n-- A trial.\n-- returns: nothing\n{text};\n")
    monkeypatch.setattr(statements, "folder", lambda _: tmp_path)
    statements.load.cache_clear()
    try:
        return command("trial", name)
    finally:
        monkeypatch.undo()
        statements.load.cache_clear()
        del statements.REGISTRY["trial", name]


RAISING = """
    CREATE FUNCTION complain(code text, words text) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '%', words USING ERRCODE = code, DETAIL = words, HINT = words; END $$"""
STATEMENTS = {
    "unique": (f"INSERT INTO users (id, email) VALUES (1, '{ADDRESS}'), (2, '{ADDRESS}')", "users_email_key"),
    "check": (f"INSERT INTO user_alert_deliveries (user_id, channel, status, last_error) VALUES (1, 'email', 'x', '{ADDRESS}')", "alert_event_id"),  # noqa: E501
    "cast": (f"SELECT ('{ADDRESS}' || now())::int", "22P02"),
    "column": (f'SELECT "{ADDRESS}" FROM users', "does not exist"),
    "row": (f"SELECT 1 / (id - id), '{ADDRESS}' FROM generate_series(1, 2) AS id", "22012"),
    "raised": (f"SELECT complain('P0001', '{ADDRESS}')", "P0001"),
    "raised_as_ours": (f"SELECT complain('23505', '7700112233 {ADDRESS}')", "23505"),
    "raised_as_access": (f"SELECT complain('42501', 'not for {ADDRESS}')", "42501"),
    "state": ("LOCK TABLE users", "LOCK TABLE can only be used in transaction blocks"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
async def test_an_error_at_a_statement_holds_no_data(
    name: str, database_url: str, postgresql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The sentence where it holds none, by its SQLSTATE; its DETAIL never, nor what a function raised (O-3)."""
    prepared(postgresql).execute(RAISING)
    text, said = STATEMENTS[name]
    statement = statement_of(name, text, monkeypatch, tmp_path)
    async with connect(database_url) as database:
        error = await failed(database.run(statement), AlertsEngineError)
    assert said in error
    assert "SQLSTATE" in error
    for private in (ADDRESS, "7700112233", "private"):
        assert private not in error


async def test_sentences_about_states_and_rights_are_kept(
    database_url: str, postgresql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A role that may not write, and a database that only reads: what is missing, and what to do."""
    db = prepared(postgresql)
    insert = statement_of("insert", "INSERT INTO alerts_engine_runs DEFAULT VALUES", monkeypatch, tmp_path)
    db.execute(f"ALTER DATABASE {db.info.dbname} SET default_transaction_read_only = on")
    async with connect(database_url) as database:
        read_only = await failed(database.run(insert))
    assert "cannot execute INSERT in a read-only transaction (SQLSTATE 25006): DATABASE_URL must lead to" in read_only
    db.execute(f"ALTER DATABASE {db.info.dbname} RESET default_transaction_read_only")
    with role(db, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}") as url:
        async with connect(url) as database:
            forbidden = await failed(database.run(insert))
    assert "permission denied for table alerts_engine_runs (SQLSTATE 42501): grant it" in forbidden


async def test_what_ended_a_connection_is_told_not_the_rollback_behind_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The server's own last words, which asyncpg keeps behind an error of its own."""
    leave = statement_of("leave", "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(9)", monkeypatch, tmp_path)
    async with connect(database_url) as database:
        with pytest.raises(DatabaseUnreachableError) as caught:
            async with database.transaction() as session:
                await session.run(leave)
    assert "terminating connection due to administrator command" in str(caught.value)
    assert list(chain(caught.value)) == [caught.value]


# --- rules ----------------------------------------------------------------------------------------------------------

RULE = """
SELECT 'OUTAGE' AS alert_type, NULL AS scope_region, '{}'::text[] AS scope_assets, 4 AS severity, 'x' AS headline,
       NULL AS body, '{}'::int[] AS driver_event_ids, NULL AS cooldown_key, 'OUTAGE' AS event_fingerprint,
       NULL::jsonb AS payload"""
BROKEN_RULES = {
    "cast": "SELECT email::int FROM users",
    "column": f'SELECT "{ADDRESS}" FROM users',
    "unterminated": f'SELECT "{ADDRESS} and 7700112233',
    "number": 'SELECT "7700112233" FROM users',
    "literal": f"SELECT E'{ADDRESS}",
    "words": "SELECT 1 FROM users WHERE 'Alice Private' \"Alice Private\"",
    "unknown_column": RULE + f', 1 AS "{ADDRESS}"',
    "fingerprints": RULE.replace("'OUTAGE'", f"'{ADDRESS} 7700112233'") + " FROM generate_series(1, 2)",
    "raised": "SELECT complain('42703', email) FROM users",
    "raised_number": "SELECT complain('P0001', email) FROM users",
    "row": RULE.replace("4 AS severity", "email AS severity") + " FROM users",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_RULES)
async def test_a_rules_error_holds_no_value(
    name: str, database_url: str, postgresql: psycopg.Connection, tmp_path: Path
):
    """Neither of a row nor of the file, in a run and in a trial, in the whole chain (A-5, O-3)."""
    db = prepared(postgresql)
    db.execute(RAISING)
    add_user(db, email=ADDRESS)
    path = tmp_path / "broken.sql"
    path.write_text(BROKEN_RULES[name])
    rule = read_rule(path)
    texts = []
    async with connect(database_url) as database:
        for attempt in (find_events, try_rule):
            with pytest.raises(RuleError) as caught:
                await attempt(database, rule, now=NOW, time_zone="UTC")
            texts.append(chain_text(caught.value))
    async with AlertsEngine(settings(database_url, rules_dir=tmp_path)) as engine:
        (report,) = (await engine.run(Phase.A)).phases
    assert report.counts["rules_failed"] == 1
    for text in (*texts, str(report)):
        for private in (ADDRESS, "very.private", "7700112233", "Alice"):
            assert private not in text


async def test_a_rule_that_ends_its_connection_shows_no_event(
    database_url: str, postgresql: psycopg.Connection, tmp_path: Path
):
    """What it had found is nowhere in the chain (A-5, O-3)."""
    prepared(postgresql).execute(
        "CREATE FUNCTION leave() RETURNS text LANGUAGE sql AS"
        " 'SELECT pg_terminate_backend(pg_backend_pid())::text || pg_sleep(5)'"
    )
    path = tmp_path / "leaving.sql"
    path.write_text(RULE.replace("'x' AS headline", f"'{ADDRESS}' || leave() AS headline"))
    async with connect(database_url) as database:
        with pytest.raises(DatabaseUnreachableError) as caught:
            await find_events(database, read_rule(path), now=NOW, time_zone="UTC")
    assert ADDRESS not in chain_text(caught.value)


# --- closed ---------------------------------------------------------------------------------------------------------


async def test_an_engine_says_that_it_is_not_open_or_closed(database_url: str):
    """Before and after ``async with``, and whatever is asked: it does not blame the database."""
    engine = AlertsEngine(settings(database_url))
    event = NewEvent(alert_type="OUTAGE", severity=4, headline="x", event_fingerprint="x")

    async def all_say(words: str) -> None:
        for ask in (engine.run, lambda: engine.publish(event), lambda: engine.explain(1)):
            with pytest.raises(NotOpenError, match=words):
                await ask()

    await all_say("the engine is not open; use it inside 'async with")
    async with engine:
        pass
    await all_say("the engine is not open any more: it was closed")


async def test_connections_of_a_closed_engine_say_so(database_url: str):
    """Also to whoever kept them, such as a run that goes on."""
    kept: list[Database] = []
    async with connect(database_url) as database:
        kept.append(database)
    with pytest.raises(NotOpenError, match="the engine is closed"):
        await kept[0].run(command("phase_b_fan_out", "begin_page"), key=1)
    with pytest.raises(NotOpenError, match="the engine is closed"):
        async with kept[0].transaction():
            unreachable()


def unreachable() -> NoReturn:
    raise AssertionError


async def test_a_migration_that_meets_a_row_does_not_show_it(bare_database_url: str):
    """A value of the application's that does not fit: the kind of the error, not the value (O-3)."""
    with psycopg.connect(bare_database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE users (id int PRIMARY KEY, email text, telegram_chat_id text, phone_number text,"
            " email_verified bool, created_at timestamp);"
            "CREATE TABLE alert_events (id int, headline text);"
            f"INSERT INTO alert_events VALUES (1, '{ADDRESS}'), (1, '{ADDRESS}')"
        )
    with pytest.raises(SchemaError) as caught:
        await migrate(bare_database_url)
    assert "was not applied" in str(caught.value)
    assert ADDRESS not in chain_text(caught.value)
