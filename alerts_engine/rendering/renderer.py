"""The renderer: one alert or digest in, one message of a channel out (SPEC M-1 … M-4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from alerts_engine.rendering.forms import EmailForm, MessageForm, SmsForm, TelegramForm
from alerts_engine.rendering.local_times import LocalTimes
from alerts_engine.rendering.reader import NOBODY, Reader
from alerts_engine.rendering.render_kit import RenderKit
from alerts_engine.rendering.views import Views
from alerts_engine.types import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from alerts_engine.rendering.template_problem import TemplateProblem
    from alerts_engine.types import Alert, DigestContent, Message

BUILT_IN_FORMS: Mapping[str, MessageForm] = {
    Channel.EMAIL: EmailForm(),
    Channel.TELEGRAM: TelegramForm(),
    Channel.SMS: SmsForm(),
}
"""The forms for which the package has templates."""


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
        forms: Mapping[str, MessageForm] = BUILT_IN_FORMS,
        on_broken: Callable[[TemplateProblem], None] | None = None,
    ) -> None:
        """``forms``: each channel's. ``on_broken`` hears of custom templates that fail; by default they are logged."""
        # Here, not above: a run with nothing to send must not pay for loading jinja2.
        from alerts_engine.rendering.templating import Templates

        self._forms = forms
        self._kit = RenderKit(Views(LocalTimes(time_zone), app_base_url), Templates(templates_dir, on_broken))

    def instant(self, alert: Alert, channel: str, reader: Reader = NOBODY) -> Message:
        """The message that tells one alert; with the link of any ``reader``, until it is made personal."""
        return self._forms[channel].instant(self._for(reader), alert)

    def digest(self, digest: DigestContent, channel: str, reader: Reader = NOBODY) -> Message:
        """The message that tells a digest's most important alerts and counts the rest (SPEC M-3).

        :class:`ValueError` for SMS, which has no digests (SPEC B-6), and for a digest without items.
        """
        if not digest.items:
            raise ValueError("a digest without items has no message")
        return self._forms[channel].digest(self._for(reader), digest)

    def _for(self, reader: Reader) -> RenderKit:
        return self._kit if reader is NOBODY else replace(self._kit, reader=reader)
