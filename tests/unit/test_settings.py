"""The settings: every form of every value, from the environment and from ``.env`` (SPEC section 4)."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Protocol, get_args, get_origin

import pytest

from alerts_engine import load_settings
from alerts_engine.errors import SettingsError
from alerts_engine.settings import PlanQuota, Settings, Variables, accepted, load_usable_settings, variable_name
from alerts_engine.settings.variables import read_variables
from alerts_engine.types import Channel, Period

FIELDS = Settings.model_fields
VARIABLES = tuple(variable_name(name) for name in FIELDS)
NOTHING_SET = Settings(_variables=Variables())
SAMPLES: dict[str, tuple[str, object]] = {
    "DATABASE_URL": ("postgresql://u:p@h/d", None),
    "ALERTS_V2_ENABLED": ("no", False),
    "ALERTS_TIMEZONE": ("Asia/Kolkata", "Asia/Kolkata"),
    "ALERTS_SEND_BATCH_SIZE": ("7", 7),
    "ALERTS_SEND_CONCURRENCY": ("7", 7),
    "ALERTS_SEND_TIMEOUT_SECONDS": ("7.5", 7.5),
    "ALERTS_SEND_LEASE_SECONDS": ("777", 777),
    "ALERTS_SHUTDOWN_SECONDS": ("0", 0),
    "ALERTS_MAX_ATTEMPTS": ("7", 7),
    "ALERTS_RETRY_BASE_SECONDS": ("0.5", 0.5),
    "ALERTS_RETRY_MAX_SECONDS": ("7", 7),
    "ALERTS_RATE_LIMIT_PER_MINUTE": ("7", 7),
    "ALERTS_RATE_LIMIT_EMAIL_PER_MINUTE": ("7", 7),
    "ALERTS_RATE_LIMIT_TELEGRAM_PER_MINUTE": ("7", 7),
    "ALERTS_RATE_LIMIT_SMS_PER_MINUTE": ("7", 7),
    "ALERTS_FAIL_OPEN_ON_CHANNEL_MISSING": ("true", True),
    "ALERTS_CHANNELS_PAUSED": ("sms,email", (Channel.SMS, Channel.EMAIL)),
    "ALERTS_UNCERTAIN_SEND": ("fail", "fail"),
    "ALERTS_ASK_PER_RUN": ("7", 7),
    "ALERTS_SEND_ALLOWLIST_USER_IDS": ("7", (7,)),
    "ALERTS_MAX_SEND_PER_RUN": ("0", 0),
    "ALERTS_MAX_RUN_SECONDS": ("7", 7),
    "ALERTS_QUOTA_OVERFLOW": ("digest", "digest"),
    "ALERTS_BUNDLE_FROM": ("4", 4),
    "ALERTS_BUNDLE_KEEP_SEVERITY": ("6", 6),
    "ALERTS_DIGEST_PERIOD": ("hourly", Period.HOURLY),
    "ALERTS_DIGEST_GRACE_MINUTES": ("0", 0),
    "ALERTS_SMS_VALIDITY_SECONDS": ("7", 7),
    "ALERTS_APP_BASE_URL": ("https://app.example/alerts/", "https://app.example/alerts"),
    "ALERTS_PUBLIC_BASE_URL": ("https://app.example/", "https://app.example"),
    "ALERTS_LINK_SECRET": ("0123456789abcdef0123456789abcdef", None),
    "ALERTS_PLAN_QUOTAS": ('{"pro": {"email": 7}}', {"pro": PlanQuota(email=7)}),
    "ALERTS_RULES_DIR": ("/", Path("/")),
    "ALERTS_TEMPLATES_DIR": ("/", Path("/")),
    "INTERNAL_RUNNER_TOKEN": ("token", None),
    "EMAIL_PROVIDER": ("resend", "resend"),
    "EMAIL_FROM": ("Zoë <a@b.c>", "Zoë <a@b.c>"),
    "BREVO_API_KEY": ("key", None),
    "RESEND_API_KEY": ("key", None),
    "TELEGRAM_BOT_TOKEN": ("1:token", None),
    "TWILIO_ACCOUNT_SID": ("sid", None),
    "TWILIO_AUTH_TOKEN": ("token", None),
    "TWILIO_PHONE_NUMBER": ("+1 500 555 0006", None),
    "BREVO_BASE_URL": ("https://brevo.example", "https://brevo.example"),
    "RESEND_BASE_URL": ("https://resend.example:8443", "https://resend.example:8443"),
    "TELEGRAM_BASE_URL": ("http://127.0.0.1:8025", "http://127.0.0.1:8025"),
    "TWILIO_BASE_URL": ("http://localhost", "http://localhost"),
    "CI": ("true", True),
    "GITHUB_ACTIONS": ("true", True),
    "GITHUB_EVENT_NAME": ("schedule", "schedule"),
    "GITHUB_SHA": ("0" * 40, "0" * 40),
    "GITHUB_SERVER_URL": ("https://github.example", "https://github.example"),
    "GITHUB_REPOSITORY": ("owner/name", "owner/name"),
    "GITHUB_STEP_SUMMARY": ("/summary.md", Path("/summary.md")),
}
"""Each variable with a value that is not its default, and what becomes of it; a secret stays what it is."""


def from_environment(_: Path, **variables: str) -> Settings:
    return Settings(_variables=read_variables(VARIABLES, variables, None))


def from_file(folder: Path, **variables: str) -> Settings:
    path = folder / ".env"
    path.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()), encoding="utf-8")
    return Settings(_variables=read_variables(VARIABLES, {}, path))


from_both = pytest.mark.parametrize("read", [from_environment, from_file])


class Read(Protocol):
    """Settings by variable, from one of both places."""

    def __call__(self, folder: Path, /, **variables: str) -> Settings: ...


def field_of(variable: str) -> str:
    return next(name for name in FIELDS if variable_name(name) == variable)


def plain(value: Any) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


# --- names ----------------------------------------------------------------------------------------------------------


@from_both
def test_every_variable_is_read_by_its_name(read: Read, tmp_path: Path):
    """Section 4's table, from the environment and from ``.env``; spaces around a value are a slip."""
    assert set(SAMPLES) == set(VARIABLES)
    for variable, (text, value) in SAMPLES.items():
        for given in (text, f"  {text}\t"):
            settings = read(tmp_path, **{variable: given})
            assert plain(getattr(settings, field_of(variable))) == (text if value is None else value), variable
            assert settings.model_fields_set == {field_of(variable)}
            assert settings.warnings == ()


@from_both
def test_no_other_name_is_read(read: Read, tmp_path: Path):
    """Not a field's name, nor a name in small letters: ``RULES_DIR`` would be SQL that is executed."""
    others = {other for name in FIELDS for other in (name, name.upper(), variable_name(name).lower())} - set(VARIABLES)
    assert {"ENABLED", "TIME_ZONE", "MAX_SEND_PER_RUN", "RULES_DIR", "TEMPLATES_DIR", "database_url"} <= others
    settings = read(tmp_path, **dict.fromkeys(others, "/"))
    assert settings.model_fields_set == set()
    assert settings.model_dump() == NOTHING_SET.model_dump()


def test_the_environment_comes_before_the_file_and_what_is_given_before_both(tmp_path: Path):
    """And an empty variable is none, so that it hides nothing of the file."""
    path = tmp_path / ".env"
    path.write_text("ALERTS_MAX_ATTEMPTS=2\nALERTS_SEND_CONCURRENCY=2\nALERTS_SEND_BATCH_SIZE=2\n")
    environment = {"ALERTS_MAX_ATTEMPTS": "3", "ALERTS_SEND_CONCURRENCY": "3", "ALERTS_SEND_BATCH_SIZE": ""}
    settings = Settings(_variables=read_variables(VARIABLES, environment, path), max_attempts=4)
    assert (settings.max_attempts, settings.send_concurrency, settings.send_batch_size) == (4, 3, 2)
    assert settings.warnings == ("set but empty, which counts as not set: ALERTS_SEND_BATCH_SIZE",)


def test_the_process_is_asked_unless_somebody_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``.env`` is the one of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALERTS_MAX_ATTEMPTS", "3")
    (tmp_path / ".env").write_text("ALERTS_SEND_BATCH_SIZE=2\n")
    found = [
        (one.max_attempts, one.send_batch_size)
        for one in (load_settings(), Settings(_env_file=None), Settings(_variables=Variables()))
    ]
    assert found == [(3, 2), (3, 200), (5, 200)]


def test_a_field_that_does_not_exist_is_a_mistake_in_the_code():
    """An allowlist under a misspelt name would restrict nobody."""
    with pytest.raises(TypeError, match="send_allowlist_user_id"):
        load_settings(send_allowlist_user_id=(7,))


NOBODY_READS = " is not a setting, so nothing reads it"


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        (
            "ALERTS_SEND_ALOWLIST_USER_IDS",
            f"ALERTS_SEND_ALOWLIST_USER_IDS{NOBODY_READS}: do you mean ALERTS_SEND_ALLOWLIST_USER_IDS?",
        ),
        ("alerts_timezone", f"alerts_timezone{NOBODY_READS}: do you mean ALERTS_TIMEZONE?"),
        ("Database_Url", f"Database_Url{NOBODY_READS}: do you mean DATABASE_URL?"),
        ("ALERTS_QQQQQQQQ", f"ALERTS_QQQQQQQQ{NOBODY_READS}"),
        ("ALERTS_\x1b[31m", f"a variable whose name begins with ALERTS_{NOBODY_READS}"),
    ],
)
def test_a_variable_that_nobody_reads_is_a_warning(tmp_path: Path, name: str, warning: str):
    """With the nearest name that is read, and never its value (CLI-6a)."""
    assert from_environment(tmp_path, **{name: "secret"}).warnings == (warning,)
    if name.isidentifier():
        assert from_file(tmp_path, **{name: "secret"}).warnings == (warning,)


def test_what_is_not_ours_is_no_warning(tmp_path: Path):
    """Other programs' variables, and what CI sets to nothing."""
    others = {"PATH": "/bin", "ALERT": "1", "ci": "", "CI": "", "GITHUB_SHA": "", "github_sha": "1", "MY_ALERTS_X": "1"}
    assert from_environment(tmp_path, **others).warnings == ()


@from_both
@pytest.mark.parametrize("blank", ["", "  \t "])
def test_an_empty_variable_is_not_set_with_a_warning(read: Read, tmp_path: Path, blank: str):
    """CI makes that of a variable that is missing."""
    settings = read(tmp_path, **dict.fromkeys(VARIABLES, blank))
    assert settings.model_dump() == NOTHING_SET.model_dump()
    assert settings.model_fields_set == set()
    (warning,) = settings.warnings
    ours = [name for name in VARIABLES if name != "CI" and not name.startswith("GITHUB_")]
    assert warning == f"set but empty, which counts as not set: {', '.join(ours)}"


# --- lists ----------------------------------------------------------------------------------------------------------

LISTS: dict[str, dict[str, object]] = {
    "ALERTS_SEND_ALLOWLIST_USER_IDS": {
        "7": (7,), "1,2": (1, 2), " 1 , 2 ": (1, 2), "2,2": (2, 2), "9223372036854775807": (2**63 - 1,), "": None,
        "   ": None,
    },
    "ALERTS_CHANNELS_PAUSED": {
        "sms": (Channel.SMS,), "sms,email": (Channel.SMS, Channel.EMAIL), " sms , email ": (Channel.SMS, Channel.EMAIL),
        "": (), "   ": (),
    },
    "ALERTS_PLAN_QUOTAS": {
        "{}": {}, '{"a": {}}': {"a": PlanQuota()}, '{"a": {"email": null, "sms": 99999999999999999999}}':
        {"a": PlanQuota(email=None, sms=2**31 - 1)}, "": {}, "  ": {},
    },
}  # fmt: skip
NOT_LISTS = [
    "null", "None", "[1]", "[]", "{1}", "1;2", "1,,2", ",", "1,", ",1", "0", "1,0", "-1", "1.0", "1e3", "+1", "1_0",
    "0x1", "01", "1 2", "1٢", "١", "１", "²", "9223372036854775808", "9" * 50, "9" * 5000, "true", "*", "all", "(1,2)",
    '"1"', "1\n2", '["sms"]', "SMS", "sms;email", "sms,,email", "account", "push",
    '"a"', "1.5", '["a"]', '{"a": 1}', '{"a": null}', '{"a": {"email": -1}}', '{"a": {"email": "1"}}',
    '{"a": {"email": 1.0}}', '{"a": {"email": true}}', '{"a": {"email": NaN}}', '{"a": {"emial": 1}}',
    '{"a": {"alert_types": "ALL"}}', '{"a": {"alert_types": ["\\u0000"]}}', '{"a": {"alert_types": ["\\ud800"]}}',
    '{"\\u0000": {}}', '{"": {}}', '{"a": {}', '{"a": {"digests": null}}', "[" * 60_000, '{"a":' * 60_000,
]  # fmt: skip


def test_every_composite_setting_has_its_forms_here():
    """A list or an object that is added later is read by its own rules, too."""

    def is_composite(annotation: Any) -> bool:
        inner = (one for one in get_args(annotation) if one is not type(None))
        return get_origin(annotation) in {tuple, list, dict, set, frozenset} or any(map(is_composite, inner))

    assert {variable_name(name) for name, one in FIELDS.items() if is_composite(one.annotation)} == set(LISTS)


@from_both
@pytest.mark.parametrize("variable", LISTS)
def test_a_list_is_read_in_every_form(read: Read, tmp_path: Path, variable: str):
    """One item is a list, too; empty and blank are not set (section 4)."""
    for text, value in LISTS[variable].items():
        assert getattr(read(tmp_path, **{variable: text}), field_of(variable)) == value, text


@from_both
@pytest.mark.parametrize("variable", LISTS)
def test_what_is_not_quite_a_list_is_an_error(read: Read, tmp_path: Path, variable: str):
    """It fails closed: a list that is misread restricts nobody, or somebody else (section 4)."""
    for text in NOT_LISTS:
        if text not in LISTS[variable]:
            with pytest.raises(SettingsError, match=f"^{variable} must be "):
                read(tmp_path, **{variable: text})


def test_a_secret_given_by_code_is_the_one_that_is_masked():
    """A line break at its end, as a file has it, is neither sent nor looked for in the logs (O-3)."""
    settings = Settings(_variables=Variables(), brevo_api_key=" key\n", twilio_phone_number="+1 500\n")
    assert settings.secrets() == ["key", "+1 500"]


def test_lists_can_be_given_as_lists():
    """By field name, as code has them."""
    settings = Settings(
        _variables=Variables(), send_allowlist_user_ids=[7, 8], channels_paused={Channel.SMS},
        plan_quotas={"pro": {"email": 1}, "gold": PlanQuota(email=2)},
    )  # fmt: skip
    assert settings.send_allowlist_user_ids == (7, 8)
    assert settings.channels_paused == (Channel.SMS,)
    assert settings.plans["pro"].email == 1
    assert settings.plans["gold"].email == 2
    for wrong in ([0], [True], ["x"], [2**63], "null", 7):
        with pytest.raises(SettingsError, match="ALERTS_SEND_ALLOWLIST_USER_IDS"):
            Settings(_variables=Variables(), send_allowlist_user_ids=wrong)


# --- addresses ------------------------------------------------------------------------------------------------------

URLS = {
    "https://a.example", "https://a.example:1", "https://a.example:65535/x/y~z_-.@:(1)%20", "https://A-1.example",
    "http://localhost", "http://LOCALHOST:8025", "http://127.0.0.1:80", "http://127.255.1.2/x", "http://[::1]:8025",
    "https://[2001:db8::1]/x", "https://10.0.0.1",
}  # fmt: skip
NOT_URLS = {
    "a.example", "//a.example", "ftp://a.example", "https:/a.example", "https://", "https:///x", "HTTPS://a.example",
    "http://a.example", "http://10.0.0.1", "http://0.0.0.0", "http://localhost.evil.example", "http://127.0.0.1.example",
    "http://127.0.0.999", "http://127.1", "http://2130706433", "http://[::2]", "http://[::ffff:127.0.0.1]", "http://[1",
    "https://[::1::2]", "https://[zz]", "https://api.telegram.org@evil.example", "https://u:p@a.example",
    "http://localhost@evil.example", "http://localhost:80@evil.example", "https://@a.example", "https://a.example:",
    "https://a.example:0", "https://a.example:65536", "https://a.example:x", "https://a.example?x", "https://a.example/?x=1",
    "https://a.example/#x", "https://a.example\\@evil.example", "https://a.example/\\x", "https://a b.example",
    "https://a.example/x y", "https://a.example/\nx", "https://a..example", "https://.a.example", "https://-a.example",
    f"https://{'a' * 64}.example", f"https://{'a.' * 127}example", "https://exämple.eu", "https://a.example/ä",
    f"https://a.example/{'x' * 2000}",
}  # fmt: skip


@pytest.mark.parametrize("variable", [name for name in VARIABLES if name.endswith("_BASE_URL")])
def test_a_base_url_is_encrypted_and_leads_to_one_host_only(tmp_path: Path, variable: str):
    """``http://`` is for this machine alone, and user info, which looks like a host, is for nobody."""
    for url in URLS:
        settings = from_environment(tmp_path, **{variable: url})
        assert getattr(settings, field_of(variable)) == url
    for url in NOT_URLS:
        with pytest.raises(SettingsError, match=f"^{variable} must be a plain `https://` URL"):
            from_environment(tmp_path, **{variable: url})


@pytest.mark.parametrize(
    ("sender", "is_one"),
    [
        ("a@b.c", True), ("<a@b.c>", True), ("Name <a@b.c>", True), ("Zoë & Co. 'X' <a.b+c@d-e.example>", True),
        ('"Energy, Alerts" <a@b.c>', True), ('"x@y.z \\"q\\"" <a@b.c>', True), ("Desk (night) <a@b.c>", True),
        ("a@b.c, d@e.f", False), ("a@b.c; d@e.f", False), ("a@b.c d@e.f", False), ("a@b.c <d@e.f>", False),
        ("A <a@b.c>, B <d@e.f>", False), ("A <a@b.c> B <d@e.f>", False), ("Team: a@b.c, d@e.f;", False),
        ("Team: a@b.c;", False), ("Energy, Alerts <a@b.c>", False), ("Name a@b.c", False), ("Name", False),
        ("Name <>", False), ("@b.c", False), ("a@", False), ("a@b@c", False), ("<@x:a@b.c>", False), ("<a@b.c", False),
        ('"Name <a@b.c>', False), ("(" * 60_000, False), ("(" * 60_000 + " <a@b.c>", False),
        ("(" * 300 + "a@b.c", False),
        ("Name\nBcc: x@y.z <a@b.c>", False), ("Na\tme <a@b.c>", True), ("a b@c.d", False), ("N (x <a@b.c>", False),
    ],
)  # fmt: skip
def test_the_sender_is_one_address(tmp_path: Path, sender: str, is_one: bool):
    """Two would make every email a broken one, or one to answer to a stranger."""
    if is_one:
        assert from_environment(tmp_path, EMAIL_FROM=sender).email_from == sender
        return
    with pytest.raises(SettingsError, match=r"^EMAIL_FROM must be one address, "):
        from_environment(tmp_path, EMAIL_FROM=sender)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("ALERTS_TIMEZONE", zone) for zone in ("Mars/X", "CET", "Europe", "../etc", "/etc/passwd", "x" * 5000)),
        *(("ALERTS_TIMEZONE", zone) for zone in ("localtime", "posix/Europe/Amsterdam", "right/UTC", "posixrules")),
        *(("ALERTS_RULES_DIR", path) for path in ("/none", "x" * 5000, "/bin/sh")),
        *(("ALERTS_TEMPLATES_DIR", path) for path in ("/none", "x" * 5000, "/bin/sh")),
        *(("BREVO_API_KEY", key) for key in ("two words", "two\nlines", "a\x7fb", "a\u2028b", "key CI=true")),
        *(("DATABASE_URL", url) for url in ("mysql://h/d", "h/d", "postgresql:h", "postgresql://h\nx", "x postgres://h")),
        ("TWILIO_PHONE_NUMBER", "+1\n2"), ("EMAIL_PROVIDER", "sendgrid"), ("EMAIL_PROVIDER", "Brevo"),
        ("ALERTS_DIGEST_PERIOD", "weekly"), ("ALERTS_DIGEST_PERIOD", "burst"), ("ALERTS_QUOTA_OVERFLOW", "keep"),
        ("ALERTS_UNCERTAIN_SEND", "null"),
        ("ALERTS_FAIL_OPEN_ON_CHANNEL_MISSING", "perhaps"),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused_now(tmp_path: Path, variable: str, value: str):
    """A zone that PostgreSQL has differently, a folder that is none, a key that no header can carry."""
    with pytest.raises(SettingsError, match=f"^{variable} must be "):
        from_environment(tmp_path, **{variable: value})


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "on", "True "])
def test_only_a_word_for_yes_is_one(tmp_path: Path, word: str):
    """CLI-2."""
    assert from_environment(tmp_path, ALERTS_V2_ENABLED=word).enabled
    assert not from_environment(tmp_path, ALERTS_V2_ENABLED=f"x{word}").enabled


def test_defaults_are_what_the_settings_accept():
    """They are not validated at each start."""
    defaults = {name: one.default for name, one in FIELDS.items() if one.default is not None}
    assert Settings(_variables=Variables(), **defaults) == NOTHING_SET


@pytest.mark.parametrize("lease", ["40", "50", "50.05"])
def test_a_lease_outlives_a_send(tmp_path: Path, lease: str):
    """Else a message on its way is sent again, or none can ever begin (C-2)."""
    with pytest.raises(SettingsError) as raised:
        from_environment(tmp_path, ALERTS_SEND_LEASE_SECONDS=lease, ALERTS_SEND_TIMEOUT_SECONDS="30")
    (problem,) = raised.value.problems
    assert problem.text.startswith("ALERTS_SEND_LEASE_SECONDS must exceed")
    assert len(problem.variables) == 3
    assert from_environment(tmp_path, ALERTS_SEND_LEASE_SECONDS="50.1", ALERTS_SEND_TIMEOUT_SECONDS="30")


# --- errors ---------------------------------------------------------------------------------------------------------

WRONG = [
    "null", "[1]", "secret-value", "-1", "nan", "inf", "1e400", "9" * 5000, "{", "[" * 60_000, "(" * 60_000, "http://secret",
    "secret value", "https://secret@x", '{"secret-value": {"email": "secret-value"}}', '{"a": {"secret\x1b": 1}}',
    "\udcff-secret", "secret\0", "\x1b[31msecret", "1;2", "secret@a.example, secret@b.example", "postgresql:secret",
]  # fmt: skip
OF_PYDANTIC = (
    "Input",
    "should be",
    "valid",
    "Value error",
    "value error",
    "type=",
    "pydantic",
    "parse",
    "Extra",
    "errors.",
)


def refusal(**given: Any) -> SettingsError | None:
    """The error that these settings are, or ``None`` when they can be used."""
    try:
        Settings(**given)
    except SettingsError as error:
        return error
    return None


@pytest.mark.parametrize("variable", VARIABLES)
def test_errors_are_sentences_of_our_own_without_values(variable: str):
    """One for each variable at fault, nothing of pydantic's, and nothing of the value in the whole chain."""
    for value in WRONG:
        error = refusal(_variables=read_variables(VARIABLES, {variable: value}, None))
        if error is None:
            continue
        (problem,) = error.problems
        assert (str(error), problem.variables) == (problem.text, (variable,))
        assert problem.text.startswith(f"{variable} must be ")
        assert len(problem.text) < 400
        assert problem.text.isprintable()
        assert (error.__cause__, error.__context__) == (None, None)
        assert not any(word in problem.text for word in OF_PYDANTIC), problem.text
        told = "".join(traceback.format_exception(error))
        assert "secret-value" not in told.replace("see secret-value", "")
        assert all(part not in problem.text for part in ("[[", "((", "\x1b", "999"))


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_types_from_code_are_the_same_sentences(name: str):
    """Whatever an application passes by the name of a field."""
    for value in (object(), b"\xff", [object()], {1: 2}, {"a": object()}, float("nan")):
        error = refusal(_variables=Variables(), **{name: value})
        if error is not None:
            assert str(error).startswith(f"{variable_name(name)} must be {accepted(FIELDS[name])}")
            assert error.__context__ is None


def test_every_problem_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And what can be used is used, so that preflight looks at the rest (R-2)."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALERTS_MAX_ATTEMPTS", "x")
    monkeypatch.setenv("GITHUB_SHA", "\udcff")
    (tmp_path / ".env").write_text("EMAIL_FROM=x\nwhat\nALERTS_SEND_BATCH_SIZE=7\nALERTS_SEND_LEASE_SECONDS=1\n")
    settings, problems = load_usable_settings()
    assert [problem.text.split()[0] for problem in problems] == [
        ".env,", "GITHUB_SHA", "ALERTS_MAX_ATTEMPTS", "EMAIL_FROM", "ALERTS_SEND_LEASE_SECONDS",
    ]  # fmt: skip
    assert settings.send_batch_size == 7
    assert settings.model_fields_set == {"send_batch_size"}
    with pytest.raises(SettingsError, match=r"^\.env, line 2: not of the form NAME=value"):
        load_settings()


def test_two_problems_are_two_sentences(tmp_path: Path):
    """In one line."""
    with pytest.raises(SettingsError) as raised:
        from_environment(tmp_path, ALERTS_MAX_ATTEMPTS="x", EMAIL_PROVIDER="x")
    assert str(raised.value) == (
        "ALERTS_MAX_ATTEMPTS must be a whole number from 1 to 1000. EMAIL_PROVIDER must be `brevo` or `resend`"
    )
