"""The command ``preview``: what a message says, before or after it is sent (SPEC section 9).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.options import MOST, Embedded, LogJson, Verbose
from alerts_engine.types import Channel, EmailMessage, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from alerts_engine.operations.preview import Previewed
    from alerts_engine.settings import Settings
    from alerts_engine.types import Message

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>alerts-engine preview</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto; white-space: pre-wrap">"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(preview)


class Format(StrEnum):
    """One form of a message; an email has two."""

    HTML = "html"
    TEXT = "text"
    TELEGRAM = "telegram"
    SMS = "sms"

    @property
    def channel(self) -> Channel:
        """The channel whose messages have this form."""
        return Channel.EMAIL if self in {Format.HTML, Format.TEXT} else Channel(self.value)


def preview(  # noqa: PLR0917 - typer gives them by name
    delivery: Annotated[int | None, typer.Option("--delivery", min=1, max=MOST, help="An instant delivery.")] = None,
    digest: Annotated[int | None, typer.Option("--digest", min=1, max=MOST, help="A digest.")] = None,
    event: Annotated[int | None, typer.Option("--event", min=1, max=MOST, help="An event, on any channel.")] = None,
    channel: Annotated[
        Channel | None, typer.Option("--channel", help="Its own by default; email for an event.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="This alone; by default an email's subject and text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write it there; .html gets an email's HTML.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole message as one JSON object.")] = False,
    log_json: LogJson = False,
    verbose: Verbose = False,
    embedded: Embedded = False,
) -> None:
    """Show a message exactly as it would be sent. Needs no credentials, and sends nothing."""
    ids = {"delivery": delivery, "digest": digest, "event": event}
    kind, number = _only(ids)
    asked = _channel(channel, form, kind)
    with command(Output(as_json, log_json, verbose), tables_in_a_pipe=True) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_find(settings, kind, number))
        from alerts_engine.operations.preview import message_of

        shown_on = asked or found.channel or Channel.EMAIL
        message = message_of(found.content, shown_on, settings)
        written = _write(message, form, output, open_it=open_it)
        if console.as_json:
            console.json({**ids, "channel": shown_on, "message": asdict(message), "file": written and str(written)})
        elif written:
            console.say(str(written))
        else:
            console.say(_text(message, form).removesuffix("\n"))


def _only(ids: dict[str, int | None]) -> tuple[str, int]:
    given = [(kind, number) for kind, number in ids.items() if number is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --delivery, --digest and --event")
    return given[0]


def _channel(channel: Channel | None, form: Format | None, kind: str) -> Channel | None:
    """The channel asked for, by its name or by a form that only it has."""
    if channel is not None and form is not None and form.channel is not channel:
        raise typer.BadParameter(f"--format {form} is not a form of --channel {channel}")
    asked = channel or (form.channel if form else None)
    if kind == "digest" and asked is Channel.SMS:
        raise typer.BadParameter("there are no SMS digests")
    return asked


async def _find(settings: Settings, kind: str, number: int) -> Previewed:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.operations.preview import PreviewKind

    async with AlertsEngine(settings) as engine:
        return await engine.preview(PreviewKind(kind), number)


def _text(message: Message, form: Format | None) -> str:
    """What a form of the message says; without one what its reader sees first, an email's subject included."""
    match message:
        case EmailMessage():
            if form is None:
                return f"Subject: {message.subject}\n\n{message.text}"
            return message.html if form is Format.HTML else message.text
        case TelegramMessage():
            return message.text
        case SmsMessage():
            return message.body
        case _:
            assert_never(message)


def _write(message: Message, form: Format | None, output: Path | None, *, open_it: bool) -> Path | None:
    """Write the message where it shall go, if anywhere, and show that in the browser if there is one."""
    if output is None and not open_it:
        return None
    if form is None and isinstance(message, EmailMessage) and (output is None or output.suffix in {".html", ".htm"}):
        form = Format.HTML
    path = output or _new_page()
    path.write_text(_text(message, form) if output else _page(message, form), encoding="utf-8", newline="")
    if open_it:
        _browse(path)
    return path


def _new_page() -> Path:
    """A file of nobody else: only its owner may read it."""
    import os
    import tempfile

    handle, name = tempfile.mkstemp(prefix="alerts-engine-preview-", suffix=".html")
    os.close(handle)
    return Path(name)


def _page(message: Message, form: Format | None) -> str:
    """The message as a page; what is not HTML keeps its lines."""
    if form is Format.HTML:
        return _text(message, form)
    from html import escape

    text = _text(message, form)
    return _PAGE + (text if isinstance(message, TelegramMessage) else escape(text))


def _browse(path: Path) -> None:
    import webbrowser

    import structlog

    if not webbrowser.open(path.resolve().as_uri()):
        structlog.get_logger("alerts_engine").warning("no_browser", hint=f"open {path} yourself")
