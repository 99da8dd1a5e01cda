"""Own templates in place of built-in ones (SPEC M-1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from alerts_engine.operations.templates import template_problems
from alerts_engine.rendering import Renderer, TemplateProblem
from alerts_engine.types import Alert, Channel, DigestContent, EmailMessage, Period, SmsMessage, TelegramMessage

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2022, 9, 2, 12, tzinfo=UTC)
ALERT = Alert(42, "HIGH_IMPACT_EVENT", "Europe", (), 5, "Secret <headline>", "Secret body", NOON)
DIGEST = DigestContent(Period.HOURLY, NOON, NOON + timedelta(hours=1), (ALERT,) * 40)
BUILT_IN = Renderer(time_zone="UTC")


def own(folder: Path, **templates: str) -> Renderer:
    for name, source in templates.items():
        (folder / name.replace("__", ".")).write_text(source)
    return Renderer(time_zone="UTC", templates_dir=folder)


def test_an_own_template_replaces_one_built_in_template(tmp_path: Path) -> None:
    """Replaced one by one: the others stay (SPEC M-1)."""
    renderer = own(tmp_path, instant__email__subject__txt="Own: {{ alert.headline }}")
    message = renderer.instant(ALERT, Channel.EMAIL)
    built_in = BUILT_IN.instant(ALERT, Channel.EMAIL)
    assert isinstance(message, EmailMessage)
    assert isinstance(built_in, EmailMessage)
    assert message == replace(built_in, subject="Own: Secret <headline>")
    assert template_problems(tmp_path) == []


def test_an_own_layout_dresses_both_html_emails(tmp_path: Path) -> None:
    """One file changes the look of all emails (SPEC M-1)."""
    layout = "<main>OWN {% block content %}{% endblock %}</main>"
    renderer = own(tmp_path, layout__email__html=layout)
    for message in (renderer.instant(ALERT, Channel.EMAIL), renderer.digest(DIGEST, Channel.EMAIL)):
        assert isinstance(message, EmailMessage)
        assert message.html.startswith("<main>OWN")
        assert "Secret &lt;headline&gt;" in message.html


def test_an_own_template_may_extend_a_built_in_one(tmp_path: Path) -> None:
    """A small change is a small file (SPEC M-1)."""
    source = '{% extends "layout.email.html" %}{% block footer %}By {{ alert.headline }}{% endblock %}'
    message = own(tmp_path, instant__email__html=source).instant(ALERT, Channel.EMAIL)
    assert isinstance(message, EmailMessage)
    assert "By Secret &lt;headline&gt;" in message.html


@pytest.mark.parametrize(
    "source",
    [
        "one\n{% if %}",
        "one\n{{ alert.nothing }}",
        "one\n{{ nothing }}",
        "one\n{{ 1 // 0 }}",
        "one\n{{ ''.__class__.__mro__ }}",
        'one\n{% include "missing.html" %}',
        "one\n{% for n in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_broken_own_template_does_not_lose_the_alert(tmp_path: Path, source: str) -> None:
    """The built-in one is used; one warning a file names file and line, and quotes nothing (SPEC M-1, O-3)."""
    renderer = own(tmp_path, instant__telegram__html=source)
    with capture_logs() as logs:
        messages = {renderer.instant(ALERT, Channel.TELEGRAM) for _ in range(3)}
    assert messages == {BUILT_IN.instant(ALERT, Channel.TELEGRAM)}
    assert logs == [{"event": "template_broken", "log_level": "warning", "file": "instant.telegram.html", "line": 2}]


@pytest.mark.parametrize(
    "source",
    [
        "  ",
        "<b>open",
        "</b>",
        "<p>{{ alert.headline }}</p>",
        "<a>x</a>",
        "a & b",
        "a < b",
        "&nbsp;",
        "{{ 'x' * 4097 }}",
    ],
)
def test_what_telegram_would_refuse_is_not_sent(tmp_path: Path, source: str) -> None:
    """An own template cannot make a message that is refused for ever (SPEC M-2)."""
    renderer = own(tmp_path, instant__telegram__html=source, digest__telegram__html=source)
    with capture_logs() as logs:
        assert renderer.instant(ALERT, Channel.TELEGRAM) == BUILT_IN.instant(ALERT, Channel.TELEGRAM)
        assert renderer.digest(DIGEST, Channel.TELEGRAM) == BUILT_IN.digest(DIGEST, Channel.TELEGRAM)
    assert {log["file"] for log in logs} == {"instant.telegram.html", "digest.telegram.html"}


def test_what_telegram_accepts_is_sent(tmp_path: Path) -> None:
    """All of Telegram's common tags are free to use (SPEC M-2)."""
    source = (
        '<blockquote expandable><u>a</u></blockquote><pre><code class="language-sql">&#49;</code></pre>{{ "x" * 4094 }}'
    )
    message = own(tmp_path, instant__telegram__html=source).instant(ALERT, Channel.TELEGRAM)
    assert isinstance(message, TelegramMessage)
    assert message.text.startswith("<blockquote expandable><u>a</u>")


def test_an_own_telegram_digest_shows_as_many_items_as_fit(tmp_path: Path) -> None:
    """Long items make a shorter list, not a refused message (SPEC M-2)."""
    source = "{% for alert in digest.items %}{{ '😀' * 300 }}\n{% endfor %}…and {{ digest.rest.count }} more"
    message = own(tmp_path, digest__telegram__html=source).digest(DIGEST, Channel.TELEGRAM)
    assert isinstance(message, TelegramMessage)
    assert message.text.count("\n") == 6
    assert message.text.endswith("…and 34 more")


def test_an_own_subject_cannot_inject_a_header(tmp_path: Path) -> None:
    """Line breaks of a template do not reach the subject (SPEC M-4)."""
    message = own(tmp_path, instant__email__subject__txt="a\r\nBcc: b\n{{ 'x' * 500 }}").instant(ALERT, Channel.EMAIL)
    assert isinstance(message, EmailMessage)
    assert message.subject.startswith("a Bcc: b xxx")
    assert len(message.subject) == 120


def test_an_own_sms_is_kept_within_1600_characters(tmp_path: Path) -> None:
    """Also when spelling it in GSM-7 makes it longer (SPEC M-2)."""
    message = own(tmp_path, instant__sms__txt="{{ '… ' * 700 }}").instant(ALERT, Channel.SMS)
    assert isinstance(message, SmsMessage)
    assert (message.encoding, message.segments) == ("GSM-7", 11)
    assert 1590 < len(message.body) <= 1600


def test_check_finds_every_problem_with_its_place(tmp_path: Path) -> None:
    """Misspelt names, syntax and undefined names are found before an alert needs the template (SPEC M-1)."""
    own(
        tmp_path,
        instant__html="x",
        instant__email__html="\n\n{% block %}",
        instant__sms__txt="\n{% if alert.severity == 2 %}\n{{ alert.titel }}{% endif %}{{ alert.lead }}",
        digest__telegram__html="<h1>x</h1>",
        digest__email__txt="fine {{ digest.summary }}",
    )
    (tmp_path / ".gitkeep").write_text("")
    (tmp_path / "digest.email.subject.txt").write_bytes(b"\xff\xfe\x00")
    found = {(problem.file, problem.line): problem.problem for problem in template_problems(tmp_path)}
    assert found.keys() == {
        ("instant.html", None),
        ("instant.email.html", 3),
        ("instant.sms.txt", 3),
        ("digest.telegram.html", None),
        ("digest.email.subject.txt", None),
    }
    assert "instant.email.html" in found["instant.html", None]
    assert "titel" in found["instant.sms.txt", 3]
    assert "<h1>" in found["digest.telegram.html", None]


def test_check_says_when_the_folder_is_missing(tmp_path: Path) -> None:
    """A wrong setting is a problem, not a crash (SPEC R-2)."""
    missing = tmp_path / "missing"
    assert template_problems(missing) == [TemplateProblem(str(missing), None, "there is no such folder")]
