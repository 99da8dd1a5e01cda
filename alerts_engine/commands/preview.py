"""The command ``preview``: what a message says, before or after it is sent (SPEC section 9).

A command imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alerts_engine.commands.frame import Output, command, database_settings, run_loop
from alerts_engine.commands.help_text import BROKE, epilog
from alerts_engine.commands.options import MOST, Embedded, LogJson, Verbose
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from alerts_engine.operations.preview import Previewed
    from alerts_engine.rendering.forms import MessageForm
    from alerts_engine.settings import Settings
    from alerts_engine.types import Message


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog=epilog(
            "preview --delivery 12 --format html",
            "preview --event 5 --channel sms",
            "preview --digest 3 --output digest.html",
            failed=f"there is no such row, {BROKE}",
        )
    )(preview)


def preview(  # noqa: PLR0917 - typer gives them by name
    delivery: Annotated[int | None, typer.Option("--delivery", min=1, max=MOST, help="An instant delivery.")] = None,
    digest: Annotated[int | None, typer.Option("--digest", min=1, max=MOST, help="A digest.")] = None,
    event: Annotated[int | None, typer.Option("--event", min=1, max=MOST, help="An event, on any channel.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="email, telegram, sms or a custom one; its own by default.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="html or text of an email, telegram, sms: this part alone.")
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
    with command(Output(as_json, log_json, verbose)) as (given, console):
        with database_settings(given, embedded=embedded) as settings:
            found = run_loop(_find(settings, kind, number))
        from alerts_engine.channels import channels
        from alerts_engine.operations.preview import message_of

        shown_on = asked or found.channel or Channel.EMAIL
        message = message_of(found, shown_on, settings)
        shown = channels()[shown_on].form
        written = _write(shown, message, form, output, open_it=open_it)
        if console.as_json:
            console.json({**ids, "channel": shown_on, "message": message, "file": written})
        elif written:
            console.say(str(written))
        else:
            console.hand_over(shown.show(message, form).removesuffix("\n"))


def _only(ids: dict[str, int | None]) -> tuple[str, int]:
    given = [(kind, number) for kind, number in ids.items() if number is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one of --delivery, --digest and --event")
    return given[0]


def _channel(channel: str | None, form: str | None, kind: str) -> str | None:
    """The channel asked for, by its name or by a format that only it has."""
    from alerts_engine.channels import channels

    if channel is not None and channel not in channels():
        raise typer.BadParameter(f"--channel {channel} is none of {', '.join(channels())}")
    having = [name for name, spec in channels().items() if form is None or form in spec.form.formats]
    if not having:
        raise typer.BadParameter(f"no channel has the format {form}")
    if channel is not None and channel not in having:
        raise typer.BadParameter(f"--format {form} is not a format of --channel {channel}")
    asked = channel or (having[0] if form else None)
    if kind == "digest" and asked is not None and not channels()[asked].has_digests:
        raise typer.BadParameter(f"there are no {channels()[asked].title} digests")
    return asked


async def _find(settings: Settings, kind: str, number: int) -> Previewed:
    from alerts_engine.engine import AlertsEngine
    from alerts_engine.operations.preview import PreviewKind

    async with AlertsEngine(settings) as engine:
        return await engine.preview(PreviewKind(kind), number)


def _write(
    shown: MessageForm, message: Message, form: str | None, output: Path | None, *, open_it: bool
) -> Path | None:
    """Write the message where it should go, if anywhere, and show that in the browser if there is one."""
    if output is None and not open_it:
        return None
    path = output or _new_page()
    if output is None or (form is None and output.suffix in {".html", ".htm"}):
        text = shown.page(message, form)
    else:
        text = shown.show(message, form)
    path.write_text(text, encoding="utf-8", newline="")
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


def _browse(path: Path) -> None:
    import webbrowser

    import structlog

    if not webbrowser.open(path.resolve().as_uri()):
        structlog.get_logger("alerts_engine").warning("no_browser", hint=f"open {path} yourself")
