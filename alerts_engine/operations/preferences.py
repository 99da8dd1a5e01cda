"""What a reader gets on one channel, and what the reader chooses instead (SPEC U-2, U-3)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

import structlog

from alerts_engine.statements import command, statement

if TYPE_CHECKING:
    from datetime import datetime

    from alerts_engine.database import Database, Executor, Session
    from alerts_engine.reader_links import ReaderToken

log = structlog.get_logger("alerts_engine.preferences")


class Choice(StrEnum):
    """What a reader may choose; each has its opposite."""

    STOP_TYPE = "stop_type"
    RESUME_TYPE = "resume_type"
    ONLY_DIGESTS = "only_digests"
    ALSO_AT_ONCE = "also_at_once"
    STOP_CHANNEL = "stop_channel"
    RESUME_CHANNEL = "resume_channel"

    @property
    def is_about_type(self) -> bool:
        """Whether it needs an alert type."""
        return self in {Choice.STOP_TYPE, Choice.RESUME_TYPE}


class Way(StrEnum):
    """How a choice reached us."""

    ONE_CLICK = "one_click"
    """A mail program's button (RFC 8058)."""
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class ChoicesRow:
    channel_enabled: bool
    digest_only: bool
    stopped_types: list[str]
    wishes: str | None
    has_preferences: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """What a reader gets on one channel."""

    channel_enabled: bool
    digest_only: bool
    stopped_types: frozenset[str]
    wishes: tuple[dict[str, Any], ...]
    """``type``, ``region`` and ``asset`` of the enabled preferences, fifty at most."""
    has_preferences: bool
    """False: the defaults of SPEC B-4 stand for them."""

    def has(self, choice: Choice, alert_type: str) -> bool:
        """Whether the choice was made already."""
        match choice:
            case Choice.STOP_TYPE:
                return alert_type in self.stopped_types
            case Choice.RESUME_TYPE:
                return alert_type not in self.stopped_types
            case Choice.ONLY_DIGESTS:
                return self.digest_only
            case Choice.ALSO_AT_ONCE:
                return not self.digest_only
            case Choice.STOP_CHANNEL:
                return not self.channel_enabled
            case Choice.RESUME_CHANNEL:
                return self.channel_enabled
            case _:
                assert_never(choice)


choices_of = statement("preferences", "choices_of", ChoicesRow)
hold_reader = command("preferences", "hold_reader")
switch_channel = command("preferences", "switch_channel")
choose_digests = command("preferences", "choose_digests")
stop_alert_type = command("preferences", "stop_alert_type")
resume_alert_type = command("preferences", "resume_alert_type")
note_consent = command("preferences", "note_consent")


async def read_choices(database: Executor, reader: ReaderToken) -> Choices | None:
    """What the reader gets now; ``None`` for a user who is gone."""
    rows = await database.rows(choices_of, user_id=reader.user_id, channel=reader.channel)
    if not rows:
        return None
    (row,) = rows
    return Choices(
        channel_enabled=row.channel_enabled,
        digest_only=row.digest_only,
        stopped_types=frozenset(row.stopped_types),
        wishes=tuple(json.loads(row.wishes) if row.wishes else ()),
        has_preferences=row.has_preferences,
    )


async def choose(database: Database, reader: ReaderToken, choice: Choice, way: Way, now: datetime) -> Choices | None:
    """Make the reader's choice and keep a record of it; made twice it is made once. ``None``: the user is gone.

    Raises :class:`ValueError` for a choice about an alert type where the link names none.
    """
    if choice.is_about_type and not reader.scope:
        raise ValueError("the link names no alert type")
    async with database.transaction() as transaction:
        await transaction.run(hold_reader, user_id=reader.user_id)
        before = await read_choices(transaction, reader)
        if before is None:
            return None
        if before.has(choice, reader.scope):
            return before
        await _apply(transaction, reader, choice, now)
        await transaction.run(
            note_consent,
            user_id=reader.user_id,
            channel=reader.channel,
            alert_type=reader.scope if choice.is_about_type else None,
            choice=choice,
            way=way,
            now=now,
        )
        after = await read_choices(transaction, reader)
    log.info("reader_chose", user=reader.user_id, channel=reader.channel, choice=str(choice), way=str(way))
    return after


async def _apply(transaction: Session, reader: ReaderToken, choice: Choice, now: datetime) -> None:
    user, channel = reader.user_id, reader.channel
    match choice:
        case Choice.STOP_TYPE:
            await transaction.run(stop_alert_type, user_id=user, channel=channel, alert_type=reader.scope, now=now)
        case Choice.RESUME_TYPE:
            await transaction.run(resume_alert_type, user_id=user, channel=channel, alert_type=reader.scope)
        case Choice.ONLY_DIGESTS | Choice.ALSO_AT_ONCE:
            await transaction.run(choose_digests, user_id=user, digest_only=choice is Choice.ONLY_DIGESTS)
        case Choice.STOP_CHANNEL | Choice.RESUME_CHANNEL:
            await transaction.run(
                switch_channel, user_id=user, channel=channel, enabled=choice is Choice.RESUME_CHANNEL
            )
        case _:
            assert_never(choice)
