"""The page that GitHub shows below a job (SPEC R-4), read as GitHub would render it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from alerts_engine.locks import PHASE_KEYS
from alerts_engine.sandbox import Fault
from alerts_engine.types import Phase
from tests.acceptance.conftest import add_news

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import CommandLine

SHA = "0123456789abcdef0123456789abcdef01234567"
ON_GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "schedule",
    "GITHUB_SHA": SHA,
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "someone/some.thing",
}


def rendered(markdown: str) -> str:
    """As GitHub does: tables, and no HTML but line breaks."""
    html = str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    assert not re.sub(r"</?(h3|p|table|thead|tbody|tr|th|td|br|strong|code|ul|li|a)\b[^>]*>", "", html).count("<"), html
    return html


def rows(html: str) -> list[list[str]]:
    found = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found]


@dataclass(frozen=True, slots=True)
class Page:
    """GitHub's file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def html(self) -> str:
        return rendered(self.text)

    def begin_with(self, text: str) -> None:
        self.path.write_text(text, "utf-8")

    def __str__(self) -> str:
        return str(self.path)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path / "step-summary.md")


async def test_run_writes_what_it_did_by_channel(
    sending: CommandLine, postgresql: psycopg.Connection, sandbox: Sandbox, page: Page
):
    """What ran, what came of it by channel, what waits, and the commit, behind what the file had (R-4)."""
    add_news(postgresql, users=4)
    postgresql.execute("INSERT INTO user_notification_settings (user_id, digest_only) VALUES (1, TRUE)")
    postgresql.commit()
    sandbox.faults.add(Fault(destination="user2@example.com", status=400, code="invalid_parameter"))
    sandbox.faults.add(Fault(destination="user3@example.com", status=500))
    page.begin_with("before\n")
    answer = await sending("run", "--json", GITHUB_STEP_SUMMARY=str(page), **ON_GITHUB)
    text = page.text
    html = page.html
    assert answer.code == 0
    assert text.startswith("before\n")
    assert f'<a href="https://github.com/someone/some.thing/commit/{SHA}"><code>01234567</code></a>' in html
    assert "GitHub, scheduled" in html
    by_channel = answer.phase("c")["counts"]["by_channel"]["email"]
    head, row = next((a, b) for a, b in zip(rows(html), rows(html)[1:], strict=False) if a[0] == "sent by")
    assert row[0] == "email"
    assert dict(zip(head[1:], map(int, row[1:]), strict=True)) == {
        name.replace("_", " "): number for name, number in by_channel.items()
    }
    assert (by_channel["sent"], by_channel["failed"], by_channel["retried"]) == (1, 1, 1)
    assert "1 digest queued, 0 digests sent" in html
    assert "no alert is due" in html


async def test_oldest_waiting_counts_what_is_due(alerts_engine: CommandLine, postgresql: psycopg.Connection):
    """Not what waits for its retry, its window or an operator (O-4); a digest counts from the moment it is due."""
    add_news(postgresql, users=4)
    assert (await alerts_engine("run", "--phase", "a")).code == 0
    assert (await alerts_engine("run", "--phase", "b")).code == 0
    for user, change in enumerate(
        (
            "created_at = now() - interval '90 minutes'",
            "created_at = now() - interval '2 days', next_retry_at = now() + interval '1 hour'",
            "created_at = now() - interval '3 days', next_retry_at = 'infinity'",
            "created_at = now() - interval '4 days', next_retry_at = now() - interval '20 minutes'",
        ),
        start=1,
    ):
        postgresql.execute(f"UPDATE user_alert_deliveries SET {change} WHERE user_id = %s", [user])  # type: ignore[arg-type]
    postgresql.execute(
        "INSERT INTO user_alert_digests (user_id, channel, period, window_start, window_end, digest_key, next_retry_at)"
        " SELECT 1, 'email', 'daily', now(), now() + interval '1 day', n::text, now() - make_interval(mins => n)"
        "   FROM unnest(ARRAY[-30, 11, 3]) AS n"
    )
    postgresql.commit()
    queue = (await alerts_engine("summary", "--json")).json["queue"]
    assert (round(queue["oldest_delivery_minutes"]), round(queue["oldest_digest_minutes"])) == (90, 11)
    assert queue["digests_queued"] == 3
    said = (await alerts_engine("summary")).out
    assert "alert has waited for 1 h 30 min, the oldest due digest has waited for 11 min, 3 digests queued" in said


async def test_summary_of_a_recorded_run_is_the_one_that_the_run_wrote(
    sending: CommandLine, postgresql: psycopg.Connection, page: Page
):
    """By ``last``, by its id and by its first characters: the same text, but for what the queue is now."""
    add_news(postgresql, users=2)
    run_id = (await sending("run", "--json", GITHUB_STEP_SUMMARY=str(page), **ON_GITHUB)).json["run_id"]
    written = page.text.rstrip("\n")
    for arguments in ([], ["--run", run_id], ["--run", run_id[:10]]):
        answer = await sending("summary", *arguments, **ON_GITHUB)
        # What the history keeps of the times is rounded by the database's clock, not by ours.
        untimed = [re.sub(r"started \S+ \S+ UTC|took [\d.]+ m?s|[\d.]+ m?s", "", one) for one in (answer.out, written)]
        assert (answer.code, untimed[0].rstrip("\n")) == (0, untimed[1])
    assert (await sending("summary", "--run", "zebra")).code == 2


async def test_what_went_wrong_says_what_to_do(
    sending: CommandLine, postgresql: psycopg.Connection, sandbox: Sandbox, page: Page
):
    """A cap, a channel that is down, a held lock and a misspelt variable, each with its remedy (R-4, CLI-6c)."""
    add_news(postgresql, users=3)
    assert (await sending("run", "--phase", "a")).code == 0
    assert (await sending("run", "--phase", "b")).code == 0
    postgresql.execute("SELECT pg_advisory_lock(%s)", [PHASE_KEYS[Phase.A]])
    capped = await sending(
        "run", GITHUB_STEP_SUMMARY=str(page), ALERTS_MAX_SEND_PER_RUN="1", ALERTS_MAX_ATEMPTS="3", **ON_GITHUB
    )
    html = page.html
    assert capped.code == 0
    assert "ALERTS_MAX_SEND_PER_RUN is reached (the next run goes on in order" in html
    assert "do you mean ALERTS_MAX_ATTEMPTS?" in html
    assert "another run holds its lock" in html
    page.begin_with("")
    sandbox.faults.add(Fault(provider="brevo", status=401, code="unauthorized"))
    failed = await sending("run", "--phase", "c", GITHUB_STEP_SUMMARY=str(page))
    html = page.html
    assert failed.code == 1
    assert "❌ alerts-engine: failed" in html
    assert "look at the key" in html


async def test_a_dry_run_says_so_and_counts_what_it_would_send(
    sending: CommandLine, postgresql: psycopg.Connection, page: Page
):
    """By channel, alerts and digests (X-1)."""
    add_news(postgresql, users=3)
    assert (await sending("run", "--dry-run", GITHUB_STEP_SUMMARY=str(page))).code == 0
    html = page.html
    assert "A dry run" in html
    assert ["email", "3", "0"] in rows(html)


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["run"], {"DATABASE_URL": "postgresql://engine:very-secret-word@127.0.0.1:1/alerts"}, "127.0.0.1"),
        (["run"], {}, "DATABASE_URL is not set"),
        (["preflight"], {"ALERTS_TIMEZONE": "Mars"}, "ALERTS_TIMEZONE must be"),
    ],
)
async def test_what_keeps_a_run_from_beginning_is_on_the_page(
    alone: CommandLine, page: Page, arguments: list[str], settings: dict[str, str], words: str
):
    """Without a run there is still a page, and no password on it (O-3)."""
    answer = await alone(*arguments, GITHUB_STEP_SUMMARY=str(page), **settings)
    html = page.html
    assert answer.code == 1
    assert words in html
    assert "very-secret-word" not in html


async def test_somebody_elses_text_is_no_markup(alerts_engine: CommandLine, tmp_path: Path, page: Page):
    """What a rule says in its error is text: no tag, no link, no further column (M-4)."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.sql").write_text("SELECT '<img src=x>|[x](https://evil.example)`*' :: int AS n")
    answer = await alerts_engine("run", "--phase", "a", ALERTS_RULES_DIR=str(folder), GITHUB_STEP_SUMMARY=str(page))
    html = page.html
    assert answer.code == 1
    assert "evil.example" not in re.sub(r"<li>.*?</li>|<td>.*?</td>", "", html)
    assert not re.search(r"<(img|a|em)\b", html)
    assert {len(row) for row in rows(html)} == {4}


async def test_a_page_that_cannot_be_written_fails_no_run(alerts_engine: CommandLine, tmp_path: Path):
    """A warning, and the run's own exit code."""
    answer = await alerts_engine("run", "--json", "--phase", "a", GITHUB_STEP_SUMMARY=str(tmp_path / "no" / "such"))
    assert answer.code == 0
    assert "summary_not_written" in answer.err
