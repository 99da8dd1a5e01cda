"""The page in words: what the reader gets, and what may be chosen instead (SPEC U-2). It has no script."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from alerts_engine.channels import channels
from alerts_engine.operations.preferences import Choice, Choices
from alerts_engine.rendering.reader import kind_in_words, reason_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2 import Template

    from alerts_engine.reader_links import ReaderToken

TITLE = "Your EnergyRiskIQ alerts"
_DEFAULTS = ({"type": "HIGH_IMPACT_EVENT", "region": "Europe", "asset": None},)


@dataclass(frozen=True, slots=True)
class Offer:
    """One button, and what it means."""

    choice: Choice
    label: str
    meaning: str


@cache
def _style() -> str:
    return files("alerts_engine.preferences").joinpath("page.css").read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = files("alerts_engine.preferences").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)


@cache
def headers() -> Mapping[str, str]:
    """The page's policy: its own style and its own form, nothing else."""
    digest = b64encode(sha256(_style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy}


def choices_page(reader: ReaderToken, choices: Choices, said: str = "") -> str:
    """What the reader gets, and what may be chosen; ``said`` is what was just done."""
    channel = channel_title(reader.channel)
    wishes = choices.wishes if choices.has_preferences else _DEFAULTS
    return _template().render(
        title=TITLE,
        style=_style(),
        said=said,
        choices=choices,
        channel=channel,
        wishes=[_wish(one, choices) for one in wishes],
        by_default=not choices.has_preferences,
        offers=list(_offers(reader, choices, channel)),
    )


def note_page(said: str) -> str:
    """A page that only says something, such as that the link is wrong."""
    return _template().render(title=TITLE, style=_style(), said=said, choices=None)


def said_of(choice: Choice, reader: ReaderToken) -> str:
    """What a choice has done, in a sentence."""
    channel, kind = channel_title(reader.channel), kind_in_words(reader.scope)
    return {
        Choice.STOP_TYPE: f"You get no {kind} by {channel} any more.",
        Choice.RESUME_TYPE: f"You get {kind} by {channel} again.",
        Choice.ONLY_DIGESTS: "From now on your alerts come in digests.",
        Choice.ALSO_AT_ONCE: "Your alerts come at once again.",
        Choice.STOP_CHANNEL: f"You get nothing by {channel} any more.",
        Choice.RESUME_CHANNEL: f"You get alerts by {channel} again.",
    }[choice]


def channel_title(channel: str) -> str:
    """``email``, ``Telegram``; a channel that is not there any more by its name."""
    spec = channels().get(channel)
    return spec.title if spec is not None else channel


def _wish(wish: Mapping[str, Any], choices: Choices) -> dict[str, Any]:
    return {"words": reason_in_words(wish), "stopped": wish.get("type") in choices.stopped_types}


def _offers(reader: ReaderToken, choices: Choices, channel: str) -> Iterator[Offer]:
    if not choices.channel_enabled:
        yield Offer(
            Choice.RESUME_CHANNEL, f"Send me alerts by {channel} again", f"You get what you follow by {channel} again."
        )
        return
    if reader.scope:
        kind = kind_in_words(reader.scope)
        if reader.scope in choices.stopped_types:
            yield Offer(Choice.RESUME_TYPE, f"Send me {kind} again", f"You have stopped {kind} by {channel}.")
        else:
            yield Offer(
                Choice.STOP_TYPE, f"Stop {kind}", f"No {kind} by {channel} any more; everything else as before."
            )
    if choices.digest_only:
        yield Offer(Choice.ALSO_AT_ONCE, "Send me alerts at once again", "On every channel, as your plan has it.")
    else:
        yield Offer(Choice.ONLY_DIGESTS, "Only digests", "Your alerts come together in one message, on every channel.")
    yield Offer(Choice.STOP_CHANNEL, f"Nothing by {channel}", f"No alerts and no digests by {channel} any more.")
