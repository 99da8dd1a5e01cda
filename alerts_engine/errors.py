"""One exception tree. A message says what happened, to which thing, and what to do; never a secret or an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType


class AlertsEngineError(Exception):
    """Base of every error the engine raises on purpose; the command line prints its text as one line, exit 1."""


class SettingProblem(NamedTuple):
    """Why a setting cannot be used, in a sentence that names its variable and never shows the value.

    Settings that contradict each other have one problem; one of the ``.env`` file as a whole has no variables.
    """

    variables: tuple[str, ...]
    text: str


class SettingsError(AlertsEngineError):
    """One or more settings cannot be used; names the variables, never their values (SPEC section 4)."""

    def __init__(self, message: str, problems: tuple[SettingProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class StatementError(AlertsEngineError):
    """A ``.sql`` file, its header or the binding of its parameters is wrong."""


class NotOpenError(AlertsEngineError):
    """The engine is used before it was opened, or after it was closed."""


class DatabaseUnreachableError(AlertsEngineError):
    """No connection to PostgreSQL, or none that can be used."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class PoolerError(DatabaseUnreachableError):
    """A connection pooler stands before PostgreSQL and does not let through what the engine needs (SPEC R-1, L-1)."""


class DatabaseError(AlertsEngineError):
    """PostgreSQL refused or broke off a statement."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StatementTimeoutError(DatabaseError):
    """A statement was broken off: it took longer than its limit, or somebody cancelled it."""


class ConflictError(DatabaseError):
    """Another session deleted or locked what a statement needed: the transaction may succeed when it is repeated."""


class LockTimeoutError(DatabaseError):
    """Another session holds a lock, and did not give it up in time."""


class DuplicateKeyError(DatabaseError):
    """A new row has a key that is taken, and not the one that tells what is known already."""

    def __init__(self, message: str, *, sqlstate: str, is_id: bool) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.is_id = is_id
        """The table's own number collides: its sequence is behind."""


class SchemaError(AlertsEngineError):
    """The database is not migrated, or a migration failed."""


class LockLostError(AlertsEngineError):
    """The connection that holds a phase's lock died; another runner may have taken over (SPEC L-2)."""


class EventError(AlertsEngineError):
    """An event cannot be published as it is; ``field`` is the field of :class:`NewEvent` that must change."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class RuleError(AlertsEngineError):
    """A phase-A rule cannot be read, run or understood (SPEC A-5)."""


class TemplateError(AlertsEngineError):
    """A message template cannot be used; names the file and the line (SPEC M-1)."""


class NotFoundError(AlertsEngineError):
    """No such run, event, delivery, digest or user."""


class AmbiguousError(AlertsEngineError):
    """A name means more than one thing; the message lists them."""


class EmbeddedServerError(AlertsEngineError):
    """The embedded PostgreSQL cannot be started."""


class PhaseError(AlertsEngineError):
    """A phase did its work, but not all of it: what it did is kept, and its report is ``failed``."""


class unchained:  # noqa: N801 - used as a statement
    """Around a ``raise``: what led to the error is forgotten, since it may hold a password, an address or a row.

    ``from None`` only hides it from a traceback: it is still there for whoever walks the chain.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            error.__cause__ = error.__context__ = None
