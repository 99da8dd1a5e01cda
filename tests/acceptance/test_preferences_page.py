"""The readers' page in a real browser: on a phone, by keyboard, as a screen reader hears it, without script (U-2)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine.preferences.aiohttp_app import create_app
from alerts_engine.reader_links import ReaderLinks, ReaderToken
from tests.support.browser import SCHEMES, WIDTHS, browser, needs_browser, overflow, unreadable
from tests.support.serving import served
from tests.support.world import add_preference, add_user, prepared, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg
    from playwright.async_api import Page

pytestmark = [pytest.mark.slow, needs_browser]
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


@asynccontextmanager
async def opened(url: str, user: int, **context: Any) -> AsyncIterator[Page]:
    """The page as the link in an email opens it; what the browser complains of ends the test."""
    token = ReaderLinks(SECRET, "https://app.example").token(ReaderToken(user, "email", "HIGH_IMPACT_EVENT"))
    app = create_app(settings(url, link_secret=SECRET, public_base_url="https://app.example"))
    async with served(app) as base, browser() as started:
        page = await (await started.new_context(**context)).new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{base}/alerts/preferences/{token}")
        yield page
        assert [one for one in complaints if "favicon" not in one and "404" not in one] == []


def a_reader(db: psycopg.Connection) -> int:
    user = add_user(db, "pro")
    add_preference(db, user, region="A region with a very long name that does not fit on a phone " + "x" * 90)
    add_preference(db, user, alert_type="REGIONAL_RISK_SPIKE")
    return user


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_the_page_fits_and_can_be_read(db, database_url, width, scheme):
    """At every width, light and dark, with buttons that a thumb hits (SPEC U-2)."""
    window = {"width": width, "height": WIDTHS[width]}
    async with opened(database_url, a_reader(db), viewport=window, color_scheme=scheme) as page:
        for _ in range(2):
            assert await overflow(page) == []
            assert await unreadable(page) == []
            for button in await page.get_by_role("button").all():
                box = await button.bounding_box()
                assert box is not None
                assert box["height"] >= 44
            await page.get_by_role("button", name="Only digests").click() if _ == 0 else None


async def test_everything_works_without_script(db, database_url):
    """Each choice and its way back, by its button (SPEC U-2)."""
    async with opened(database_url, a_reader(db), java_script_enabled=False) as page:
        for label, said in (
            ("Stop high-impact events", "You get no high-impact events by email any more."),
            ("Send me high-impact events again", "You get high-impact events by email again."),
            ("Only digests", "From now on your alerts come in digests."),
            ("Send me alerts at once again", "Your alerts come at once again."),
            ("Nothing by email", "You get nothing by email any more."),
            ("Send me alerts by email again", "You get alerts by email again."),
        ):
            await page.get_by_role("button", name=label, exact=True).click()
            assert await page.get_by_role("status").inner_text() == said
    choices = [row[0] for row in db.execute("SELECT choice FROM alert_consents ORDER BY id")]
    assert choices == [
        "stop_type", "resume_type", "only_digests", "also_at_once", "stop_channel", "resume_channel",
    ]  # fmt: skip


async def test_the_page_works_by_keyboard_alone(db, database_url):
    """Tab goes from button to button, in their order; Enter chooses; where one is can be seen (SPEC U-2)."""
    async with opened(database_url, a_reader(db)) as page:
        seen = []
        for _ in range(3):
            await page.keyboard.press("Tab")
            seen.append(await page.evaluate("document.activeElement.textContent"))
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert seen == ["Stop high-impact events", "Only digests", "Nothing by email"]
        await page.keyboard.press("Enter")
        await page.wait_for_load_state()
        assert await page.get_by_role("status").inner_text() == "You get nothing by email any more."


async def test_a_screen_reader_hears_what_is_what(db, database_url):
    """A language, a title, one main heading, sections with names, buttons with what they mean (SPEC U-2)."""
    async with opened(database_url, a_reader(db)) as page:
        assert await page.locator("html").get_attribute("lang") == "en"
        assert await page.title() == "Your EnergyRiskIQ alerts"
        assert await page.get_by_role("heading", level=1).count() == 1
        for name in ("What you get now", "What you can change"):
            assert await page.get_by_role("region", name=name).count() == 1
        for button in await page.get_by_role("button").all():
            described = await button.get_attribute("aria-describedby")
            assert (await page.locator(f"#{described}").inner_text()).strip()


async def test_a_repeated_post_by_reload_is_once(db, database_url):
    """The browser sends the form again (SPEC U-2)."""
    async with opened(database_url, a_reader(db)) as page:
        await page.get_by_role("button", name="Nothing by email").click()
        await page.reload()
        assert "Nothing by email" in await page.get_by_role("region", name="What you get now").inner_text()
    assert db.execute("SELECT count(*) FROM alert_consents").fetchone()[0] == 1
