"""The renderer: one alert or digest in, one message of a channel out (SPEC M-1 … M-4)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, assert_never

from alerts_engine.errors import TemplateError
from alerts_engine.rendering import gsm7
from alerts_engine.rendering.cleaning import clean, clean_lines, cut, utf16_length
from alerts_engine.rendering.local_times import LocalTimes
from alerts_engine.rendering.telegram_html import LONGEST_TEXT, parsed_length
from alerts_engine.rendering.views import Views
from alerts_engine.types import Channel, EmailMessage, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from alerts_engine.rendering.template_problem import TemplateProblem
    from alerts_engine.rendering.templating import Context, Render
    from alerts_engine.rendering.views import AlertView, DigestTeller, DigestView
    from alerts_engine.types import Alert, DigestContent, Message

Made = TypeVar("Made")

SUBJECT_LIMIT = 120
SMS_LIMIT = 1600
DIGEST_HTML_BYTES = 100_000
"""Gmail clips an email at 102 kB."""
ITEMS_IN_FULL = 25
_SHORTEST_SMS_LEAD = 40
_BLANK_LINES = re.compile(r"\n{3,}")


class Renderer:
    """Makes messages in ``time_zone`` (IANA name), linked to ``app_base_url``, by the templates of ``templates_dir``.

    Pure: the same input gives the same bytes (SPEC C-12). Build one and keep it: templates are compiled once.
    """

    def __init__(
        self,
        *,
        time_zone: str,
        app_base_url: str | None = None,
        templates_dir: Path | None = None,
        on_broken: Callable[[TemplateProblem], None] | None = None,
    ) -> None:
        """``on_broken`` hears of own templates that fail; by default each file's first failure is logged."""
        # Here, not above: a run with nothing to send must not pay for loading jinja2.
        from alerts_engine.rendering.templating import Templates

        self._views = Views(LocalTimes(time_zone), app_base_url)
        self._templates = Templates(templates_dir, on_broken)

    def instant(self, alert: Alert, channel: Channel) -> Message:
        """The message that tells one alert."""
        view = self._views.alert(alert)
        match channel:
            case Channel.EMAIL:
                context = self._context(alert=view)
                html = self._templates.use("instant.email.html", lambda render: _not_blank(render(context)))
                return self._email("instant", html, context)
            case Channel.TELEGRAM:
                context = self._context(alert=view)
                return self._templates.use("instant.telegram.html", lambda render: _telegram(render(context)))
            case Channel.SMS:
                return self._templates.use("instant.sms.txt", lambda render: self._sms(render, view))
            case _:
                assert_never(channel)

    def digest(self, digest: DigestContent, channel: Channel) -> Message:
        """The message that tells a digest's most important alerts and counts the rest (SPEC M-3).

        :class:`ValueError` for SMS, which has no digests (SPEC B-6), and for a digest without items.
        """
        if not digest.items:
            raise ValueError("a digest without items has no message")
        match channel:
            case Channel.EMAIL:
                return self._digest_email(self._views.digest(digest, in_full=ITEMS_IN_FULL))
            case Channel.TELEGRAM:
                teller = self._views.digest(digest, in_full=ITEMS_IN_FULL)
                return self._templates.use("digest.telegram.html", lambda render: self._digest_telegram(render, teller))
            case Channel.SMS:
                raise ValueError("there are no SMS digests")
            case _:
                assert_never(channel)

    # --- one channel each ----------------------------------------------------------------------------------

    def _email(self, kind: str, html: str, context: Context) -> EmailMessage:
        return EmailMessage(
            subject=self._templates.use(f"{kind}.email.subject.txt", lambda render: _subject(render(context))),
            html=html,
            text=self._templates.use(f"{kind}.email.txt", lambda render: _tidy(render(context))),
        )

    def _digest_email(self, teller: DigestTeller) -> EmailMessage:
        def make(render: Render) -> tuple[int, str]:
            return _largest(
                0,
                len(teller.full.items),
                make=lambda count: (count, _not_blank(render(self._context(digest=teller.telling(count))))),
                fits=lambda told: len(told[1].encode()) <= DIGEST_HTML_BYTES,
            )

        count, html = self._templates.use("digest.email.html", make)
        return self._email("digest", html, self._context(digest=teller.telling(count)))

    def _digest_telegram(self, render: Render, teller: DigestTeller) -> TelegramMessage:
        text = _largest(
            0,
            len(teller.full.items),
            make=lambda count: render(self._context(digest=teller.telling(count))),
            fits=_fits_telegram,
        )
        return _telegram(text)

    def _sms(self, render: Render, view: AlertView) -> SmsMessage:
        """The essential in one segment: first the headline gives way, then the link; whole if neither helps."""
        for shown in (view, replace(view, link=None)) if view.link else (view,):
            message = self._shortened_sms(render, shown)
            if message.segments == 1:
                return message
        return _sms(render(self._context(alert=view)))

    def _shortened_sms(self, render: Render, view: AlertView) -> SmsMessage:
        longest = utf16_length(view.lead)
        return _largest(
            min(_SHORTEST_SMS_LEAD, longest),
            longest,
            make=lambda limit: _sms(render(self._context(alert=replace(view, lead=cut(view.lead, limit))))),
            fits=lambda message: message.segments == 1,
        )

    def _context(self, **views: AlertView | DigestView) -> Context:
        return {**views, "preferences_link": self._views.preferences_link}


def _largest(low: int, high: int, *, make: Callable[[int], Made], fits: Callable[[Made], bool]) -> Made:
    """What ``make`` makes of the largest number up to ``high`` that fits, or of ``low`` when none does."""
    made = make(high)
    if fits(made) or low == high:
        return made
    best = make(low)
    while high - low > 1:
        middle = (low + high) // 2
        made = make(middle)
        if fits(made):
            best, low = made, middle
        else:
            high = middle
    return best


# --- how a rendered text becomes part of a message; each raises TemplateError when it cannot -----------------


def _not_blank(text: str) -> str:
    if not text.strip():
        raise TemplateError("the template renders to nothing")
    return text


def _subject(text: str) -> str:
    return _not_blank(clean(text, SUBJECT_LIMIT))


def _tidy(text: str) -> str:
    """At most one blank line in a row, so that templates can be laid out for their readers."""
    text = _not_blank(text).strip()
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text) + "\n"


def _telegram(text: str) -> TelegramMessage:
    if not _fits_telegram(text):
        raise TemplateError("the template renders to more than Telegram takes")
    return TelegramMessage(_tidy(text).rstrip())


def _fits_telegram(text: str) -> bool:
    return parsed_length(_tidy(text)) <= LONGEST_TEXT


def _sms(text: str) -> SmsMessage:
    message = gsm7.sms(_not_blank("\n".join(clean_lines(text, SMS_LIMIT))))
    # Spelling in GSM-7 can lengthen a text ("…" takes three characters).
    return message if len(message.body) <= SMS_LIMIT else gsm7.sms(cut(message.body, SMS_LIMIT, mark="..."))
