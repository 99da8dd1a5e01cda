"""A database, providers' doubles, and settings that join them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from alerts_engine.settings import Settings, Variables
from alerts_engine.testing.database import databases
from alerts_engine.testing.sandbox import sandbox_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alerts_engine.testing.database import AlertsDatabase
    from alerts_engine.testing.sandbox import AlertsSandbox, Inbox


@dataclass(frozen=True, slots=True)
class Playground:
    """Where nobody real reads the messages."""

    database: AlertsDatabase
    sandbox: AlertsSandbox
    settings: Settings

    @property
    def inbox(self) -> Inbox:
        """What arrived."""
        return self.sandbox.inbox


def settings_for(database: AlertsDatabase, sandbox: AlertsSandbox, **fields: Any) -> Settings:
    """Settings for this database and these providers; the environment and ``.env`` do not matter."""
    given = {"database_url": SecretStr(database.url), **sandbox.fields, **fields}
    return Settings(_variables=Variables(), **given)


@contextmanager
def playground(folder: Path | None = None, **fields: Any) -> Iterator[Playground]:
    """A fresh database on the embedded server, a sandbox, and settings; ``fields`` are settings by field name.

    ``folder`` is the server's, by default ``.alerts-engine/testing`` in the working directory. Raises
    :class:`EmbeddedServerError`.

    >>> with playground() as play:
    ...     play.inbox.messages
    []
    """
    with databases(folder) as made, made.fresh() as database, sandbox_thread() as sandbox:
        yield Playground(database, sandbox, settings_for(database, sandbox, **fields))
