"""The providers' lists of what they accepted, page by page, in their own forms. Messages come newest first."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, dropwhile, islice
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlencode

from alerts_engine.sandbox.model import RefusedError, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiohttp import web

    from alerts_engine.sandbox.model import Answer, SandboxMessage

Page: TypeAlias = "Callable[[Sequence[SandboxMessage], web.Request, datetime], Answer]"
"""Makes one page of a provider's list out of what it shows, for a request at a moment."""

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def _page(body: object, now: datetime) -> Answer:
    return json_answer(200, body, {"Date": format_datetime(now, usegmt=True)})


# --- Brevo ------------------------------------------------------------------------------------------------------------


def brevo_events(messages: Sequence[SandboxMessage], request: web.Request, now: datetime) -> Answer:
    """``GET /v3/smtp/statistics/events``: two events for each email, ``requests`` and ``delivered``.

    A tag is given plainly. Written as an array, as the reference says, it finds nothing: so it was measured.
    """
    query = request.query
    first, last = _brevo_days(query, now)
    limit = _brevo_number(query, "limit", 2500, 5000)
    offset = _brevo_number(query, "offset", 0, 10**9)
    fitting = (
        message
        for message in messages
        if query.get("tags") in (None, *message.tags)
        and query.get("email") in (None, *message.destination.split(", "))
        and query.get("messageId") in (None, message.provider_message_id)
        and first <= message.received_at.date() <= last
    )
    events = chain.from_iterable(map(_brevo_events_of, fitting))
    return _page({"events": list(islice(events, offset, offset + limit))}, now)


def _brevo_events_of(message: SandboxMessage) -> Iterator[dict[str, object]]:
    for event in ("delivered", "requests"):
        yield {
            "email": message.destination,
            "date": message.received_at.isoformat(timespec="milliseconds"),
            "subject": message.subject,
            "messageId": message.provider_message_id,
            "event": event,
            "tag": ",".join(message.tags),
            "from": message.sender,
        }


def _brevo_days(query: Mapping[str, str], now: datetime) -> tuple[date, date]:
    if "days" not in query:
        first, last = _brevo_day(query, "startDate"), _brevo_day(query, "endDate")
        if (first is None) != (last is None) or (first and last and not timedelta(0) <= last - first <= timedelta(90)):
            raise RefusedError(400, "invalid_parameter", "startDate or endDate is not valid")
        return first or now.date() - timedelta(30), last or now.date()
    if "startDate" in query or "endDate" in query:
        raise RefusedError(400, "invalid_parameter", "days is not compatible with startDate and endDate")
    return now.date() - timedelta(_brevo_number(query, "days", 30, 90) - 1), now.date()


def _brevo_day(query: Mapping[str, str], name: str) -> date | None:
    try:
        return date.fromisoformat(query[name]) if name in query else None
    except ValueError:
        raise RefusedError(400, "invalid_parameter", f"{name} is not valid") from None


def _brevo_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) > most:
        raise RefusedError(400, "out_of_range", f"{name} is out of range")
    return int(text)


# --- Resend -----------------------------------------------------------------------------------------------------------


def resend_emails(messages: Sequence[SandboxMessage], request: web.Request, now: datetime) -> Answer:
    """``GET /emails``: without texts and tags."""
    limit = request.query.get("limit", "20")
    if not _WHOLE_NUMBER.fullmatch(limit) or not 1 <= int(limit) <= 100:  # noqa: PLR2004 - Resend's bounds
        raise RefusedError(422, "validation_error", "The `limit` must be between 1 and 100.")
    after = request.query.get("after")
    rest = list(messages if after is None else _resend_after(messages, after))
    shown = [_resend_summary(message) for message in rest[: int(limit)]]
    return _page({"object": "list", "has_more": len(rest) > int(limit), "data": shown}, now)


def resend_email(messages: Sequence[SandboxMessage], request: web.Request, now: datetime) -> Answer:
    """``GET /emails/{id}``: all of one email."""
    wanted = request.match_info["id"]
    for message in messages:
        if message.provider_message_id == wanted:
            tags = (tag.split(":", 1) for tag in message.tags)
            more = {"object": "email", "html": message.html, "text": message.text}
            listed = [{"name": name, "value": value} for name, value in tags]
            return _page({**_resend_summary(message), **more, "tags": listed}, now)
    raise RefusedError(404, "not_found", "Email not found")


def _resend_after(messages: Sequence[SandboxMessage], after: str) -> Iterator[SandboxMessage]:
    rest = dropwhile(lambda message: message.provider_message_id != after, messages)
    if next(rest, None) is None:
        raise RefusedError(422, "validation_error", "The `after` email does not exist.")
    return rest


def _resend_summary(message: SandboxMessage) -> dict[str, object]:
    return {
        "id": message.provider_message_id,
        "to": message.destination.split(", "),
        "from": message.sender,
        "created_at": f"{message.received_at:%Y-%m-%d %H:%M:%S.%f}+00",
        "subject": message.subject,
        "bcc": None,
        "cc": None,
        "reply_to": None,
        "last_event": "delivered",
        "scheduled_at": None,
    }


# --- Twilio -----------------------------------------------------------------------------------------------------------


def twilio_messages(messages: Sequence[SandboxMessage], request: web.Request, now: datetime) -> Answer:
    """``GET …/Messages.json`` with ``To``, ``From`` and ``PageSize``; a page's last message names the next page."""
    query = request.query
    if any(name.startswith("DateSent") for name in query):
        raise RefusedError(400, 20001, "DateSent is not played by this sandbox")
    size, number = _twilio_number(query, "PageSize", 50), _twilio_number(query, "Page", 0)
    if not 1 <= size <= 1000:  # noqa: PLR2004 - Twilio's bounds
        raise RefusedError(400, 20007, "Page size must be between 1 and 1000")
    rest = _twilio_from(query.get("PageToken"), [one for one in messages if _twilio_fits(one, query)])
    shown = rest[:size]
    filters = {name: query[name] for name in ("To", "From") if name in query} | {"PageSize": str(size)}
    following = {"Page": number + 1, "PageToken": f"PA{shown[-1].provider_message_id}"} if rest[size:] else None
    body = {
        "first_page_uri": f"{request.path}?{urlencode({**filters, 'Page': 0})}",
        "next_page_uri": following and f"{request.path}?{urlencode({**filters, **following})}",
        "previous_page_uri": None,
        "uri": f"{request.path}?{urlencode({**filters, 'Page': number})}",
        "page": number,
        "page_size": size,
        "start": number * size,
        "end": number * size + max(len(shown) - 1, 0),
        "messages": [_twilio_message(message, request.match_info["sid"]) for message in shown],
    }
    return _page(body, now)


def _twilio_fits(message: SandboxMessage, query: Mapping[str, str]) -> bool:
    return query.get("To") in (None, message.destination) and query.get("From") in (None, message.sender)


def _twilio_from(token: str | None, messages: list[SandboxMessage]) -> list[SandboxMessage]:
    if token is None:
        return messages
    tokens = [f"PA{message.provider_message_id}" for message in messages]
    return messages[tokens.index(token) + 1 :] if token in tokens else []


def _twilio_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not _WHOLE_NUMBER.fullmatch(text):
        raise RefusedError(400, 20001, f"Invalid {name}")
    return int(text)


def _twilio_message(message: SandboxMessage, account: str) -> dict[str, object]:
    date = format_datetime(message.received_at)
    sid = message.provider_message_id
    return {
        "sid": sid,
        "account_sid": account,
        "messaging_service_sid": None,
        "from": message.sender,
        "to": message.destination,
        "body": message.text,
        "status": "delivered",
        "num_segments": str(message.segments),
        "num_media": "0",
        "direction": "outbound-api",
        "api_version": "2010-04-01",
        "date_created": date,
        "date_updated": date,
        "date_sent": date,
        "price": "-0.00750",
        "price_unit": "USD",
        "error_code": None,
        "error_message": None,
        "uri": f"/2010-04-01/Accounts/{account}/Messages/{sid}.json",
    }
