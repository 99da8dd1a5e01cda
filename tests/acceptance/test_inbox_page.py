"""The sandbox's inbox in a real browser: the demo's messages, live and as a saved page (SPEC F-2)."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import aiohttp
import pytest
from dotenv import dotenv_values

from alerts_engine.sandbox import Credentials, Sandbox, mailbox
from tests.acceptance.conftest import SCRIPT
from tests.support.browser import SCHEMES, WIDTHS, browser, needs_browser, overflow, unreadable
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from playwright.async_api import Page

EVERY_VIEW = [(width, scheme) for width in WIDTHS for scheme in SCHEMES]
pytestmark = [pytest.mark.slow, needs_browser]


@dataclass(frozen=True)
class Inbox:
    """Where the demo's messages are shown."""

    saved: str
    live: str
    sent: int


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    """The demo as its users start it: into a pipe, then on a terminal, where it stays."""
    folder = workshop() / f"inbox-{os.getpid()}"
    folder.mkdir(parents=True)
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    piped = subprocess.run([SCRIPT, "demo", "--json"], cwd=folder, env=environment, capture_output=True, check=True)
    told = json.loads(piped.stdout)
    master, slave = pty.openpty()
    terminal = subprocess.Popen(
        [SCRIPT, "demo"], cwd=folder, env={**environment, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = read_until(master, b"Ctrl-C ends the demo")
    try:
        live = re.search(rb"http://127\.0\.0\.1:\d+", shown)
        assert live is not None, shown
        yield Inbox((folder / told["inbox"]).as_uri(), live[0].decode(), told["totals"]["sent"])
    finally:
        terminal.send_signal(signal.SIGINT)
        read_until(master, b"\0")
        assert terminal.wait() == 0
        os.close(master)
        shutil.rmtree(folder)


def read_until(master: int, end: bytes) -> bytes:
    """What a terminal shows up to there, or to its end."""
    shown = b""
    with suppress(OSError):  # the other end is closed
        while end not in shown:
            shown += os.read(master, 4096)
    return shown


@asynccontextmanager
async def opened(address: str, width: int = 1440, scheme: str = "light") -> AsyncIterator[Page]:
    """A page with all its messages; nothing may have gone wrong in it, and nothing been asked of anybody else."""
    async with browser() as started:
        page = await started.new_page(
            viewport={"width": width, "height": WIDTHS.get(width, 800)}, color_scheme=scheme, reduced_motion="reduce"
        )
        wrong: list[str] = []
        page.on("console", lambda line: wrong.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if belongs(one.url, address) else wrong.append(one.url))
        await page.goto(address)
        await page.locator("[data-complete]").wait_for(state="attached")
        yield page
        assert wrong == []


def belongs(url: str, address: str) -> bool:
    return url.startswith(("data:", "about:srcdoc", address.partition("#")[0]))


async def show(page: Page, address: str) -> None:
    """Go to another place in the page, and wait for the frame of an email."""
    await page.evaluate("place => { location.hash = place }", address)
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    for frame in page.frames[1:]:
        await frame.wait_for_load_state()


async def places(page: Page) -> list[str]:
    """The list itself, the calls, and a message of each kind."""
    first = await page.evaluate("""() => {
        const found = new Map();
        for (const one of state.messages) {
            const kind = `${one.channel} ${severity(one)} ${/digest/i.test(one.subject + one.text)}`;
            if (!found.has(kind)) found.set(kind, String(one.number));
        }
        return [...found.values()];
    }""")
    return ["", "calls", *first]


@pytest.mark.parametrize(("width", "scheme"), EVERY_VIEW)
async def test_everything_fits_and_can_be_read(inbox: Inbox, width: int, scheme: str) -> None:
    """On a phone, a tablet and a desk, light and dark: no sideways scrolling, and contrasts of WCAG's AA."""
    async with opened(inbox.live, width, scheme) as page:
        for place in await places(page):
            await show(page, place)
            assert await overflow(page) == [], place
            assert await unreadable(page) == [], place
        await show(page, "")
        await page.locator(".item >> visible=true").nth(3).hover()
        assert await unreadable(page) == []


@pytest.mark.parametrize("where", ["live", "saved"])
@pytest.mark.parametrize("width", [768, 1440])
async def test_it_opens_on_the_newest_of_the_most_severe(inbox: Inbox, where: str, width: int) -> None:
    """The first thing that somebody sees is worth seeing."""
    async with opened(getattr(inbox, where), width) as page:
        chosen = await page.evaluate("location.hash.slice(1)")
        best = await page.evaluate("""() => {
            const email = state.messages.filter((one) => /^\\[Critical\\]|\\b\\d+ critical\\b/.test(one.subject ?? ""));
            return String(Math.max(...email.map((one) => one.number)));
        }""")
        assert chosen == best
        text = await page.frame_locator("iframe").locator("body").inner_text()
        assert "Critical" in text
        assert await page.locator(".item[aria-current=true]").is_visible()


@pytest.mark.parametrize("where", ["live", "saved"])
async def test_a_phone_shows_the_list_first(inbox: Inbox, where: str) -> None:
    """A message fills the screen once it is chosen, and there is a way back."""
    async with opened(getattr(inbox, where), 375) as page:
        assert await page.locator(".list").is_visible()
        await page.locator(".item").first.click()
        assert not await page.locator(".list").is_visible()
        await page.locator(".back").click()
        assert await page.locator(".list").is_visible()


@pytest.mark.parametrize("where", ["live", "saved"])
@pytest.mark.parametrize("width", [375, 1440])
async def test_every_message_can_be_reached(inbox: Inbox, where: str, width: int) -> None:
    """All of them are counted and listed, down to the first one."""
    assert inbox.sent > 500, "more than the page loads at once"
    async with opened(getattr(inbox, where), width) as page:
        assert (await page.locator("#count").inner_text()).startswith(f"{inbox.sent} messages")
        assert await page.locator("#tabs button").first.inner_text() == f"All {inbox.sent}"
        async with asyncio.timeout(60):  # it only turns a hang into a failure
            while await page.locator("#more").count():
                await page.evaluate("list.scrollTop = list.scrollHeight")
        rows = await page.locator(".item").evaluate_all("items => items.map((one) => one.hash.slice(1))")
        assert rows == [str(number) for number in range(inbox.sent, 0, -1)]
        await page.locator('.item[href="#1"]').click()
        assert await page.locator(".view").inner_text() != ""
        shown = await page.evaluate("chosen().number")
        assert shown == 1


@pytest.mark.parametrize("width", [375, 1440])
async def test_a_chats_name_stays_in_sight(inbox: Inbox, width: int) -> None:
    """However far its thread is scrolled, one sees whose it is."""
    async with opened(inbox.live, width) as page:
        last = await page.evaluate("String(state.messages.findLast((one) => one.channel === 'sms').number)")
        await show(page, last)
        await page.evaluate("view.scrollTop = 300")
        box = await page.locator(".chat > header").bounding_box()
        above = await page.locator(".back" if width == 375 else ".top").bounding_box()
        assert box is not None
        assert above is not None
        assert box["y"] >= above["y"] + above["height"] - 1


async def test_messages_have_their_buttons(inbox: Inbox) -> None:
    """They lead into the application, at a name that is reserved for examples."""
    async with opened(inbox.live) as page:
        button = page.frame_locator("iframe").get_by_role("link", name="View in app").first
        assert (await button.get_attribute("href") or "").startswith("https://app.example.com/alerts/")


# --- a sandbox of one's own -----------------------------------------------------------------------------------------


async def send(sandbox: Sandbox, texts: Iterable[str], chat: int = 42) -> None:
    """Telegram messages, one after the other."""
    path = f"/bot{Credentials().telegram_bot_token}/sendMessage"
    async with aiohttp.ClientSession(sandbox.url) as http:
        for text in texts:
            async with http.post(path, json={"chat_id": chat, "text": text}) as answer:
                assert answer.status == 200


async def look_again(page: Page) -> None:
    """What the page does every three seconds."""
    await page.evaluate("refresh()")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_an_empty_inbox_says_how_to_fill_it(width: int, scheme: str) -> None:
    """With the keys that this sandbox takes, to be pasted into a file."""
    chosen = Credentials(telegram_bot_token="77:mine")
    async with Sandbox.start(credentials=chosen) as sandbox, opened(sandbox.url, width, scheme) as page:
        setup = (await page.locator(".setup pre").inner_text()).splitlines()
        assert dotenv_values(stream=StringIO("\n".join(setup))) == sandbox.settings
        assert await overflow(page) == []
        assert await unreadable(page) == []
        await page.locator("#tabs button", has_text="Calls").click()
        assert await overflow(page) == []
        assert await unreadable(page) == []


async def test_a_long_history_is_loaded_piece_by_piece_and_nothing_is_missing() -> None:
    """The newest 2,000 come at once, and the others as somebody goes on; the count says so."""
    async with Sandbox.start() as sandbox:
        await send(sandbox, (f"Message {number}" for number in range(1, 2651)))
        async with opened(sandbox.url) as page:
            count = page.locator("#count")
            assert await count.inner_text() == "2,000 messages · 650 older ones are not loaded yet"
            assert await page.locator("#tabs button").first.inner_text() == "All 2,650"
            async with asyncio.timeout(120):  # it only turns a hang into a failure
                while await page.locator("#more").count():
                    await page.evaluate("list.scrollTop = list.scrollHeight")
            assert await count.inner_text() == "2,650 messages"
            await page.locator("#search").fill("message 17")
            fitting = [number for number in range(2650, 0, -1) if str(number).startswith("17")]
            assert await count.inner_text() == f"{len(fitting)} of 2,650 messages"


async def test_what_comes_later_appears_and_what_is_read_stays() -> None:
    """More than a page of news at once leaves no gap, and the open message stays open."""
    async with Sandbox.start() as sandbox:
        await send(sandbox, ["🔴 Critical · Europe", "🟡 Elevated · Asia"])
        async with opened(sandbox.url) as page:
            assert await page.evaluate("chosen().number") == 1
            await send(sandbox, (f"Message {number}" for number in range(3, 1203)))
            await look_again(page)
            assert await page.evaluate("state.messages.map((one) => one.number)") == list(range(1202, 0, -1))
            assert await page.locator("#count").inner_text() == "1,202 messages"
            assert await page.evaluate("chosen().number") == 1


async def test_what_is_gone_from_the_sandbox_goes_from_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it made room for newer ones, or somebody dropped it all."""
    monkeypatch.setattr(mailbox, "KEPT", 5)
    async with Sandbox.start() as sandbox:
        await send(sandbox, ["one", "two", "three"])
        async with opened(sandbox.url) as page:
            await send(sandbox, ["four", "five", "six", "seven"])
            await look_again(page)
            assert await page.evaluate("state.messages.map((one) => one.number)") == [7, 6, 5, 4, 3]
            assert await page.locator("#count").inner_text() == "5 messages · 2 made room for newer ones"
            sandbox.clear()
            await send(sandbox, ["eight"])
            await look_again(page)
            assert await page.evaluate("state.messages.map((one) => one.number)") == [8]
            sandbox.clear()
            await look_again(page)
            assert await page.locator(".empty h2").inner_text() == "No messages yet"


async def test_severity_is_what_a_message_says_of_itself() -> None:
    """In the words of the engine's own templates; a text of somebody else's has none."""
    said = {
        "🔴 Critical · Europe: Pipeline shut": 5, "EnergyRiskIQ CRITICAL - Europe: pipeline shut": 5,
        "4 alerts, 1 critical": 5,
        "Daily digest: 2 high alerts": 4, "🟡 Elevated": 3, "MODERATE Storm": 2, "⚪ Low · Asia": 1,
        "High winds stop the port": 0, "Hello": 0, "A critical mind": 0, "Pipeline shut\n3 critical": 0,
    }  # fmt: skip
    async with Sandbox.start() as sandbox:
        await send(sandbox, said)
        async with opened(sandbox.url) as page:
            found = await page.evaluate("Object.fromEntries(state.messages.map((one) => [one.text, severity(one)]))")
            assert found == said
            await page.locator("#severity").select_option("5")
            assert await page.locator("#count").inner_text() == f"3 of {len(said)} messages"


async def test_the_list_shows_an_email_as_mail_programs_do() -> None:
    """Its subject, and the beginning that is hidden in it for the list; without one the text."""
    hidden = '<div style="display:none;max-height:0">Drivers: a &amp; b&#8199;&#847; &#8199;&#847; </div><p>Body</p>'
    made = {"with": hidden, "without": "<p>Body</p>", "textless": None}
    async with Sandbox.start() as sandbox, opened(sandbox.url) as page:
        shown = await page.evaluate(
            """(made) => Object.entries(made).map(([subject, html]) => {
                const message = { number: 1, channel: "email", destination: "a", subject, html, text: "First\\nSecond"};
                return row({ ...message, received_at: "2022-03-08" }, false).querySelector(".more").textContent;
            })""",
            made,
        )
    assert shown == ["Drivers: a & b", "First Second", "First Second"]
