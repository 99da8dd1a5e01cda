"""Every message of the demo, read as its readers would: in a list, in five seconds (SPEC section 9)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine.rendering.telegram_html import parsed_length
from tests.acceptance.conftest import CommandLine
from tests.support.email_clients import WITHOUT, missing
from tests.support.places import workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

INNER_WORDS = re.compile(
    r"spike|_|fingerprint|payload|threshold|cooldown|phase|\bnull\b|\bNone\b|direction|trend\b|index of|index at|"
    r"a day or more|rose to|climb|jump|surge|drop|declin|ris(?:e|ing)\b|\bfell\b|in Global|of Global|risk in ",
    re.IGNORECASE,
)
"""A rule's own words, and other words for up and down than the ones that all messages use."""
VALUE = re.compile(
    r"(?P<what>[A-Z][\w ]+? (?:risk|risk index)) (?:at |rises to )?(?P<score>\d+)"
    r"(?P<change>, (?:still (?:high|elevated), )?(?:up|down) from (?P<before>\d+) "
    r"(?:yesterday|the day before|a day ago|a day before|on [\w ]+)"
    r"|, from \d+ at \d\d:\d\d|, little changed since (?:yesterday|the day before|[\w ]+)|, rising|)"
)
WORDS = ("Low", "Moderate", "Elevated", "High", "Critical")


@pytest.fixture(scope="module")
def inbox() -> Iterator[list[dict[str, Any]]]:
    """What the sandbox got from one demo."""
    folder = workshop() / f"demo-messages-{os.getpid()}"
    folder.mkdir(parents=True)
    yield asyncio.run(demo_messages(CommandLine(folder)))
    shutil.rmtree(folder)


async def demo_messages(folder: CommandLine) -> list[dict[str, Any]]:
    answer = await folder("demo", "--json")
    assert answer.code == 0, answer.err
    page = (folder.folder / answer.json["inbox"]).read_text()
    found = re.search(r"const MESSAGES = (\[.*?\]), ATTEMPTS = ", page)
    assert found is not None
    messages: list[dict[str, Any]] = json.loads(found[1])
    assert {message["channel"] for message in messages} == {"email", "telegram", "sms"}
    return messages


def of(inbox: list[dict[str, Any]], channel: str) -> list[dict[str, Any]]:
    return [message for message in inbox if message["channel"] == channel]


def is_digest(message: dict[str, Any]) -> bool:
    return re.match(r"(?:Daily|Hourly) digest: |New alerts: ", message["text"]) is not None


def own_words(text: str) -> str:
    """What the engine wrote: without links, and without the names of the sample's events."""
    return re.sub(r"https?://\S+|^Drivers: .*$", "", text, flags=re.MULTILINE)


@pytest.mark.slow
def test_no_message_uses_an_inner_word_or_another_word_for_up_and_down(inbox):
    """One vocabulary (SPEC M-3a)."""
    for message in inbox:
        said = own_words(f"{message['subject'] or ''}\n{message['text']}")
        found = INNER_WORDS.findall(said.replace("the news is how fast it rose", ""))
        assert found in ([], ["index at"]), (found, said)


@pytest.mark.slow
def test_a_list_of_emails_says_severity_place_value_and_change(inbox):
    """On one line of 80 characters, of a digest after its date and count; the number once (SPEC M-3a)."""
    for message in of(inbox, "email"):
        subject = message["subject"]
        assert len(subject) <= 100
        assert any(word in subject for word in (*WORDS, *(word.lower() for word in WORDS)))
        value = VALUE.search(subject)
        if "risk" in subject:
            assert value is not None, subject
            assert subject.endswith(value[0])
            assert is_digest(message) or len(subject) <= 80
        if is_digest(message):
            date = (
                "" if message["text"].startswith("New alerts") else r"\d{1,2} [A-Z][a-z]{2}(?: \d\d:\d\d–\d\d:\d\d)?, "
            )
            assert re.match(rf"{date}\d+ ", subject), subject
            assert "yesterday" not in message["text"] or not message["text"].startswith("Daily digest")


@pytest.mark.slow
def test_a_number_is_said_once(inbox):
    """The value in the headline, and nowhere else (SPEC M-3a)."""
    looked_at = 0
    for message in inbox:
        said = re.sub(r"https?://\S+|\d+ [A-Z][a-z]{2}\b.*?C?ET\b(?: \(UTC\+1\))?|Severity \d", "", message["text"])
        value = VALUE.search(said)
        if value is None or is_digest(message):
            continue
        looked_at += 1
        assert re.findall(rf"(?<![\w.]){value['score']}(?![\w]|\.\d)", said) == [value["score"]], said
        assert said.count(value["what"]) == 1, said
    assert looked_at > 100


@pytest.mark.slow
def test_what_fell_is_never_said_to_be_up(inbox):
    """The words are the numbers' own (SPEC A-2)."""
    changes = set()
    for message in inbox:
        for value in VALUE.finditer(message["text"]):
            if value["before"]:
                up = int(value["score"]) > int(value["before"])
                changes.add(up)
                assert ("up from" in value["change"]) == up
                assert ("still " in value["change"]) == (not up)
                assert ("still elevated" in value["change"]) == (not up and int(value["score"]) < 80)
    assert changes == {True, False}


@pytest.mark.slow
def test_every_email_says_why_it_came_and_how_to_stop(inbox):
    """In words, with the reader's own link (SPEC M-3b)."""
    for message in of(inbox, "email"):
        footer = message["text"].rpartition("\n--\n")[2]
        why, way_out = footer.splitlines()
        assert re.fullmatch(r"You get this email because you (?:follow|have not chosen) .+\.", why), why
        link = way_out.removeprefix("Unsubscribe or change what you get: ")
        assert link.startswith("https://alerts.example.com/"), way_out
        assert f'href="{link}"' in message["html"]
        assert why.replace("'", "&#39;") in message["html"]


@pytest.mark.slow
def test_an_sms_has_sender_news_time_and_link_in_one_segment(inbox):
    """In GSM-7 (SPEC M-2)."""
    for message in of(inbox, "sms"):
        assert message["segments"] == 1
        assert re.fullmatch(
            r"EnergyRiskIQ (?:ELEVATED|HIGH|CRITICAL) - .+\. \d+ \w{3}, \d\d:\d\d CET https://app\.example\.com/alerts/\d+",
            message["text"],
        ), message["text"]
        assert len(message["text"]) <= 160


@pytest.mark.slow
def test_every_message_has_a_size_that_its_channel_shows_whole(inbox):
    """Below where Gmail cuts, and where Telegram refuses (SPEC M-2, M-3a)."""
    for message in of(inbox, "email"):
        assert len(message["html"].encode()) < 90_000
    for message in of(inbox, "telegram"):
        assert 0 < parsed_length(message["html"]) <= 4096


@pytest.mark.slow
def test_every_email_is_made_of_what_mail_programs_show(inbox):
    """By published tests (SPEC M-1)."""
    for html in {re.sub(r"\d+", "0", message["html"]): message["html"] for message in of(inbox, "email")}.values():
        assert missing(html, accepted=WITHOUT) == []
