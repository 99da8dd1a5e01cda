"""What may be repeated of what a server says of an error: by class of SQLSTATE, never by words in its text.

The drivers differ, asyncpg for the engine and psycopg for the migrations; what their errors become does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alerts_engine.masking import MASK, without_destinations, without_values

_UNKNOWN_DATABASE = "3D000"
_MIXED_UP_BY_POOLER = {"26000", "42P05"}
SAID_BY_POOLER = "08P01"

_FREE_OF_DATA = ("0A", "25", "40", "53", "54", "55", "57", "58")
"""Classes whose sentences are about transactions, limits and states."""
_NAMES_THINGS = ("08", "23", "42")
"""Classes whose sentences name tables, columns, constraints and servers, and 42 also quotes from the statement.

Class 22 is in neither: it quotes the value that does not fit.
"""
_PASSES_ON = frozenset(
    {"exec_stmt_raise", "PLy_elog_impl", "PLy_output", "throw_tcl_error", "pgfdw_report_error", "dblink_res_error"}
)
"""Where PostgreSQL passes on what a function raises or another server answers, which may be anything."""

_FOR_CONNECTION = {
    "28": "check user and password in DATABASE_URL",
    "3D": "check the name of the database in DATABASE_URL",
    "42704": "check the parameters of DATABASE_URL",
    "53300": "close connections that nobody needs, or raise the limit",
    "57P03": "try again in a moment",
}
_FOR_STATEMENT = {
    "25006": "DATABASE_URL must lead to a server and a role that may write, not to a standby",
    "42501": "grant it to the role of DATABASE_URL; alerts-engine preflight lists all that is missing",
}
"""What to do, by the SQLSTATE or its class."""

_PAST_THE_POOLER = "point DATABASE_URL at PostgreSQL itself, or at a pooler in session mode"
NEEDS_A_SESSION = (
    "session locks do not hold through the connection pooler, which gives each transaction another session: two runs "
    f"could work on one phase at once, and prepared statements go astray; {_PAST_THE_POOLER}"
)
"""Said by whatever meets such a pooler first."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error as its sender described it."""

    name: str
    """The driver's name of the condition, such as ``UniqueViolationError``."""
    sqlstate: str
    message: str
    constraint: str | None = None
    source: str | None = None
    """The function of PostgreSQL's own code that it comes from."""

    @property
    def is_passed_on(self) -> bool:
        """Whether PostgreSQL only passes it on."""
        return self.source in _PASSES_ON


def about_statement(error: ServerError) -> str:
    """What may be said of an error at a statement: the sentence where it holds no data, else the condition's name."""
    if _may_be_repeated(error):
        sentence = " ".join(without_values(error.message).split())
    else:
        sentence = error.name + (f" of {error.constraint}" if error.constraint else "")
    return f"{sentence} (SQLSTATE {error.sqlstate})"


def about_connection(error: ServerError, user: str | None) -> str:
    """What may be said of an error that ended or refused a connection: the sentence, without its user."""
    if error.is_passed_on:
        return f"{error.name} (SQLSTATE {error.sqlstate})"
    return without_user(error.message, None if error.sqlstate == _UNKNOWN_DATABASE else user)


def advice_for_connection(sqlstate: str | None) -> str | None:
    """What to do about a refused connection, where there is more to say than the sentence does."""
    return _FOR_CONNECTION.get(sqlstate or "") or _FOR_CONNECTION.get((sqlstate or "")[:2])


def advice_for_statement(sqlstate: str) -> str | None:
    """What to do about a refused statement of the engine's own."""
    return _FOR_STATEMENT.get(sqlstate)


def without_user(text: str, user: str | None) -> str:
    """``text`` in one line, the quoted name of ``user`` masked."""
    if user:
        name = re.escape(user)
        text = re.sub(rf"[\"'»«„“‘]\s?{name}\s?[\"'«»“”’]|(?<=: ){name}$", MASK, text)
    return " ".join(without_destinations(text).split())


def pooler_problem(error: ServerError, user: str | None, *, connecting: bool) -> str | None:
    """What to say when ``error`` shows a connection pooler in the way; ``None`` when it does not."""
    if error.is_passed_on:
        return None
    if error.sqlstate in _MIXED_UP_BY_POOLER:
        return NEEDS_A_SESSION
    if error.sqlstate == SAID_BY_POOLER:
        sentence = f"{without_user(error.message, user)} (SQLSTATE {error.sqlstate})"
        settings = ", or take settings out of it that PgBouncer does not have among its ignore_startup_parameters"
        return f"the connection pooler refuses: {sentence}: {_PAST_THE_POOLER}{settings if connecting else ''}"
    return None


def _may_be_repeated(error: ServerError) -> bool:
    return error.sqlstate.startswith((*_FREE_OF_DATA, *_NAMES_THINGS)) and not error.is_passed_on
