"""What the messages say (SPEC M-1 … M-3)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts_engine.rendering import Renderer
from alerts_engine.types import (
    Alert,
    Channel,
    DigestContent,
    EmailMessage,
    Period,
    SmsMessage,
    TelegramMessage,
)

BASE = "https://app.example"
HALT = Alert(
    event_id=42,
    alert_type="HIGH_IMPACT_EVENT",
    scope_region="Europe",
    scope_assets=("gas", "fx", "coal"),
    severity=5,
    headline="Gazprom halts Nord Stream 1 indefinitely",
    body="Flows stay at zero.\r\n\r\nStorage stands at 84 percent.",
    created_at=datetime(2022, 9, 2, 16, 4, tzinfo=UTC),
    value=91.4,
)
BARE = replace(HALT, alert_type="WIND_FARM_OUTAGE", scope_region=None, scope_assets=(), headline=" ", body="\n")
DAY = (datetime(2022, 9, 1, 22, tzinfo=UTC), datetime(2022, 9, 2, 22, tzinfo=UTC))


def renderer(app_base_url: str | None = BASE) -> Renderer:
    return Renderer(time_zone="Europe/Amsterdam", app_base_url=app_base_url)


def email(alert: Alert, app_base_url: str | None = BASE) -> EmailMessage:
    message = renderer(app_base_url).instant(alert, Channel.EMAIL)
    assert isinstance(message, EmailMessage)
    return message


def telegram(alert: Alert, app_base_url: str | None = BASE) -> str:
    message = renderer(app_base_url).instant(alert, Channel.TELEGRAM)
    assert isinstance(message, TelegramMessage)
    return message.text


def sms(alert: Alert, app_base_url: str | None = BASE) -> SmsMessage:
    message = renderer(app_base_url).instant(alert, Channel.SMS)
    assert isinstance(message, SmsMessage)
    return message


def daily(*items: Alert) -> DigestContent:
    return DigestContent(Period.DAILY, *DAY, items)


def digest_email(*items: Alert, app_base_url: str | None = BASE) -> EmailMessage:
    message = renderer(app_base_url).digest(daily(*items), Channel.EMAIL)
    assert isinstance(message, EmailMessage)
    return message


def digest_telegram(*items: Alert) -> str:
    message = renderer().digest(daily(*items), Channel.TELEGRAM)
    assert isinstance(message, TelegramMessage)
    return message.text


def crowd(count: int, **changes: object) -> tuple[Alert, ...]:
    regions = ("Europe", "Asia", "Black Sea", "Global", "Russia", "North America", "North Africa", "Oceania")
    return tuple(
        replace(
            HALT,
            event_id=number,
            severity=number % 5 + 1,
            scope_region=regions[number % 8],
            headline=f"Event number {number}",
            created_at=HALT.created_at + timedelta(seconds=number),
            **changes,  # type: ignore[arg-type]
        )
        for number in range(count)
    )


# --- instant messages -------------------------------------------------------------------------------------------


def test_an_email_says_all_that_is_known_of_an_alert() -> None:
    """HTML and text both carry title, severity, body, facts and links (SPEC M-1)."""
    message = email(HALT)
    assert message.subject == "[Critical] Europe: Gazprom halts Nord Stream 1 indefinitely"
    for part in (message.html, message.text):
        for said in (
            HALT.headline,
            "Severity 5 · Critical",
            "●●●●●",
            "Flows stay at zero.",
            "Storage stands at 84 percent.",
            "High-impact event",
            "Europe",
            "Gas, FX, coal",
            "91.4",
            "2 Sep 2022, 18:04 CEST (UTC+2)",
            f"{BASE}/alerts/42",
            f"{BASE}/settings/notifications",
            "You get this email because",
        ):
            assert said in part


def test_without_a_base_url_the_id_is_the_reference() -> None:
    """No link leads nowhere (SPEC M-3)."""
    message = email(HALT, app_base_url=None)
    assert "href" not in message.html
    assert "Reference: 42" in message.text
    assert "Reference 42" in telegram(HALT, app_base_url=None)
    assert "http" not in sms(HALT, app_base_url=None).body
    assert "Reference 42" in digest_email(HALT, app_base_url=None).html


def test_a_trailing_slash_of_the_base_url_is_not_doubled() -> None:
    """Both ways to write the setting give the same links (SPEC section 4)."""
    assert email(HALT, f"{BASE}/") == email(HALT, BASE)


@pytest.mark.parametrize(
    ("severity", "word"),
    [(5, "Critical"), (4, "High"), (3, "Elevated"), (2, "Moderate"), (1, "Low"), (9, "Critical"), (-1, "Low")],
)
def test_every_severity_has_its_word(severity: int, word: str) -> None:
    """Severity is readable without colour, on every channel (SPEC M-1)."""
    alert = replace(HALT, severity=severity)
    assert email(alert).subject.startswith(f"[{word}] ")
    assert f"<b>{word} · Europe: " in telegram(alert)
    assert sms(alert).body.startswith(f"EnergyRiskIQ {word.upper()} - ")


def test_a_blank_headline_and_body_fall_back_to_type_and_region() -> None:
    """No message is empty (SPEC M-3)."""
    assert email(BARE).subject == "[Critical] Wind Farm Outage"
    assert email(replace(BARE, scope_region="Asia")).subject == "[Critical] Wind Farm Outage: Asia"
    assert (
        "Wind Farm Outage: Asia."
        in email(replace(HALT, alert_type="WIND_FARM_OUTAGE", scope_region="Asia", body="")).text
    )
    assert email(replace(BARE, alert_type="\x00")).subject == "[Critical] Alert"


def test_a_region_that_the_headline_names_is_not_said_twice() -> None:
    """A subject has no room to repeat itself (SPEC M-1)."""
    assert email(replace(HALT, headline="Risk in Europe rises")).subject == "[Critical] Risk in Europe rises"


def test_a_long_subject_is_cut_at_a_word() -> None:
    """Subjects stay below 120 characters (SPEC M-1)."""
    subject = email(replace(HALT, headline="Pipeline " * 40)).subject
    assert len(subject) <= 120
    assert subject.endswith("Pipeline…")


@pytest.mark.parametrize(
    ("value", "score"),
    [(91.0, "91"), (91.44, "91.4"), (0.0, "0"), (-0.0, "0"), (1e300, "1e+300"), (float("nan"), None), (None, None)],
)
def test_a_score_is_shown_as_a_short_number(value: float | None, score: str | None) -> None:
    """The risk score is shown when there is one (SPEC M-3)."""
    text = email(replace(HALT, value=value)).text
    assert re.findall(r"^Score: (.*)$", text, re.MULTILINE) == ([score] if score else [])


def test_text_from_events_is_never_markup() -> None:
    """Tags, quotes and line breaks arrive as text (SPEC M-4)."""
    evil = '<script>alert("1")</script>\r\nBcc: x@y.z & </b></td><a href="//evil">'
    alert = replace(HALT, headline=evil, body=evil, scope_region=evil, scope_assets=(evil,), alert_type=evil)
    message = email(alert)
    assert "<script" not in message.html
    assert 'href="//evil"' not in message.html
    assert "&lt;script&gt;" in message.html
    assert "\n" not in message.subject
    assert '<a href="//' not in telegram(alert)
    assert '<script>alert("1")</script> Bcc' in sms(alert).body


def test_a_telegram_message_says_the_essential_in_its_own_tags() -> None:
    """Telegram's HTML subset, with links (SPEC M-2)."""
    assert telegram(HALT) == (
        "🔴 <b>Critical · Europe: Gazprom halts Nord Stream 1 indefinitely</b>\n"
        "<i>2 Sep 2022, 18:04 CEST (UTC+2)</i>\n\n"
        "Flows stay at zero.\nStorage stands at 84 percent.\n\n"
        "<i>Type: High-impact event</i>\n<i>Assets: Gas, FX, coal</i>\n<i>Score: 91.4</i>\n\n"
        f'<a href="{BASE}/alerts/42">View in app</a> · '
        f'<a href="{BASE}/settings/notifications">Manage preferences</a>'
    )


# --- SMS ----------------------------------------------------------------------------------------------------------


def test_an_sms_says_the_essential_in_one_segment() -> None:
    """Sender, severity, region, headline, time and link in 160 characters (SPEC M-2)."""
    body = (
        f"EnergyRiskIQ CRITICAL - Europe: Gazprom halts Nord Stream 1 indefinitely. 2 Sep, 18:04 CEST {BASE}/alerts/42"
    )
    assert sms(HALT) == SmsMessage(body, "GSM-7", 1)


def test_a_long_headline_gives_way_to_the_link_in_an_sms() -> None:
    """One segment, cut at a word, in GSM-7 (SPEC M-2)."""
    message = sms(replace(HALT, headline="Pipeline \N{EN DASH} flows " * 20))
    assert (message.encoding, message.segments) == ("GSM-7", 1)
    assert re.fullmatch(rf"EnergyRiskIQ CRITICAL - Europe: .*\w\.\.\. 2 Sep, 18:04 CEST {BASE}/alerts/42", message.body)
    assert len(message.body) > 140


def test_a_link_gives_way_when_it_would_leave_no_headline_in_an_sms() -> None:
    """The headline matters more than the link (SPEC M-2)."""
    base = "https://a-very-long-host-name-of-an-application.example/" + "with/a/long/path/too/" * 2
    message = sms(replace(HALT, headline="Pipeline flows " * 20), base)
    assert message.segments == 1
    assert "http" not in message.body


def test_an_sms_in_another_script_is_one_segment_too() -> None:
    """UCS-2 has room for 70 (SPEC M-2)."""
    message = sms(replace(HALT, headline="Газпром остановил Северный поток на неопределённый срок"))
    assert (message.encoding, message.segments) == ("UCS-2", 1)
    assert message.body.startswith("EnergyRiskIQ CRITICAL - Europe: Газпром остановил")


# --- digests ------------------------------------------------------------------------------------------------------


def test_a_digest_lists_the_most_severe_first_then_the_oldest() -> None:
    """Severity descending, then time ascending (SPEC M-3)."""
    later = HALT.created_at + timedelta(minutes=5)
    items = (
        replace(HALT, severity=3, headline="third"),
        replace(HALT, severity=5, headline="second", created_at=later),
        replace(HALT, severity=5, headline="first"),
    )
    for text in (digest_email(*items).html, digest_email(*items).text, digest_telegram(*items)):
        body = text[text.index("UTC+2") :]
        assert body.index("first") < body.index("second") < body.index("third")


def test_a_digest_has_its_window_its_zone_and_its_items() -> None:
    """Header, title, severity, short reason and link (SPEC M-3)."""
    said = ("Daily digest", "Friday 2 September 2022", "24:00 CEST (UTC+2)", "Europe/Amsterdam")
    item = (HALT.headline, "Critical", "18:04 CEST", "Gas, FX, coal", "91.4", f"{BASE}/alerts/42")
    message = digest_email(HALT)
    for text in (message.html, message.text, digest_telegram(HALT)):
        for part in (*said, *item, "Flows stay at zero. Storage stands at 84 percent."):
            assert part in text


@pytest.mark.parametrize(
    ("severities", "subject"),
    [
        ((5,), "2 Sep, 1 critical alert: Gazprom halts Nord Stream 1 indefinitely"),
        ((4, 5, 2), "2 Sep, 3 alerts, 1 critical: Gazprom halts Nord Stream 1 indefinitely"),
        ((4, 4), "2 Sep, 2 high alerts: Gazprom halts Nord Stream 1 indefinitely"),
    ],
)
def test_a_digest_subject_counts_and_names_the_top_alert(severities: tuple[int, ...], subject: str) -> None:
    """The subject says the most important thing (SPEC M-3)."""
    assert digest_email(*(replace(HALT, severity=severity) for severity in severities)).subject == subject


def test_a_digest_says_which_alerts_the_quota_moved_into_it() -> None:
    """And of the others it says nothing (SPEC B-7)."""
    content = replace(daily(HALT, replace(HALT, event_id=43)), over_quota=frozenset({43}))
    message = renderer().digest(content, Channel.EMAIL)
    chat = renderer().digest(content, Channel.TELEGRAM)
    assert isinstance(message, EmailMessage)
    assert isinstance(chat, TelegramMessage)
    for text in (message.html, message.text, chat.text):
        assert text.count("over your day's limit") == 1


@pytest.mark.parametrize("count", [1, 25, 26, 1000])
def test_a_digest_of_any_size_tells_25_and_counts_the_rest(count: int) -> None:
    """One item or a thousand, below Gmail's clipping size (SPEC M-3)."""
    message = digest_email(*crowd(count))
    assert message.html.count(">View in app</a>") == min(count, 25)
    assert (f"…and {count - 25} more" in message.html) == (count > 25)
    assert message.text.count("Event number") == min(count, 25)
    assert len(message.html.encode()) < 90_000


def test_the_rest_of_a_digest_is_counted_by_severity_and_region() -> None:
    """Nothing is left out unsaid (SPEC M-3)."""
    text = digest_email(*crowd(1000)).text
    assert f"…and 975 more: {BASE}/alerts\n175 critical, 200 high, 200 elevated, 200 moderate, 200 low" in text
    regions = text[text.index("200 low\n") + 8 : text.index("\n\n--")].strip().splitlines()
    assert len(regions) == 7
    assert regions[-1].startswith("Other regions: ")
    assert sum(int(line.rsplit(": ")[1]) for line in regions) == 975


def test_a_digest_of_hostile_texts_stays_below_the_clipping_size() -> None:
    """Where escaping makes texts five times as long, fewer alerts are told and the rest counted (SPEC M-3)."""
    quotes = '"' * 10_000
    items = tuple(
        replace(
            HALT,
            event_id=number,
            headline=quotes,
            body=f"{number}{quotes}",
            scope_region=quotes,
            scope_assets=(quotes,) * 9,
        )
        for number in range(1000)
    )
    message = digest_email(*items, app_base_url="https://app.example/" + "path/" * 20)
    told = message.html.count(">View in app</a>")
    assert 15 < told < 25
    assert 85_000 < len(message.html.encode()) <= 90_000
    assert f"…and {1000 - told} more" in message.html
    assert f"…and {1000 - told} more" in message.text


def test_a_long_telegram_digest_ends_at_an_items_end() -> None:
    """…and N more counts exactly what is not shown (SPEC M-2)."""
    text = digest_telegram(*(replace(one, body=f"{one.event_id} " + "word " * 60) for one in crowd(300)))
    shown = re.findall(r"<b>Event number \d+</b>\n<i>[^<]+</i>\n[^<]+…\n<a href=\"[^\"]+\">View in app</a>\n\n", text)
    assert 5 < len(shown) < 25
    assert f'<a href="{BASE}/alerts">…and {300 - len(shown)} more</a> (' in text
    assert text.count("Event number") == len(shown)


def test_sms_and_empty_digests_are_refused() -> None:
    """SMS has no digests, and an empty one is never sent (SPEC B-6, D-6)."""
    with pytest.raises(ValueError, match="SMS"):
        renderer().digest(daily(HALT), Channel.SMS)
    with pytest.raises(ValueError, match="without items"):
        renderer().digest(daily(), Channel.EMAIL)


# --- purity -------------------------------------------------------------------------------------------------------


def test_the_same_row_gives_the_same_bytes_in_another_process() -> None:
    """A retry carries what the first attempt carried (SPEC C-12)."""
    script = (
        "import json, sys; from dataclasses import astuple; from datetime import *; "
        "from alerts_engine.rendering import Renderer; from alerts_engine.types import *; "
        "alert = Alert(42, 'HIGH_IMPACT_EVENT', 'Europe', ('gas', 'fx', 'coal'), 5, sys.argv[1], 'body', "
        "datetime(2022, 9, 2, 16, 4, tzinfo=timezone.utc), 91.4); "
        "r = Renderer(time_zone='Europe/Amsterdam', app_base_url='https://app.example'); "
        "print(json.dumps([astuple(r.instant(alert, channel)) for channel in Channel]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, HALT.headline], capture_output=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    alert = replace(HALT, body="body")
    here = [email(alert), TelegramMessage(telegram(alert)), sms(alert)]
    assert json.loads(run.stdout) == [[getattr(m, name) for name in m.__slots__] for m in here]


def test_importing_the_renderer_does_not_load_jinja2() -> None:
    """A run with nothing to send stays fast (SPEC section 16)."""
    script = "import sys, alerts_engine.rendering; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
