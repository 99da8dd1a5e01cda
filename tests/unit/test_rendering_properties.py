"""Any alert renders for any channel, and nothing in it becomes markup (SPEC M-1 … M-4)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts_engine.rendering import Renderer
from alerts_engine.types import Alert, Channel, DigestContent, EmailMessage, Period, SmsMessage, TelegramMessage

RENDERERS = [
    Renderer(time_zone="Europe/Amsterdam", app_base_url="https://app.example/?a=1&b='\""),
    Renderer(time_zone="America/St_Johns"),
]
NASTY = st.sampled_from(
    [
        *("<script>evil()</script>", "</b>", "<b>", "&lt;", "&", '" onclick="evil()', "'", "_*[x](y)`"),
        *("\r\nBcc: x", "\x00", "\u202e", "\u200d", "\ufeff", "\ud83d", "e\u0301", "😀", "🇳🇱", "–…’", "Ж"),
        *("{{ 7 * 7 }}", "{% raw %}", "word " * 900),
    ]
)
TEXT = st.lists(NASTY | st.text(st.characters(), max_size=10), max_size=5).map("".join)
ALERTS = st.builds(
    Alert,
    event_id=st.integers(1, 2**63 - 1),
    alert_type=st.sampled_from(["REGIONAL_RISK_SPIKE", "HIGH_IMPACT_EVENT"]) | TEXT,
    scope_region=st.none() | TEXT,
    scope_assets=st.lists(TEXT, max_size=8).map(tuple),
    severity=st.integers(-1, 7),
    headline=TEXT,
    body=TEXT,
    created_at=st.datetimes(timezones=st.just(UTC)),
    value=st.none() | st.floats(),
    previous=st.none() | st.floats(),
    what=st.none() | TEXT,
    digest_headline=st.none() | TEXT,
    source=st.none() | TEXT,
)
DIGESTS = st.builds(
    lambda period, start, hours, items: DigestContent(period, start, start + timedelta(hours=hours), tuple(items)),
    st.sampled_from(Period),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants bare bounds
    st.sampled_from([1, 23, 24, 25]),
    st.lists(ALERTS, min_size=1, max_size=3).flatmap(lambda few: st.integers(1, 40).map(lambda n: few * n)),
)
HUGE = Alert(
    1,
    "T" * 100_000,
    "R<" * 50_000,
    ("A&" * 50_000,) * 3,
    5,
    "H😀" * 50_000,
    "<b>\n" * 25_000,
    datetime(2022, 9, 2, tzinfo=UTC),
    1e308,
    -1e308,
    "W<" * 50_000,
    "D😀" * 50_000,
    "S&" * 50_000,
)

VOID = {"meta", "br", "img", "hr", "link", "input"}
OUR_TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "div",
    "span",
    "table",
    "tr",
    "td",
    "th",
    "h1",
    "h2",
    "p",
    "a",
    "br",
}
OUR_ATTRIBUTES = {
    "lang", "charset", "name", "content", "class", "style", "role", "width", "height", "cellpadding", "cellspacing",
    "border", "align", "valign", "dir", "href", "aria-hidden", "scope", "bgcolor",
}  # fmt: skip


TELEGRAM_TOKEN = re.compile(
    r"<(?P<start>[bia])(?P<href> href=\"https://[^\"<>]+\")?>|</(?P<end>[bia])>|&(?:lt|gt|amp|quot|#\d+);|[^<>&]+"
)


class Balance(HTMLParser):
    """Holds every tag against the ones that the built-in templates use, and every end against its start."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in OUR_TAGS
        assert {name for name, _ in attrs} <= OUR_ATTRIBUTES
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_email(message: EmailMessage) -> None:
    parsed = Balance(message.html)
    assert all(link.startswith("https://app.example/?a=1&b='\"/") for link in parsed.links)
    assert len(message.html.encode()) <= 90_000
    assert message.subject.strip()
    assert len(message.subject.splitlines()) == 1
    assert len(message.subject) <= 120
    assert message.text.strip()
    for part in (message.subject, message.html, message.text):
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", part)


def check_telegram(message: TelegramMessage) -> None:
    """As Telegram's parser reads it: its tags nested, its entities, its length."""
    stack: list[str] = []
    length = end = 0
    for token in TELEGRAM_TOKEN.finditer(message.text):
        assert token.start() == end
        end = token.end()
        if token["start"]:
            assert (token["start"] == "a") == bool(token["href"])
            stack.append(token["start"])
        elif token["end"]:
            assert stack.pop() == token["end"]
        else:
            length += len(unescape(token[0]).encode("utf-16-le")) // 2
    assert end == len(message.text)
    assert stack == []
    assert 1 <= length <= 4096


def check_sms(message: SmsMessage) -> None:
    assert 1 <= len(message.body.encode("utf-16-le")) // 2 <= 1600
    assert message.encoding in ("GSM-7", "UCS-2")
    assert message.segments == 1
    assert len(message.body) <= (160 if message.encoding == "GSM-7" else 70)
    assert len(message.body.splitlines()) == 1


@settings(max_examples=150, deadline=None)
@given(ALERTS, st.sampled_from(RENDERERS))
@example(HUGE, RENDERERS[0])
def test_any_alert_makes_a_valid_message_on_any_channel(alert: Alert, renderer: Renderer) -> None:
    """Whatever an event says, its messages are whole, bounded and inert (SPEC M-1, M-2, M-4)."""
    for channel in Channel:
        message = renderer.instant(alert, channel)
        match message:
            case EmailMessage():
                check_email(message)
            case TelegramMessage():
                check_telegram(message)
            case SmsMessage():
                check_sms(message)


@settings(max_examples=60, deadline=None)
@given(DIGESTS, st.sampled_from(RENDERERS))
@example(DigestContent(Period.DAILY, HUGE.created_at, HUGE.created_at + timedelta(days=1), (HUGE,) * 200), RENDERERS[0])
def test_any_digest_makes_a_valid_message(digest: DigestContent, renderer: Renderer) -> None:
    """One item or many, tame or hostile: whole, bounded, inert (SPEC M-2, M-3, M-4)."""
    email, telegram = renderer.digest(digest, Channel.EMAIL), renderer.digest(digest, Channel.TELEGRAM)
    assert isinstance(email, EmailMessage)
    assert isinstance(telegram, TelegramMessage)
    check_email(email)
    check_telegram(telegram)
