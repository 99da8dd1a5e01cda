"""A message as it would be sent, without sending it: what it is made of, and the message (SPEC section 9)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from alerts_engine.errors import NotFoundError
from alerts_engine.phases.context import renderer_for
from alerts_engine.phases.send.claims import digests_by_id
from alerts_engine.phases.send.event_cache import EventCache
from alerts_engine.phases.send.prepare import link_for, reader_for
from alerts_engine.rendering.reader import personal
from alerts_engine.settings.links import reader_links
from alerts_engine.statements import statement
from alerts_engine.types import Alert, DigestContent, Kind

if TYPE_CHECKING:
    from alerts_engine.database import Executor
    from alerts_engine.settings import Settings
    from alerts_engine.types import Message


class PreviewKind(StrEnum):
    """What a message can be looked at by."""

    DELIVERY = "delivery"
    DIGEST = "digest"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class PreviewedDelivery:
    id: int
    event_id: int
    channel: str
    kind: Kind
    digest_id: int | None
    user_id: int
    reasons: str | None


@dataclass(frozen=True, slots=True)
class PreviewedDigest:
    id: int
    channel: str
    user_id: int
    reasons: str | None


@dataclass(frozen=True, slots=True)
class Previewed:
    """What a message is made of, and the channel and user it is meant for; an event alone is meant for none."""

    content: Alert | DigestContent
    channel: str | None
    user_id: int | None = None
    reasons: str | None = None
    """The preferences that match, as the row keeps them or would (SPEC M-3b)."""


previewed_delivery = statement("preview", "previewed_delivery", PreviewedDelivery)
previewed_digest = statement("preview", "previewed_digest", PreviewedDigest)


async def delivery_preview(database: Executor, delivery_id: int) -> Previewed:
    """An instant delivery. Raises :class:`NotFoundError`; a digest's item has no message of its own (SPEC C-1)."""
    found = await database.rows(previewed_delivery, delivery_id=delivery_id)
    if not found:
        raise NotFoundError(f"there is no delivery {delivery_id}")
    delivery = found[0]
    if delivery.kind is Kind.DIGEST or delivery.digest_id is not None:
        where = "waits for its digest" if delivery.digest_id is None else f"is part of digest {delivery.digest_id}"
        other = f"--event {delivery.event_id}" if delivery.digest_id is None else f"--digest {delivery.digest_id}"
        raise NotFoundError(f"delivery {delivery_id} {where} and has no message of its own: use {other}")
    content = (await event_preview(database, delivery.event_id)).content
    return Previewed(content, delivery.channel, delivery.user_id, delivery.reasons)


async def event_preview(database: Executor, event_id: int) -> Previewed:
    """An event, before it becomes a delivery. Raises :class:`NotFoundError`."""
    known = await EventCache(database).of([event_id])
    if event_id not in known:
        raise NotFoundError(f"there is no event {event_id}")
    return Previewed(known[event_id].alert, None)


async def digest_preview(database: Executor, digest_id: int) -> Previewed:
    """A digest with the items it has by now. Raises :class:`NotFoundError`, also when it has none."""
    found = await database.rows(previewed_digest, digest_id=digest_id)
    if not found:
        raise NotFoundError(f"there is no digest {digest_id}")
    digest = (await digests_by_id(database, [digest_id], EventCache(database)))[digest_id]
    if not digest.content.items:
        raise NotFoundError(f"digest {digest_id} has no items: it would be skipped, not sent")
    return Previewed(digest.content, found[0].channel, found[0].user_id, found[0].reasons)


_PREVIEWS = {
    PreviewKind.DELIVERY: delivery_preview,
    PreviewKind.DIGEST: digest_preview,
    PreviewKind.EVENT: event_preview,
}


async def preview(database: Executor, kind: PreviewKind, row_id: int) -> Previewed:
    """What the message of the row ``row_id`` is made of. Raises :class:`NotFoundError`."""
    return await _PREVIEWS[kind](database, row_id)


def message_of(found: Previewed, channel: str, settings: Settings) -> Message:
    """The message, byte for byte as a send would make it. :class:`ValueError` for an SMS digest."""
    renderer, content = renderer_for(settings), found.content
    links = reader_links(settings) if found.user_id is not None else None
    reader = reader_for(links, channel, found.reasons)
    url = None if found.user_id is None else link_for(links, found.user_id, channel, content)
    if isinstance(content, Alert):
        return personal(renderer.instant(content, channel, reader), url)
    return personal(renderer.digest(content, channel, reader), url)
