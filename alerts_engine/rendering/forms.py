"""The forms of messages: email, Telegram, SMS. A custom channel uses one of them or brings its own (SPEC I-6)."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from alerts_engine.errors import TemplateError
from alerts_engine.rendering import gsm7
from alerts_engine.rendering.cleaning import clean, clean_lines, cut, utf16_length
from alerts_engine.rendering.render_kit import ITEMS_IN_FULL, largest, not_blank, tidy
from alerts_engine.rendering.telegram_html import LONGEST_TEXT, parsed_length
from alerts_engine.types import EmailMessage, Message, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from alerts_engine.rendering.render_kit import RenderKit
    from alerts_engine.rendering.templating import Context, Render
    from alerts_engine.rendering.views import AlertView, DigestTeller
    from alerts_engine.types import Alert, DigestContent

MessageT = TypeVar("MessageT", bound=Message)

SUBJECT_LIMIT = 120
SMS_LIMIT = 1600
DIGEST_HTML_BYTES = 90_000
"""Gmail clips an email at 102 kB, and the way to unsubscribe with it (SPEC M-3a)."""
_SHORTEST_SMS_LEAD = 40
_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>alerts-engine preview</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto; white-space: pre-wrap">"""


class MessageForm(Protocol):
    """Makes the messages of a channel, and shows them. Pure: the same input gives the same bytes (SPEC C-12)."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The names by which ``preview --format`` asks for a part of a message."""
        ...

    def instant(self, kit: RenderKit, alert: Alert, /) -> Message:
        """The message that tells one alert."""
        ...

    def digest(self, kit: RenderKit, digest: DigestContent, /) -> Message:
        """The message of a digest with at least one item; :class:`ValueError` where there are no digests."""
        ...

    def show(self, message: Message, part: str | None, /) -> str:
        """``message`` as text: one of the ``formats``, or what its reader sees first."""
        ...

    def page(self, message: Message, part: str | None, /) -> str:
        """``message`` as an HTML page, to look at in a browser."""
        ...


class EmailForm:
    """A subject, and a body in HTML and in text."""

    formats: ClassVar = ("html", "text")

    def instant(self, kit: RenderKit, alert: Alert) -> EmailMessage:
        context = kit.context(alert=kit.views.alert(alert))
        html = kit.templates.use("instant.email.html", lambda render: not_blank(render(context)))
        return self._email(kit, "instant", html, context)

    def digest(self, kit: RenderKit, digest: DigestContent) -> EmailMessage:
        teller = kit.views.digest(digest, in_full=ITEMS_IN_FULL)

        def make(render: Render) -> tuple[int, str]:
            return largest(
                0,
                len(teller.full.items),
                make=lambda count: (count, not_blank(render(kit.context(digest=teller.telling(count))))),
                fits=lambda told: len(told[1].encode()) <= DIGEST_HTML_BYTES,
            )

        count, html = kit.templates.use("digest.email.html", make)
        return self._email(kit, "digest", html, kit.context(digest=teller.telling(count)))

    def show(self, message: Message, part: str | None) -> str:
        email = _as(EmailMessage, message)
        if part is None:
            return f"Subject: {email.subject}\n\n{email.text}"
        return email.html if part == "html" else email.text

    def page(self, message: Message, part: str | None) -> str:
        email = _as(EmailMessage, message)
        return page_of(escape(email.text)) if part == "text" else email.html

    @staticmethod
    def _email(kit: RenderKit, kind: str, html: str, context: Context) -> EmailMessage:
        return EmailMessage(
            subject=kit.templates.use(f"{kind}.email.subject.txt", lambda render: _subject(render(context))),
            html=html,
            text=kit.templates.use(f"{kind}.email.txt", lambda render: tidy(render(context))),
        )


class TelegramForm:
    """Telegram's HTML, cut at the end of an item."""

    formats: ClassVar = ("telegram",)

    def instant(self, kit: RenderKit, alert: Alert) -> TelegramMessage:
        context = kit.context(alert=kit.views.alert(alert))
        return kit.templates.use("instant.telegram.html", lambda render: _telegram(render(context)))

    def digest(self, kit: RenderKit, digest: DigestContent) -> TelegramMessage:
        teller = kit.views.digest(digest, in_full=ITEMS_IN_FULL)
        return kit.templates.use("digest.telegram.html", lambda render: self._digest(kit, render, teller))

    def show(self, message: Message, _part: str | None) -> str:
        return _as(TelegramMessage, message).text

    def page(self, message: Message, _part: str | None) -> str:
        return page_of(_as(TelegramMessage, message).text)

    @staticmethod
    def _digest(kit: RenderKit, render: Render, teller: DigestTeller) -> TelegramMessage:
        text = largest(
            0,
            len(teller.full.items),
            make=lambda count: render(kit.context(digest=teller.telling(count))),
            fits=_fits_telegram,
        )
        return _telegram(text)


class SmsForm:
    """Plain text, in one segment where that can be; SMS has no digests (SPEC B-6)."""

    formats: ClassVar = ("sms",)

    def instant(self, kit: RenderKit, alert: Alert) -> SmsMessage:
        view = kit.views.alert(alert)
        return kit.templates.use("instant.sms.txt", lambda render: self._in_one_segment(kit, render, view))

    def digest(self, _kit: RenderKit, _digest: DigestContent) -> SmsMessage:
        raise ValueError("there are no SMS digests")

    def show(self, message: Message, _part: str | None) -> str:
        return _as(SmsMessage, message).body

    def page(self, message: Message, _part: str | None) -> str:
        return page_of(escape(_as(SmsMessage, message).body))

    def _in_one_segment(self, kit: RenderKit, render: Render, view: AlertView) -> SmsMessage:
        """First the headline gives way, then the time, then the link; whole if nothing helps."""
        untimed = replace(view, short_time="")
        for shown in (view, untimed, replace(view, link=None), replace(untimed, link=None)):
            message = self._shortened(kit, render, shown)
            if message.segments == 1:
                return message
        return _sms(render(kit.context(alert=view)))

    @staticmethod
    def _shortened(kit: RenderKit, render: Render, view: AlertView) -> SmsMessage:
        longest = utf16_length(view.lead)
        return largest(
            min(_SHORTEST_SMS_LEAD, longest),
            longest,
            make=lambda limit: _sms(render(kit.context(alert=replace(view, lead=cut(view.lead, limit))))),
            fits=lambda message: message.segments == 1,
        )


def page_of(body: str) -> str:
    """A page around ``body``, a piece of HTML whose line breaks are kept."""
    return _PAGE + body


# --- how a rendered text becomes part of a message; each raises TemplateError when it cannot --------------------------


def _subject(text: str) -> str:
    return not_blank(clean(text, SUBJECT_LIMIT))


def _telegram(text: str) -> TelegramMessage:
    if not _fits_telegram(text):
        raise TemplateError("the template renders to more than Telegram takes")
    return TelegramMessage(tidy(text).rstrip())


def _fits_telegram(text: str) -> bool:
    return parsed_length(tidy(text)) <= LONGEST_TEXT


def _sms(text: str) -> SmsMessage:
    message = gsm7.sms(not_blank("\n".join(clean_lines(text, SMS_LIMIT))))
    # Spelling in GSM-7 can lengthen a text ("…" takes three characters).
    return message if len(message.body) <= SMS_LIMIT else gsm7.sms(cut(message.body, SMS_LIMIT, mark="..."))


def _as(kind: type[MessageT], message: Message) -> MessageT:
    if not isinstance(message, kind):
        raise TypeError(f"this form shows {kind.__name__}, not {type(message).__name__}")
    return message
