"""The commands ``preview`` and ``templates``: what a message says, before or after it is sent (SPEC section 9).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.options import MOST, AsJson, Embedded, LogJson, Verbose
from alerts_engine.types import Channel, EmailMessage, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from alerts_engine.operations.preview import Previewed
    from alerts_engine.settings import Settings
    from alerts_engine.types import Message

templates_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>alerts-engine preview</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto; white-space: pre-wrap">"""


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(preview)
    app.add_typer(templates_app, name="templates")


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


# --- preview --------------------------------------------------------------------------------------------------------


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


# --- templates ------------------------------------------------------------------------------------------------------


@templates_app.callback()
def templates() -> None:
    """Check own templates, or list what there is to replace."""


@templates_app.command("check")
def check_own(as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """Try the templates of ALERTS_TEMPLATES_DIR on samples; exit 1 when one cannot be used."""
    with command(Output(as_json, log_json, verbose)) as (settings, console):
        from alerts_engine.rendering import check_templates

        folder = settings.templates_dir
        problems = check_templates(folder) if folder else []
        if console.as_json:
            console.json({"folder": folder and str(folder), "problems": [asdict(one) for one in problems]})
        elif folder is None:
            console.say("ALERTS_TEMPLATES_DIR is not set: the built-in templates are in use")
        elif problems:
            from alerts_engine.commands.insight_tables import template_problems_table

            console.draw(template_problems_table(str(folder), problems))
        else:
            console.say(f"every template in {folder} can be used")
        if problems:
            raise typer.Exit(1)


@templates_app.command("list")
def list_all(as_json: AsJson = False, log_json: LogJson = False, verbose: Verbose = False) -> None:
    """List the templates that can be replaced, and what they may say."""
    with command(Output(as_json, log_json, verbose)) as (settings, console):
        own = settings.templates_dir
        in_use = {name: "own" if own and (own / name).is_file() else "built-in" for name in _template_names()}
        fields = _view_fields()
        if console.as_json:
            console.json({"templates": in_use, "fields": fields})
        else:
            from alerts_engine.commands.insight_tables import templates_tables

            console.draw(*templates_tables(in_use, fields))


def _template_names() -> list[str]:
    from importlib.resources import files

    return sorted(file.name for file in files("alerts_engine.rendering").joinpath("templates").iterdir())


def _view_fields() -> dict[str, dict[str, str]]:
    """The fields of what templates get, by the name that they have there, or of what stands in one."""
    from dataclasses import fields

    from alerts_engine.rendering.views import AlertView, DigestView, RestView, Tally

    views = {"alert": AlertView, "digest": DigestView, "digest.rest": RestView, "digest.by_severity": Tally}
    told = {name: {field.name: str(field.type) for field in fields(view)} for name, view in views.items()}
    return told | {"everywhere": {"preferences_link": "str | None"}}
