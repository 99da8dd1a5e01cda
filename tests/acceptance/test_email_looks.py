"""The emails in a real browser, as wide as a phone and as a tablet, in light and in dark (SPEC M-1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts_engine.rendering import Renderer
from alerts_engine.types import Alert, Channel, DigestContent, EmailMessage, Period
from tests.support.browser import SCHEMES, WIDTHS, browser, needs_browser, overflow, unreadable

ALERT = Alert(
    event_id=7, alert_type="ASSET_RISK_SPIKE", scope_region="Black Sea", scope_assets=("oil", "freight"), severity=5,
    headline="Black Sea oil risk 93, up from 74 yesterday", body="Drivers: Shelling.\nPrices point up.",
    created_at=datetime(2022, 3, 8, 11, tzinfo=UTC), value=93.1, previous=74.2, what="Black Sea oil risk",
    source="A source with a longish name",
)  # fmt: skip
LONG = replace(ALERT, event_id=8, headline="Unbreakable" * 12, body="word" * 300, scope_region="R" * 40, previous=None)
ITEMS = (*(replace(ALERT, event_id=number, severity=number % 5 + 1) for number in range(40)), LONG)


@needs_browser
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_an_email_is_readable_and_fits_wherever_it_is_opened(scheme: str) -> None:
    """Contrast of WCAG's AA, and nothing stands out of the window (SPEC M-1)."""
    renderer = Renderer(time_zone="Europe/Amsterdam", app_base_url="https://app.example")
    start = ALERT.created_at.replace(hour=0)
    digest = DigestContent(Period.DAILY, start, start + timedelta(days=1), ITEMS, frozenset({1, 2}))
    messages = [
        *(renderer.instant(alert, Channel.EMAIL) for alert in (ALERT, LONG)),
        renderer.digest(digest, Channel.EMAIL),
    ]
    async with browser() as opened:
        for width, height in {320: 560, **WIDTHS}.items():
            page = await opened.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            for message in messages:
                assert isinstance(message, EmailMessage)
                await page.set_content(message.html)
                assert await overflow(page) == [], (width, message.subject)
                assert await unreadable(page) == [], (width, message.subject)
            await page.close()
