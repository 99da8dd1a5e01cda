"""The emails in the mail programs of their readers, by published tests (SPEC M-1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts_engine.rendering import Renderer
from alerts_engine.types import Alert, Channel, DigestContent, EmailMessage, Period
from tests.support.email_clients import CLIENTS, SUPPORT, WITHOUT, features, missing

ALERT = Alert(
    event_id=7, alert_type="HIGH_IMPACT_EVENT", scope_region="Europe", scope_assets=("gas",), severity=5,
    headline="Gazprom halts Nord Stream 1", body="Flows are at zero.", created_at=datetime(2022, 9, 2, 16, tzinfo=UTC),
)  # fmt: skip
ITEMS = tuple(replace(ALERT, event_id=number, severity=number % 5 + 1) for number in range(40))


def emails() -> dict[str, str]:
    renderer = Renderer(time_zone="Europe/Amsterdam", app_base_url="https://app.example")
    start = ALERT.created_at.replace(hour=0)
    digest = DigestContent(Period.DAILY, start, start + timedelta(days=1), ITEMS)
    made = {"instant": renderer.instant(ALERT, Channel.EMAIL), "digest": renderer.digest(digest, Channel.EMAIL)}
    return {name: message.html for name, message in made.items() if isinstance(message, EmailMessage)}


@pytest.mark.parametrize("kind", ["instant", "digest"])
def test_every_mail_program_shows_what_an_email_is_made_of(kind: str) -> None:
    """Or its reader misses nothing that matters, for a reason that is written down (SPEC M-1)."""
    assert missing(emails()[kind], accepted=WITHOUT) == []


def test_what_is_accepted_is_in_use() -> None:
    """No exemption outlives its reason."""
    used = {one.feature for html in emails().values() for one in missing(html)}
    assert set(WITHOUT) <= used, set(WITHOUT) - used


@pytest.mark.parametrize(
    ("html", "feature"),
    [
        ('<p style="display:flex">x</p>', "css-display-flex"),
        ('<p style="position:absolute">x</p>', "css-position"),
        ('<p style="color:var(--ink)">x</p>', "css-variables"),
        ("<style>@media (hover) { p { gap: 1px } }</style>", "css-gap"),
        ('<p style="width:10vw">x</p>', "css-unit-vw"),
        ("<svg></svg>", "html-svg"),
        ("<video></video>", "html-video"),
        ('<p style="invented:1">x</p>', "css-invented"),
        ("<p hidden>x</p>", "html-hidden"),
    ],
)
def test_what_a_mail_program_would_not_show_is_found(html: str, feature: str) -> None:
    """The check can fail."""
    assert feature in features(html)
    assert feature in {one.feature for one in missing(html, accepted=WITHOUT)}


def test_what_outlook_alone_reads_is_there() -> None:
    """Its table of 600 px, and a button whose padding it knows (SPEC M-1)."""
    html = emails()["instant"]
    assert html.count("<!--[if mso]>") == html.count("<![endif]-->") == 3
    opening, closing = html.index('width="600"'), html.rindex("<!--[if mso]></td></tr></table><![endif]-->")
    assert opening < html.index("EnergyRiskIQ</td>") < closing
    button = html[html.index('<td class="button"') :]
    assert 'bgcolor="#1d5fd0"' in button[:200]
    assert "mso-padding-alt:13px 26px" in button[:200]


def test_the_facts_are_a_table_with_row_headers() -> None:
    """A screen reader says which fact a value is (SPEC M-1)."""
    html = emails()["instant"]
    table = html[html.rindex("<table", 0, html.index("<th")) : html.index("</table>", html.index("<th"))]
    assert "role=" not in table
    assert table.count('<th class="faint line" scope="row"') == table.count("<td") == 4


def test_the_table_of_support_is_whole() -> None:
    """A letter a client."""
    assert {len(letters) for letters in SUPPORT.values()} == {len(CLIENTS)}
    assert set("".join(SUPPORT.values())) == set("ynau")
