"""Tries own templates on sample alerts before a user's alert has to (SPEC M-1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from alerts_engine.rendering.reader import Reader
from alerts_engine.rendering.render_kit import ITEMS_IN_FULL
from alerts_engine.rendering.renderer import BUILT_IN_FORMS, Renderer
from alerts_engine.rendering.template_problem import TemplateProblem
from alerts_engine.types import Alert, DigestContent, Period

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_MIDNIGHT = datetime(2022, 9, 2, tzinfo=UTC)
_FULL = Alert(
    event_id=1,
    alert_type="ASSET_RISK_SPIKE",
    scope_region="Europe",
    scope_assets=("gas", "oil"),
    severity=5,
    headline="Gazprom halts Nord Stream 1 indefinitely",
    body="The pipeline stays shut after maintenance.\nDrivers: gas flows, storage.",
    created_at=_MIDNIGHT + timedelta(hours=16),
    value=91.4,
)
_SPARSE = replace(_FULL, alert_type="HIGH_IMPACT_EVENT", scope_region=None, scope_assets=(), body="", value=None)
_ALERTS = tuple(replace(alert, severity=level) for alert in (_FULL, _SPARSE) for level in range(1, 6))
_ITEMS = ((_FULL,), _ALERTS, _ALERTS * ITEMS_IN_FULL)
_READER = Reader("You get this email because you follow Europe: high-impact events.", "https://app.example/a-link")


def check_templates(templates_dir: Path, *, digest_channels: Collection[str]) -> list[TemplateProblem]:
    """What is wrong with the own templates in ``templates_dir``, each problem once; empty when all is well.

    Looks at file names and syntax, and renders sample alerts for every channel, digests for ``digest_channels``.
    """
    # Here, not above: a run with nothing to send must not pay for loading jinja2.
    from alerts_engine.rendering.templating import compile_own, unknown_files

    if not templates_dir.is_dir():
        return [TemplateProblem(str(templates_dir), None, "there is no such folder")]
    problems = [*unknown_files(templates_dir), *compile_own(templates_dir)]
    for app_base_url in ("https://app.example", None):
        renderer = Renderer(
            time_zone="UTC", app_base_url=app_base_url, templates_dir=templates_dir, on_broken=problems.append
        )
        _render_samples(renderer, digest_channels)
    return list(dict.fromkeys(problems))


def _render_samples(renderer: Renderer, digest_channels: Collection[str]) -> None:
    for alert in _ALERTS:
        for channel in BUILT_IN_FORMS:
            renderer.instant(alert, channel)
            renderer.instant(alert, channel, _READER)
    for period in Period:
        for items in _ITEMS:
            digest = DigestContent(period, _MIDNIGHT, _MIDNIGHT + timedelta(days=1), items)
            for channel in BUILT_IN_FORMS.keys() & set(digest_channels):
                renderer.digest(digest, channel, _READER)
