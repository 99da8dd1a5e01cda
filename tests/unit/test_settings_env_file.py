"""The ``.env`` file: what is in it is read, and what cannot be read is never dropped (SPEC section 4)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from alerts_engine.settings.env_file import EnvFile, read_env_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALLOWLIST = "ALERTS_SEND_ALLOWLIST_USER_IDS"
KNOWN = (ALLOWLIST, "ALERTS_TIMEZONE", "EMAIL_FROM", "BREVO_API_KEY", "DATABASE_URL", "CI")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def read(path: Path, content: str | bytes, **environ: str) -> EnvFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_env_file(path, environ, KNOWN)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("", {}),
        ("# a comment\n\n   # another\n", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("export A=1\n  export   B = 2  \n", {"A": "1", "B": "2"}),
        ("A=1 # why\nB='2 # not why' # why\n", {"A": "1", "B": "2 # not why"}),
        ("\ufeffA=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB='2'\r\n\r\nC=\"3\"\r\n", {"A": "1", "B": "2", "C": "3"}),
        ("A=\nB=''\n", {"A": "", "B": ""}),
        ("A=one two\nB=\"one 'two'\"\nC='one \"two\"'\n", {"A": "one two", "B": "one 'two'", "C": 'one "two"'}),
        ('A="one\\ntwo"\nB=\'{\n  "pro": {}\n}\'\n', {"A": "one\ntwo", "B": '{\n  "pro": {}\n}'}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("app.name=1\nother-name=2\n'C'=3\n", {"app.name": "1", "other-name": "2", "C": "3"}),
        ("A=Zoë <z@b.c>\n", {"A": "Zoë <z@b.c>"}),
        ("A=postgresql://u@h/d?application_name=alerts&a=b\n", {"A": "postgresql://u@h/d?application_name=alerts&a=b"}),
        ("KEY='-----BEGIN KEY-----\nMIIEvQIB\nabcd==\nabc=\n-----END KEY-----'\nB=1\n", {"B": "1"}),
        ("CMD='env DATABASE_URL=x ALERTS_TIMEZONE=y run'\nB=1\n", {"B": "1"}),
    ],
)
def test_what_is_there_is_read(path: Path, content: str, values: dict[str, str]):
    """Comments, ``export``, quotes, values of several lines, a byte order mark and Windows' line ends."""
    found = read(path, content)
    assert (found.problems, found.warnings) == ((), ())
    assert values.items() <= found.values.items()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (f'A=1\n{ALLOWLIST}="1,2\n', "line 2"),
        (f"A=1\n\n# b\n\n{ALLOWLIST}='1,2\nB=2\n", "line 5"),
        (f"{ALLOWLIST}: 1,2\n", "line 1"),
        (f"{ALLOWLIST}:1,2\n", "line 1"),
        (f"{ALLOWLIST} 1,2\n", "line 1"),
        (f"A=1\n{ALLOWLIST}\n=1,2\n", "lines 2, 3"),
        (f"set {ALLOWLIST}=1,2\n", "line 1"),
        (f"export {ALLOWLIST}\n", "line 1"),
        (f'{ALLOWLIST}="1",2\n', "line 1"),
        (f"-{ALLOWLIST}=1,2\n", "line 1"),
        (f'EMAIL_FROM="Zoë <a@b.c>\n{ALLOWLIST}=1,2\nB="3"\n', "line 1"),
        (f'EMAIL_FROM="Zoë <a@b.c>\n{ALLOWLIST}=1,2\nB=3"\n', "line 1"),
        (f"A='it\n  export  '{ALLOWLIST}' = 1,2\nB=it's\n", "line 1"),
        (f'A="1\n{ALLOWLIST}=\nB=2"\n', "line 1"),
        ("A=1\r\nB='2\r\nOTHER=3\r\nC=4'\r\n", "line 2"),
        (f"A=1 {ALLOWLIST}=1,2\n", "line 1"),
        (f"BREVO_API_KEY=key{ALLOWLIST}=1,2\n", "line 1"),
        ("A=1 export DATABASE_URL=x\n", "line 1"),
        ("one\ntwo\nA=1\nthree\nfour\nfive\nsix\nseven\n", "lines 1, 2, 4, 5, 6 and 2 more"),
        ("=1\n", "line 1"),
        ("\0\0A\0=\x001\0\n", "line 1"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line_and_never_shown(path: Path, content: str, where: str):
    """A quote that was forgotten, here or in the line before, and whatever else is no assignment (section 4)."""
    found = read(path, content)
    assert found.problems == (f"{path}, {where}: not of the form NAME=value; a quote may be missing",)


LINES = [
    "# alerts",
    "EMAIL_FROM='Energy, Alerts <a@b.c>'",
    'BREVO_API_KEY="key-1"',
    "",
    "export DATABASE_URL=postgresql://u:p@h/d",
    f"{ALLOWLIST}=1,2",
    "OTHER=it's",
    "ALERTS_TIMEZONE=Europe/Amsterdam",
    'LAST="one"',
]
BEFORE = "\n".join(LINES[1:5]) + "\n"
AFTER = "\n" + "\n".join(LINES[6:]) + "\n"


SIGNS = ["", *"'\"\\=# :x\n\0$"]


def slips(text: str) -> Iterator[str]:
    """``text`` with one sign lost, added or mistaken, at each place."""
    for position, removed, sign in itertools.product(range(len(text) + 1), (0, 1), SIGNS):
        yield text[:position] + sign + text[position + removed :]


def test_no_slip_of_one_sign_elsewhere_takes_a_line_away(path: Path):
    """Whatever is lost, added or mistaken before or behind the allowlist: it is in force, or nothing runs."""
    line = f"{ALLOWLIST}=1,2"
    # A slip in the line itself is another matter: a "#" before it is a comment, and meant to be one.
    files = [f"{before}{line}{AFTER}" for before in slips(BEFORE) if len(before.rpartition("\n")[2]) != 1]
    files += [f"{BEFORE}{line}{after}" for after in slips(AFTER) if after.startswith("\n")]
    assert len(files) > 3000
    for content in files:
        found = read(path, content)
        assert found.problems or found.values[ALLOWLIST] == "1,2", content


def test_a_file_that_is_not_utf_8_is_named_with_the_line(path: Path):
    """Windows' and Latin encodings, and UTF-16 (section 4)."""
    found = read(path, b"BREVO_API_KEY=xkeysib-SECRET\nEMAIL_FROM=Energ\xeda <a@b.c>\n")
    assert found.problems == (f"{path}, line 2: not UTF-8 text; save the file as UTF-8",)
    assert read(path, "A=1\n".encode("utf-16")).problems == (f"{path}, line 1: not UTF-8 text; save the file as UTF-8",)
    assert read(path, "A=1\n".encode("utf-16-le")).problems != ()


def test_no_file_is_an_empty_one_but_one_that_cannot_be_read_is_none(path: Path):
    """A folder, a link into nowhere and a disk that does not answer are not the absence of a file."""
    assert read_env_file(path, {}, KNOWN) == EnvFile()
    path.symlink_to("nowhere")
    assert read_env_file(path, {}, KNOWN).problems == (f"{path} is a link to a file that is not there",)
    path.unlink()
    path.symlink_to("/proc/self/mem")
    assert read_env_file(path, {}, KNOWN).problems == (f"{path} cannot be read: Input/output error",)
    path.unlink()
    path.mkdir()
    assert read_env_file(path, {}, KNOWN).problems == (f"{path} cannot be read: Is a directory",)


def test_the_last_of_two_lines_counts_with_a_warning(path: Path):
    """As python-dotenv has it; a name that is nobody's setting is nobody's business."""
    found = read(path, f"{ALLOWLIST}=1\nA=1\nA=2\n{ALLOWLIST}=2\n")
    assert found.values[ALLOWLIST] == "2"
    assert found.warnings == (f"{ALLOWLIST} is set more than once in {path}, lines 1, 4: the last one counts",)


def test_references_are_replaced_and_one_to_nothing_is_a_problem(path: Path):
    """``${NAME}`` is python-dotenv's; an empty text in its place would be somebody's allowlist or password."""
    content = "A=one\nDATABASE_URL=postgresql://${USER_}:${PW:-none}@h/${A}\n"
    assert read(path, content, USER_="me").values["DATABASE_URL"] == "postgresql://me:none@h/one"
    problem = f"DATABASE_URL in {path}, line 2, refers to a variable that is not set"
    assert read(path, content).problems == (problem,)
    assert read(path, "A=${MISSING}\n").problems == ()
