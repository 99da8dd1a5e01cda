"""The dashboard in a real browser, as ``alerts-engine serve`` shows it (SPEC P-4, P-4a)."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from playwright.async_api import expect

from tests.acceptance.conftest import CommandLine, answer_of
from tests.support.admin import TOKEN
from tests.support.browser import SCHEMES, WIDTHS, browser, needs_browser, overflow, unreadable
from tests.support.world import add_delivery, add_event, add_preference, add_user, prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg
    from playwright.async_api import Page

EVERY_VIEW = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
DETAILS_IN = [(375, "light"), (1440, "dark")]
"""What opens beside the overview is the same at every width."""
AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
"""What an event's text or a provider's code may be: data."""
pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


def fill(db: psycopg.Connection) -> dict[str, int]:
    """A bad day: two causes of failure, a queue, runs good and bad; and texts that would like to be more than texts."""
    now = datetime.now(UTC)
    users = [add_user(db, "pro", email=f"user{number}@example.com", telegram=f"10{number}") for number in range(8)]
    for user in users[:4]:
        add_preference(db, user, region="global")
    event = add_event(db, now - timedelta(hours=2), fanned_out=True)
    db.execute("UPDATE alert_events SET headline = %s, scope_region = %s WHERE id = %s", [EVIL, EVIL, event])
    failed = [add_delivery(db, user, event) for user in users]
    db.execute(
        "UPDATE user_alert_deliveries SET status = 'failed', attempts = 5, failure_kind = 'transient',"
        " last_error = CASE WHEN id = %s THEN %s ELSE 'brevo_503' END, ended_at = now() - interval '50 min'",
        [failed[0], f"brevo_{EVIL}"],
    )
    waiting = add_delivery(db, users[0], event, "telegram")
    db.execute(
        "UPDATE user_alert_deliveries SET attempts = 1, last_error = 'timeout', failure_kind = 'transient',"
        " next_retry_at = now() + interval '3 hours' WHERE id = %s",
        [waiting],
    )
    db.execute(
        "INSERT INTO alerts_engine_outcomes (span, hour, source, channel, kind, outcome, retried, made)"
        " SELECT 'hour', date_trunc('hour', now() - make_interval(hours => h)), 'deliveries', c, 'instant', o, false,"
        " 10 + h FROM generate_series(1, 20) AS h, unnest(ARRAY['email', 'telegram']) AS c,"
        " unnest(ARRAY['sent', 'failed']) AS o"
    )
    counts = {
        "b": {
            "events_processed": 3, "users_considered": 24, "deliveries_created": 9, "created_instant": 7,
            "created_digest": 2, "deliveries_skipped_plan": 30, "deliveries_skipped_prefs": 20,
            "deliveries_skipped_missing_dest": 8, "deliveries_skipped_quota": 5,
        },
        "c": {"sent": 12, "failed": 8, "channels_down": {"sms": EVIL}},
    }  # fmt: skip
    for number in range(30):
        run_id, status = uuid4(), "failed" if number == 1 else "success"
        db.execute(
            "INSERT INTO alerts_engine_runs (run_id, triggered_by, phase, started_at, finished_at, duration_ms, status,"
            " counts, error_summary)"
            " VALUES (%s, 'local', 'all', now() - make_interval(mins => %s), now(), 900, %s, %s, %s)",
            [run_id, 3 + 11 * number, status, json.dumps({"warnings": [EVIL]} if number == 2 else {}),
             EVIL if number == 1 else None],
        )  # fmt: skip
        for phase in "abdc":
            db.execute(
                "INSERT INTO alerts_engine_run_items (run_id, phase, status, started_at, finished_at, duration_ms,"
                " counts, error_summary) VALUES (%s, %s, %s, now() - make_interval(mins => %s), now(), 300, %s, %s)",
                [run_id, phase, status, 3 + 11 * number, json.dumps(counts.get(phase, {})),
                 EVIL if number == 1 else None],
            )  # fmt: skip
    return {"event": event, "user": users[0], "failed": failed[1], "waiting": waiting}


@asynccontextmanager
async def serving(shell: CommandLine, **given: str) -> AsyncIterator[str]:
    """The command, as an operator starts it."""
    settings = {"INTERNAL_RUNNER_TOKEN": TOKEN, **given}
    process = await shell.start("serve", "--port", "0", **settings)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):  # it only turns a hang into a failure
            line = (await process.stdout.readline()).decode()
        address = re.search(r"http://\S+", line)
        assert address is not None, (line, await process.stderr.read() if process.stderr else b"")
        yield address[0]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        answer = await answer_of(process)
        assert answer.code == 0, answer.err
        assert TOKEN not in answer.err
        assert "@example.com" not in answer.err


@asynccontextmanager
async def opened(
    address: str, width: int = 1440, scheme: str = "light", token: str | None = TOKEN
) -> AsyncIterator[Page]:
    """The page; nothing may have gone wrong in it, nothing been asked of anybody else, and no text have become more."""
    async with browser() as started:
        context = await started.new_context(
            viewport={"width": width, "height": WIDTHS.get(width, 800)}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = await context.new_page()
        wrong: list[str] = []
        page.on("console", lambda line: wrong.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith(address) else wrong.append(one.url))
        await page.goto(address)
        if token is not None:
            await enter(page, token)
            await page.locator("#overview .status").wait_for()
        yield page
        assert [line for line in wrong if "401" not in line] == []
        assert await page.title() == "alerts-engine"


async def enter(page: Page, token: str) -> None:
    await page.locator("#token").fill(token)
    await page.locator("#token").press("Enter")


async def faults(page: Page) -> list[str]:
    """What axe finds, and what cannot be read or stands out of the window."""
    await page.evaluate(AXE)
    found: list[dict[str, Any]] = await page.evaluate("axe.run().then((result) => result.violations)")
    axe = [f"{one['impact']}: {one['id']}: {[node['html'][:150] for node in one['nodes']][:3]}" for one in found]
    return axe + await overflow(page) + await unreadable(page)


async def opened_part(page: Page, name: str) -> None:
    """Press what says so, and wait for its part."""
    heading = page.locator("#detail-body h2").first
    before = await heading.inner_text()
    await page.locator("#detail-body").get_by_role("button", name=name, exact=True).first.click()
    await expect(heading).not_to_have_text(before)


async def looked_for(page: Page, text: str) -> str:
    """What the search shows."""
    await page.evaluate("document.getElementById('detail').close()")
    await page.locator("#q").fill(text)
    async with page.expect_response("**/dashboard/search"):
        await page.locator("#q").press("Enter")
    await page.locator("#detail-body h2").wait_for()
    return await page.locator("#detail-body").inner_text()


# --- the token --------------------------------------------------------------------------------------------------------


async def test_a_wrong_token_opens_nothing(alerts_engine: CommandLine) -> None:
    """It says so; the right one opens, is kept in this tab alone, and is forgotten on leaving (P-2, P-4)."""
    async with serving(alerts_engine) as address, opened(address, token=None) as page:
        assert await page.locator("#overview").is_visible() is False
        await enter(page, "wrong")
        await page.get_by_text("This token is wrong.").wait_for()
        assert await faults(page) == []
        await enter(page, TOKEN)
        await page.locator("#overview .status").wait_for()
        assert await page.evaluate("[localStorage.length, document.cookie, location.href.includes('token')]") == [
            0,
            "",
            False,
        ]
        assert TOKEN not in await page.content()
        await page.reload()
        await page.locator("#overview .status").wait_for()
        other = await page.context.new_page()
        await other.goto(address)
        assert await other.locator("#token").is_visible()
        await page.get_by_role("button", name="Leave").click()
        assert TOKEN not in await page.evaluate("JSON.stringify(Object.values(sessionStorage))")
        assert await page.locator("#overview .status").count() == 0


async def test_a_token_that_changes_closes_the_page(alerts_engine: CommandLine) -> None:
    """Whatever it showed is gone (P-2)."""
    async with serving(alerts_engine) as address, opened(address) as page:
        await page.evaluate("sessionStorage.setItem(KEY, 'old')")
        await page.evaluate("refresh()")
        await page.get_by_text("This token is wrong.").wait_for()
        assert await page.locator("#overview .status").count() == 0


async def test_without_a_token_on_the_server_there_is_no_page(alerts_engine: CommandLine) -> None:
    """The command says why (P-2)."""
    process = await alerts_engine.start("serve", "--port", "0")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(line.split()[1]) as response:
        assert response.status == 503
    process.send_signal(signal.SIGTERM)
    answer = await answer_of(process)
    assert "INTERNAL_RUNNER_TOKEN" in answer.err


# --- what it looks like -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), EVERY_VIEW)
async def test_everything_fits_and_can_be_read(
    alerts_engine: CommandLine, db: psycopg.Connection, width: int, scheme: str
) -> None:
    """On a phone, a tablet and a desk, light and dark, empty and full; axe finds nothing (P-4)."""
    async with serving(alerts_engine) as address, opened(address, width, scheme) as page:
        assert "there has been no run yet" in await page.locator(".status").inner_text()
        assert await faults(page) == []
        filled = fill(db)
        await page.evaluate("refresh()")
        await page.locator(".causes li").first.wait_for()
        await page.locator("#numbers summary").click()
        assert await faults(page) == []
        for path in () if (width, scheme) not in DETAILS_IN else (
            f"users/{filled['user']}", f"events/{filled['event']}", f"deliveries/{filled['failed']}",
            f"deliveries/{filled['waiting']}", f"explain?user={filled['user']}&event={filled['event']}",
            "causes?cause=brevo_503&channel=email", "runs/last",
        ):  # fmt: skip
            await page.evaluate("path => htmx.ajax('GET', `dashboard/${path}`, { target: '#detail-body' })", path)
            await page.locator("#detail-body h2").wait_for()
            assert await faults(page) == [], path


async def test_texts_are_texts(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """What a page of an event, a run, a code says is shown letter by letter, and runs nothing (P-2)."""
    filled = fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        for path in ("runs/last", f"events/{filled['event']}", f"deliveries/{filled['failed']}"):
            await page.evaluate("path => htmx.ajax('GET', `dashboard/${path}`, { target: '#detail-body' })", path)
            await page.locator("#detail-body h2").wait_for()
        shown = await looked_for(page, "img src")
        assert EVIL in shown
        assert await page.locator("main img, main script, dialog img, dialog script").count() == 0
        found = await page.locator("main").inner_text()
        assert f"brevo_{EVIL}" in found


async def test_nothing_is_served_that_a_policy_forbids(alerts_engine: CommandLine) -> None:
    """A script that somehow got in would not run, nor could the page be framed or sent elsewhere (P-2)."""
    async with serving(alerts_engine) as address, browser() as started:
        page = await started.new_page()
        response = await page.goto(address)
        assert response is not None
        policy = response.headers["content-security-policy"]
        for part in ("default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        ran = await page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            " document.body.append(s); return window.ran; }"
        )
        assert ran is None
        framed = await started.new_page()
        await framed.set_content(f"<iframe src='{address}'></iframe>")
        await framed.wait_for_timeout(500)
        assert [await frame.locator("#token").count() for frame in framed.frames[1:]] == [0]


# --- what it does -----------------------------------------------------------------------------------------------------


async def test_the_overview_says_what_happened(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """How it is, the hours, what is wrong, who gets what, what ran (P-4, P-4a)."""
    fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        figures = await page.locator(".figures > div").all_inner_texts()
        assert [text.split("\n")[0] for text in figures] == [
            "Sent, 24 h", "Failed, 24 h", "Waiting", "Oldest that is due", "Uncertain",
        ]  # fmt: skip
        cause = await page.locator(".causes li", has_text="brevo_503").inner_text()
        assert cause.startswith("7")
        assert "7 users since" in cause
        steps = await page.locator(".steps li").all_inner_texts()
        assert [" ".join(step.split("\n")) for step in steps] == [
            "decisions 2,160", "the plan does not allow it −900", "not wanted −600", "no destination −240",
            "the day's quota is used up −150", "deliveries 270",
        ]  # fmt: skip
        assert await page.locator(".lane").count() == 4
        assert await page.locator(".lane svg rect.failed").count() == 4
        assert await page.locator(".strip svg rect.sent").count() == 40
        assert await page.locator(".strip svg rect.due").count() == 1
        assert await page.locator(".runs tbody tr").count() == 12


async def test_a_failure_is_retried(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """Counted first, done once it is confirmed, and told (P-4, O-5)."""
    fill(db)

    def queued() -> int:
        return db.execute(
            "SELECT count(*) FROM user_alert_deliveries WHERE status = 'queued' AND channel = 'email'"
        ).fetchone()[0]

    async with serving(alerts_engine) as address, opened(address) as page:
        await page.locator(".causes li", has_text="brevo_503").get_by_role("button", name="Retry").click()
        confirm = page.get_by_role("button", name="Queue 7 deliveries again")
        await confirm.wait_for()
        assert queued() == 0
        await page.get_by_role("button", name="Cancel").click()
        assert (await page.locator("#detail").is_visible(), queued()) == (False, 0)
        await page.locator(".causes li", has_text="brevo_503").get_by_role("button", name="Retry").press("Enter")
        await confirm.click()
        await page.get_by_text("7 deliveries queued again").wait_for()
        assert queued() == 7
        await page.get_by_role("button", name="Done").click()
        await page.locator(".causes li", has_text="brevo_503").wait_for(state="detached")


async def test_from_a_cause_to_a_life_and_why(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """What failed, whose, how, and why they get it at all (P-4a, O-6)."""
    filled = fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        await page.locator(".causes li", has_text="brevo_503").get_by_role("button", name="Show").click()
        await opened_part(page, f"delivery {filled['failed']}")
        life = await page.locator("#detail-body").inner_text()
        assert "brevo_503" in life
        assert "retry-failed" in life
        await opened_part(page, "Why does this user get it?")
        assert "email" in await page.locator("#detail-body").inner_text()


async def test_a_cause_has_a_sample(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """One press from a cause to one person's message (P-4a)."""
    fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        await page.locator(".causes li", has_text="timeout").get_by_role("button", name="The newest one").click()
        await page.locator("#detail-body h2", has_text="Delivery").wait_for()
        assert "timeout" in await page.locator("#detail-body").inner_text()


async def test_search_finds_people_and_messages(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """By address, by id; an address never stands in a URL (P-4a, O-3)."""
    filled = fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        urls: list[str] = []
        page.on("request", lambda one: urls.append(one.url))
        assert f"user {filled['user']}" in await looked_for(page, "USER0@example.com")
        assert not any("example.com" in url for url in urls)
        assert f"delivery {filled['waiting']}" in await looked_for(page, str(filled["waiting"]))
        assert "Nothing has this id" in await looked_for(page, "nobody@example.com")
        await looked_for(page, "user0@example.com")
        await opened_part(page, f"user {filled['user']}")
        assert "pro" in await page.locator("#detail-body").inner_text()


async def test_the_keyboard_is_enough(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """/ searches, p pauses, Escape closes, and the focus comes back to where it was (P-4)."""
    fill(db)
    async with serving(alerts_engine) as address, opened(address) as page:
        await page.keyboard.press("p")
        assert await page.locator("#pause").get_attribute("aria-pressed") == "true"
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.id") == "q"
        show = page.locator(".causes li", has_text="brevo_503").get_by_role("button", name="Show")
        await show.focus()
        name = await show.get_attribute("id")
        await page.keyboard.press("Enter")
        await page.locator("#detail-body h2").wait_for()
        assert await page.evaluate("document.getElementById('detail').contains(document.activeElement)")
        await page.keyboard.press("Escape")
        assert await page.locator("#detail").is_visible() is False
        assert await page.evaluate("document.activeElement.id") == name


async def test_it_refreshes_until_it_is_paused(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """Every ten seconds by the browser's clock, which the test turns (P-4)."""
    async with serving(alerts_engine) as address, browser() as started:
        page = await started.new_page()
        await page.clock.install()
        await page.goto(address)
        await enter(page, TOKEN)
        await page.locator("#overview .status").wait_for()
        async with page.expect_response("**/dashboard/overview"):
            await page.clock.fast_forward(10_000)
        await page.get_by_role("button", name="Live").click()
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        await page.clock.fast_forward(60_000)
        assert asked == []
        async with page.expect_response("**/dashboard/overview"):
            await page.get_by_role("button", name="Paused").click()


async def test_a_server_that_is_away_is_said(alerts_engine: CommandLine, db: psycopg.Connection) -> None:
    """What was shown stays, and is called old (P-4)."""
    async with serving(alerts_engine) as address, browser() as started:
        page = await started.new_page()
        await page.goto(address)
        await enter(page, TOKEN)
        await page.locator("#overview .status").wait_for()
        db.execute("ALTER TABLE alerts_engine_runs RENAME TO gone")
        await page.evaluate("refresh()")
        await page.get_by_text("What you see is old").wait_for()
        assert await page.locator("#overview .status").is_visible()
        db.execute("ALTER TABLE gone RENAME TO alerts_engine_runs")
        await page.evaluate("refresh()")
        await page.locator("#trouble").wait_for(state="hidden")
