"""What preflight finds in the database; what goes wrong at one place keeps no other from being looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alerts_engine.database import connect
from alerts_engine.errors import (
    AlertsEngineError,
    DatabaseError,
    DatabaseUnreachableError,
    PoolerError,
    SchemaError,
)
from alerts_engine.operations.preflight_rows import LOOKS, NOTES
from alerts_engine.schema import check_migrated
from alerts_engine.session_locks import try_session_locks
from alerts_engine.settings.links import reader_links
from alerts_engine.statements import migration_ids, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from alerts_engine.database import Database
    from alerts_engine.operations.findings import Findings
    from alerts_engine.settings import Settings
    from alerts_engine.statements import RuleFile

_RECORD = "_yoyo_migration"
PRIVILEGES = {
    "events": ("SELECT",),
    "risk_events": ("SELECT",),
    "risk_indices": ("SELECT",),
    "asset_risk": ("SELECT",),
    "users": ("SELECT", "UPDATE"),
    "user_plans": ("SELECT",),
    "plan_settings": ("SELECT",),
    "user_alert_prefs": ("SELECT",),
    "alert_events": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_deliveries": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_quotas": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_digests": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_digest_items": ("SELECT", "INSERT"),
    "user_notification_settings": ("SELECT",),
    "user_channel_preferences": ("SELECT",),
    "user_alert_stops": ("SELECT",),
    "user_alert_destinations": ("SELECT",),
    "alerts_engine_runs": ("SELECT", "INSERT", "UPDATE"),
    "alerts_engine_run_items": ("SELECT", "INSERT"),
    "alerts_engine_outcomes": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "alerts_engine_attempts": ("SELECT", "INSERT"),
    _RECORD: ("SELECT",),
}
"""The tables of SPEC DB-5 and DB-6, and what the engine's statements need of each; a test holds it against them."""

PAGE_PRIVILEGES = {
    "user_notification_settings": ("INSERT", "UPDATE"),
    "user_channel_preferences": ("INSERT", "UPDATE"),
    "user_alert_stops": ("INSERT", "DELETE"),
    "alert_consents": ("INSERT",),
    "user_alert_digest_items": ("DELETE",),
}
"""What the readers' page needs besides, where it is served."""

_SOURCES = frozenset(list(PRIVILEGES)[:8])
"""The application's own, where another table of the name may be meant."""

_PERMISSION_DENIED = "42501"


@dataclass(frozen=True, slots=True)
class TableName:
    name: str


@dataclass(frozen=True, slots=True)
class ServerState:
    standby: bool
    read_only: bool


@dataclass(frozen=True, slots=True)
class Lacking:
    name: str
    privileges: list[str]


@dataclass(frozen=True, slots=True)
class Doubled:
    name: str
    schemas: list[str]
    migrated: str | None


server_state = statement("preflight", "server_state", ServerState)
missing_tables = statement("preflight", "missing_tables", TableName)
schemas_off_the_path = statement("preflight", "schemas_off_the_path", TableName)
doubled_tables = statement("preflight", "doubled_tables", Doubled)
lacking_privileges = statement("preflight", "lacking_privileges", Lacking)
row_security = statement("preflight", "row_security", TableName)


async def inspect_database(findings: Findings, settings: Settings, rules: Sequence[RuleFile]) -> None:
    """Add to ``findings`` what the database of ``settings`` has against a run with ``rules``."""
    if settings.database_url is None:
        return
    inspection = _Inspection(findings, settings, rules)
    try:
        async with connect(settings.database_url.get_secret_value(), most_connections=2) as database:
            findings.db_ok = True
            await inspection.look_around(database)
    except AlertsEngineError as error:
        inspection.report(error)


class _Inspection:
    """One connection's worth of looks."""

    def __init__(self, findings: Findings, settings: Settings, rules: Sequence[RuleFile]) -> None:
        self._findings = findings
        self._settings = settings
        self._rules = rules
        self._lacking: set[str] = set()

    async def look_around(self, database: Database) -> None:
        await self._try(try_session_locks(database))
        await self._try(self._server(database))
        await self._try(self._privileges(database))
        await self._try(self._schema(database))
        await self._try(self._search_path(database))
        if self._findings.migrations_ok:
            for note in NOTES:
                await self._try(self._keep(note(database, self._settings)))
            for look in LOOKS:
                await self._try(self._note(look(database, self._settings, self._rules)))

    async def _keep(self, notes: AsyncIterator[str]) -> None:
        async for note in notes:
            self._findings.notes.append(note)

    async def _try(self, look: Awaitable[None]) -> None:
        try:
            await look
        except AlertsEngineError as error:
            self.report(error)

    def report(self, error: AlertsEngineError) -> None:
        """Note an error, unless an earlier look has said it better."""
        sqlstate = getattr(error, "sqlstate", None)
        if isinstance(error, DatabaseUnreachableError):
            told = not self._findings.db_ok and isinstance(error, PoolerError) and bool(self._findings.errors)
            self._findings.db_ok = False
        else:
            told = sqlstate == _PERMISSION_DENIED and bool(self._lacking)
        if not told:
            self._findings.fail(str(error))

    async def _note(self, warnings: AsyncIterator[str]) -> None:
        async for text in warnings:
            self._findings.warn(text)

    async def _server(self, database: Database) -> None:
        state = await database.row(server_state)
        if state.standby:
            raise DatabaseError(
                "the server is a standby, which can only be read: DATABASE_URL must lead to the primary (of several "
                "hosts, target_session_attrs=read-write picks it)"
            )
        if state.read_only:
            raise DatabaseError(
                "transactions can only read here: default_transaction_read_only is on for this server, database or "
                "role; set it to off"
            )

    async def _privileges(self, database: Database) -> None:
        wanted = [*PRIVILEGES.items(), *(PAGE_PRIVILEGES.items() if reader_links(self._settings) else ())]
        pairs = [(table, privilege) for table, needed in wanted for privilege in needed]
        lacking = await database.rows(
            lacking_privileges, names=[name for name, _ in pairs], privileges=[privilege for _, privilege in pairs]
        )
        self._lacking = {one.name for one in lacking if "SELECT" in one.privileges}
        if lacking:
            grants = "; ".join(f"{', '.join(one.privileges)} on {one.name}" for one in lacking)
            raise DatabaseError(f"the role of DATABASE_URL lacks privileges, so grant it {grants}")
        for table in await database.rows(row_security, names=list(PRIVILEGES)):
            self._findings.warn(
                f"row-level security is active on {table.name} for the role of DATABASE_URL: rows that its policies "
                "hide do not exist for the engine; BYPASSRLS shows them all"
            )

    async def _schema(self, database: Database) -> None:
        missing = [table.name for table in await database.rows(missing_tables, names=list(PRIVILEGES))]
        if _RECORD in missing:
            raise SchemaError(await self._no_record(database))
        if _RECORD in self._lacking:
            return
        await check_migrated(database)
        if missing:
            raise SchemaError(
                f"{_are_missing(missing)} although no migration is pending: restore from a backup what is gone"
            )
        self._findings.migrations_ok = True

    async def _no_record(self, database: Database) -> str:
        elsewhere = [schema.name for schema in await database.rows(schemas_off_the_path, name=_RECORD)]
        if not elsewhere:
            return f"all {len(migration_ids())} migrations are pending: run alerts-engine migrate"
        return (
            f"migrated tables are there, but out of sight, in the schema {' and '.join(elsewhere)}: put it into the "
            "search_path of the role of DATABASE_URL, and grant the role USAGE on it"
        )

    async def _search_path(self, database: Database) -> None:
        for table in await database.rows(doubled_tables, names=list(PRIVILEGES), record=_RECORD):
            first, *others = table.schemas
            if table.migrated in others:
                self._findings.fail(
                    f"table {table.name} in schema {first} hides the migrated one in schema {table.migrated}: put "
                    f"{table.migrated} first in the search_path, or rename the other table"
                )
            elif table.name in _SOURCES or table.name == _RECORD:
                self._findings.warn(
                    f"table {table.name} is in several schemas of the search_path ({', '.join(table.schemas)}): the "
                    f"engine uses the one in {first}"
                )


def _are_missing(tables: list[str]) -> str:
    return f"table {tables[0]} is missing" if len(tables) == 1 else f"tables {', '.join(tables)} are missing"
