"""The commands that let people look inside: explain, rules, preview, templates (SPEC section 3, B-9, A-1, M-1)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from alerts_engine.types import Phase
from tests.acceptance.conftest import add_news, fingerprints

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.sandbox import Sandbox
    from tests.acceptance.conftest import Answer, CommandLine

RULE = """
-- Wind drops over the North Sea.
SELECT 'WIND_LULL' AS alert_type, 'Europe' AS scope_region, '{}'::text[] AS scope_assets, 3 AS severity,
       'Wind drops' AS headline, 'Little wind until Friday.' AS body, '{}'::int4[] AS driver_event_ids,
       name AS cooldown_key, name AS event_fingerprint, NULL::jsonb AS payload
  FROM (VALUES ('WIND_LULL:1'), ('WIND_LULL:2')) AS found(name)
"""


def assert_one_line(answer: Answer, *words: str) -> None:
    """An error is one line on stderr that says these words, and exit 1."""
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for word in words:
        assert word in answer.err


@pytest.fixture
async def fanned_out(alerts_engine: CommandLine, postgresql: psycopg.Connection) -> CommandLine:
    """One event and its two deliveries by email."""
    add_news(postgresql, users=2)
    await alerts_engine.has_run(Phase.A)
    await alerts_engine.has_run(Phase.B)
    return alerts_engine


# --- explain --------------------------------------------------------------------------------------------------------


async def test_explain_tells_each_channel_with_its_facts(fanned_out: CommandLine, postgresql: psycopg.Connection):
    """One JSON object: the verdict, what decided it, and what came of it (B-9)."""
    answer = await fanned_out("explain", "--json", "--user", "1", "--event", "1")
    assert answer.code == 0
    (explanation,) = answer.json["explanations"]
    email, telegram, sms = explanation["decisions"]
    assert (email["verdict"], email["facts"]["used"], email["facts"]["per_day"]) == ("deliver", 0, 20)
    assert [(one["kind"], one["status"]) for one in email["deliveries"]] == [("instant", "queued")]
    assert (telegram["verdict"], sms["verdict"]) == ("missing_destination", "missing_destination")
    assert explanation["preferences"][0]["matches"] is True
    assert explanation["event"]["reached"] is True


async def test_explain_in_words_names_the_row_and_the_moment(fanned_out: CommandLine):
    """People read why, what happened since, and as of when (B-9)."""
    shown = await fanned_out.on_terminal("explain", "--user", "2", "--event", "1")
    assert "preference 2 matches; 0 of 20 a day used by other events (plan pro)" in shown
    assert "the user has no Telegram chat" in shown
    assert ": queued" in shown
    assert "decided as of the fan-out" in shown
    assert "plan, preferences and addresses are today's" in shown


async def test_explain_without_event_lists_the_newest(fanned_out: CommandLine):
    """A row per event, and hints how to go on."""
    assert len((await fanned_out("explain", "--json", "--user", "1")).json["explanations"]) == 1
    shown = await fanned_out.on_terminal("explain", "--user", "1")
    assert "Pipeline shut" in shown
    assert re.search(r"Pipeline shut +queued +no destination +no destination", shown)


async def test_explain_shows_no_destination_and_no_message(fanned_out: CommandLine):
    """The headline is enough (O-3)."""
    said = await fanned_out("explain", "--json", "--user", "1", "--event", "1")
    shown = await fanned_out.on_terminal("explain", "--user", "1", "--event", "1")
    for text in (said.out + said.err, shown):
        assert "example.com" not in text
        assert "Flows stopped" not in text


async def test_unknown_user_or_event_is_one_line(fanned_out: CommandLine):
    """Exit 1, and the line names the one that is missing (CLI-2)."""
    assert_one_line(await fanned_out("explain", "--json", "--user", "99"), "there is no user 99")
    assert_one_line(await fanned_out("explain", "--json", "--user", "1", "--event", "99"), "there is no event 99")


# --- rules ----------------------------------------------------------------------------------------------------------


async def test_rules_lists_built_in_and_own_ones_without_a_database(alone: CommandLine, tmp_path: Path):
    """Where each is from, what its first line says, and what is wrong with it (A-1)."""
    (tmp_path / "wind_lull.sql").write_text(RULE)
    (tmp_path / "high_impact_event.sql").write_text(RULE)
    answer = await alone("rules", "--json", ALERTS_RULES_DIR=str(tmp_path))
    assert answer.code == 0
    rules = {rule["name"]: rule for rule in answer.json["rules"]}
    assert set(rules) == {
        "asset_risk_spike", "high_impact_event", "regional_risk_spike", "wind_lull", "high_impact_event (custom)",
    }  # fmt: skip
    own = rules["wind_lull"]
    assert (own["from"], own["about"], own["problem"]) == ("custom", "Wind drops over the North Sea.", None)
    assert own["file"] == str(tmp_path / "wind_lull.sql")
    assert rules["asset_risk_spike"]["from"] == "built-in"
    assert "rename" in rules["high_impact_event (custom)"]["problem"]


async def test_a_rule_on_trial_shows_its_events_and_writes_nothing(
    alerts_engine: CommandLine, postgresql: psycopg.Connection, tmp_path: Path
):
    """What is there already is known by its fingerprint (A-4)."""
    (tmp_path / "wind_lull.sql").write_text(RULE)
    postgresql.execute(
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)"
        " VALUES ('WIND_LULL', 3, 'Wind drops', '', 'WIND_LULL:1', 'WIND_LULL:1'),"
        "        ('WIND_LULL', 3, 'Another', '', 'WIND_LULL:2', 'another')"
    )
    postgresql.commit()
    before = fingerprints(postgresql)
    answer = await alerts_engine("rules", "test", "--json", "wind_lull.sql")
    assert (answer.code, answer.json["new"], answer.json["known"]) == (0, 1, 1)
    assert [(one["event_fingerprint"], one["known_id"]) for one in answer.json["events"]] == [
        ("WIND_LULL:1", 1),
        ("WIND_LULL:2", None),
    ]
    assert fingerprints(postgresql) == before


async def test_a_legacy_unique_cooldown_key_makes_an_event_known(
    alerts_engine: CommandLine, postgresql: psycopg.Connection, tmp_path: Path
):
    """There the insert would leave it alone, too (A-1)."""
    (tmp_path / "wind_lull.sql").write_text(RULE)
    postgresql.execute("CREATE UNIQUE INDEX legacy ON alert_events (cooldown_key)")
    postgresql.execute(
        "INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)"
        " VALUES ('WIND_LULL', 3, 'Another', '', 'WIND_LULL:2', 'another')"
    )
    postgresql.commit()
    answer = await alerts_engine("rules", "test", "--json", "wind_lull.sql")
    assert [one["known_id"] for one in answer.json["events"]] == [None, 1]


async def test_a_built_in_rule_can_be_tried_by_name_and_at_another_moment(
    alerts_engine: CommandLine, postgresql: psycopg.Connection
):
    """The moment is what --now says (A-1)."""
    add_news(postgresql, users=1)
    present = await alerts_engine("rules", "test", "--json", "high_impact_event")
    past = await alerts_engine("rules", "test", "--json", "high_impact_event", "--now", "2022-02-24T10:00:00Z")
    assert (present.json["new"], past.json["new"]) == (1, 0)
    assert past.json["now"] == "2022-02-24T10:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT nonsense FROM nowhere", "fix the SQL"),
        (RULE.replace("3 AS severity", "9 AS severity"), "severity must be"),
        (RULE.replace("AS headline", "AS title"), "headline"),
        ("DELETE FROM users", "is not a SELECT"),
        ("", "is empty"),
        (None, "cannot be read"),
    ],
)
async def test_a_broken_rule_is_one_line_by_file_name(
    alerts_engine: CommandLine, tmp_path: Path, text: str | None, says: str
):
    """With what to do about it, exit 1 (A-5)."""
    if text is not None:
        (tmp_path / "broken.sql").write_text(text)
    assert_one_line(await alerts_engine("rules", "test", "--json", "broken.sql"), "rule broken.sql: ", says)


async def test_a_rule_on_trial_shows_its_messages_on_each_channel(
    alerts_engine: CommandLine, postgresql: psycopg.Connection, tmp_path: Path
):
    """With lengths and segments, of as many events as are asked for; what is sent is the same (A-1, M-2, C-12)."""
    payload = {
        "value": 91.44, "previous": -(10**400), "what": "Wind", "digest_headline": {"not": "a text"},
        "source": "x" * 900,
    }  # fmt: skip
    given = f"'{json.dumps(payload)}'::jsonb AS payload"
    (tmp_path / "wind_lull.sql").write_text(RULE.replace("NULL::jsonb AS payload", given))
    assert given in (tmp_path / "wind_lull.sql").read_text()
    now = {"now": "2026-03-29T10:00:00+00:00", "base": "https://app.example.com"}
    arguments = ("rules", "test", "--json", "wind_lull.sql", "--now", now["now"])
    first = (await alerts_engine(*arguments, ALERTS_APP_BASE_URL=now["base"])).json["messages"]
    assert [(one["event_fingerprint"], one["channel"]) for one in first] == [
        (f"WIND_LULL:{number}", channel) for number in (1, 2) for channel in ("email", "telegram", "sms")
    ]
    email, telegram, sms = first[:3]
    assert email["subject_characters"] == len(email["message"]["subject"])
    assert email["html_bytes"] == len(email["message"]["html"].encode())
    assert 0 < telegram["characters"] < len(telegram["message"]["text"]), "without its tags"
    assert (sms["characters"], sms["encoding"], sms["segments"]) == (len(sms["message"]["body"]), "GSM-7", 1)
    one = await alerts_engine(*arguments, "--messages", "1")
    assert {made["event_fingerprint"] for made in one.json["messages"]} == {"WIND_LULL:1"}
    assert (await alerts_engine(*arguments, "--messages", "0")).json["messages"] == []

    postgresql.execute("INSERT INTO users (email) VALUES ('a@example.com')")
    postgresql.commit()
    run = ("run", "--json", "--phase", "a", "--now", now["now"])
    await alerts_engine(*run, ALERTS_RULES_DIR=str(tmp_path))
    known = (await alerts_engine(*arguments, ALERTS_APP_BASE_URL=now["base"])).json
    for event, made in ((event, made) for event in known["events"] for made in known["messages"]):
        if made["event_fingerprint"] == event["event_fingerprint"]:
            preview = ("preview", "--event", str(event["known_id"]), "--channel", made["channel"], "--json")
            shown = await alerts_engine(*preview, ALERTS_APP_BASE_URL=now["base"])
            assert shown.json["message"] == made["message"]


async def test_a_rule_on_trial_shows_people_what_they_would_read(
    alerts_engine: CommandLine, postgresql: psycopg.Connection, tmp_path: Path
):
    """And how to see the rest (A-1)."""
    (tmp_path / "wind_lull.sql").write_text(RULE)
    answer = await alerts_engine("rules", "test", "wind_lull.sql", "--messages", "1")
    assert answer.code == 0
    for said in (
        "WIND_LULL:1 by email",
        "WIND_LULL:1 by sms",
        "EnergyRiskIQ ELEVATED - ",
        "GSM-7, 1 segment\n",
        " HTML bytes",
    ):
        assert said in answer.out
    assert answer.out.endswith("1 event more: --messages 2 shows all\n")
    assert "events more" not in (await alerts_engine("rules", "test", "wind_lull.sql")).out


# --- preview --------------------------------------------------------------------------------------------------------


async def test_preview_is_what_the_providers_get(
    sending: CommandLine, sandbox: Sandbox, postgresql: psycopg.Connection
):
    """Byte for byte, on every channel, before anything is sent (M-1)."""
    add_news(postgresql, users=1)
    postgresql.execute("UPDATE users SET telegram_chat_id = '4711', phone_number = '+15005550199'")
    postgresql.commit()
    await sending.has_run(Phase.A)
    await sending.has_run(Phase.B)
    ids = dict(postgresql.execute("SELECT channel, id FROM user_alert_deliveries").fetchall())
    postgresql.rollback()
    before = {
        channel: (await sending("preview", "--delivery", str(ids[channel]), "--json")).json["message"]
        for channel in ("email", "telegram", "sms")
    }
    await sending.has_run(Phase.C)
    got = {message.channel: message for message in sandbox.messages}
    assert (before["email"]["subject"], before["email"]["html"], before["email"]["text"]) == (
        got["email"].subject, got["email"].html, got["email"].text,
    )  # fmt: skip
    assert before["telegram"]["text"] == got["telegram"].html
    assert before["sms"]["body"] == got["sms"].text


async def test_preview_needs_no_credentials_and_shows_no_destination(fanned_out: CommandLine):
    """An email is shown by its subject and its text."""
    answer = await fanned_out("preview", "--delivery", "1")
    assert answer.code == 0
    assert answer.out.startswith("Subject: [High] ") or answer.out.startswith("Subject: [Critical] ")
    assert "Flows stopped at noon." in answer.out
    assert "user1@example.com" not in answer.out + answer.err


async def test_preview_of_an_event_takes_any_form(fanned_out: CommandLine, tmp_path: Path):
    """One form alone goes to the terminal or to a file."""
    html = await fanned_out("preview", "--event", "1", "--format", "html")
    assert html.out.lstrip().lower().startswith("<!doctype html>")
    sms = await fanned_out("preview", "--event", "1", "--channel", "sms")
    assert sms.out.startswith("EnergyRiskIQ CRITICAL ")
    assert "<b>" in (await fanned_out("preview", "--event", "1", "--format", "telegram")).out
    written = await fanned_out("preview", "--event", "1", "--output", "message.html")
    assert written.out == "message.html\n"
    assert (tmp_path / "message.html").read_text() == html.out.removesuffix("\n")


async def test_preview_of_a_digest_has_its_items(fanned_out: CommandLine, postgresql: psycopg.Connection):
    """Items have no message of their own: the error names their digest (C-1, M-3)."""
    postgresql.execute("UPDATE user_alert_deliveries SET delivery_kind = 'digest' WHERE id = 1")
    postgresql.commit()
    assert_one_line(await fanned_out("preview", "--delivery", "1"), "waits for its digest", "--event 1")
    await fanned_out.has_run(Phase.D)
    assert_one_line(await fanned_out("preview", "--delivery", "1"), "is part of digest 1", "--digest 1")
    answer = await fanned_out("preview", "--digest", "1")
    assert "Daily digest" in answer.out
    assert "Pipeline shut" in answer.out
    telegram = await fanned_out("preview", "--digest", "1", "--channel", "telegram", "--json")
    assert telegram.json["channel"] == "telegram"


async def test_preview_opens_a_browser_or_goes_on_without_one(fanned_out: CommandLine, tmp_path: Path):
    """The browser gets the file; where there is none a warning says where it is."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    page = tmp_path / "page.html"
    opened = await fanned_out("preview", "--event", "1", "--open", "-o", str(page), BROWSER=str(browser))
    assert (opened.code, (tmp_path / "opened").read_text()) == (0, f"{page.as_uri()}\n")
    alone = await fanned_out("preview", "--event", "1", "--open", "-o", str(page), PATH=str(tmp_path))
    assert alone.code == 0
    assert "no_browser" in alone.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--delivery"),
        (["--delivery", "1", "--event", "1"], "one of"),
        (["--event", "1", "--channel", "sms", "--format", "html"], "--format html"),
        (["--digest", "1", "--format", "sms"], "no SMS digests"),
        (["--event", "0"], "--event"),
    ],
)
async def test_preview_of_nothing_or_of_two_things_is_wrong_usage(alone: CommandLine, arguments: list[str], named: str):
    """Exit 2, before any database is asked (CLI-2)."""
    answer = await alone("preview", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err


@pytest.mark.parametrize("kind", ["delivery", "digest", "event"])
async def test_preview_of_what_is_not_there_is_one_line(alerts_engine: CommandLine, kind: str):
    """Exit 1 (CLI-2)."""
    assert_one_line(await alerts_engine("preview", f"--{kind}", "77"), f"there is no {kind} 77")


# --- templates ------------------------------------------------------------------------------------------------------


async def test_templates_check_names_file_and_line(alone: CommandLine, tmp_path: Path):
    """Exit 1 while something is wrong (M-1)."""
    own = tmp_path / "own"
    own.mkdir()
    alone.settings["ALERTS_TEMPLATES_DIR"] = str(own)
    good = own / "instant.sms.txt"
    good.write_text("{{ alert.lead }}")
    well = await alone("templates", "check", "--json")
    assert (well.code, well.json["problems"]) == (0, [])
    good.write_text("first\n{{ alert.nonsense }}")
    (own / "instant.smss.txt").write_text("misspelt")
    broken = await alone("templates", "check", "--json")
    assert broken.code == 1
    places = {(one["file"], one["line"]) for one in broken.json["problems"]}
    assert places == {("instant.sms.txt", 2), ("instant.smss.txt", None)}
    listed = (await alone("templates", "list", "--json")).json
    assert listed["templates"]["instant.sms.txt"] == "custom"
    assert listed["fields"]["alert"]["headline"] == "str"


async def test_templates_check_without_own_ones_says_so(alone: CommandLine):
    """Nothing to check is no failure (M-1)."""
    answer = await alone("templates", "check", "--json")
    assert (answer.code, json.loads(answer.out)) == (0, {"folder": None, "problems": []})
    assert "ALERTS_TEMPLATES_DIR is not set" in await alone.on_terminal("templates", "check")
