"""What a setting may be, beyond numbers and words: each type says what it accepts, for its error and for the docs.

A validator raises a bare ``ValueError``: the error's text is made of what the setting accepts, never of the value.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from alerts_engine.channel_names import channel_names
from alerts_engine.types import Channel


class Accepts(str):
    """Metadata of a type: what it accepts, so that “… must be {words}” is a sentence."""

    __slots__ = ()


class AcceptsChannels(Accepts):
    """Packages add channels: what is accepted is known when it is asked for."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"channels with commas between them, of {', '.join(f'`{name}`' for name in channel_names())}"


# --- words ----------------------------------------------------------------------------------------------------------


def _is_yes(value: Any) -> bool:
    # The engine runs when it is told so expressly (SPEC CLI-2), and CI is other tools' variable.
    return value is True or str(value).strip().lower() in {"1", "true", "yes", "on"}


def _line(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text or not text.isprintable():
        raise ValueError
    return SecretStr(text)


def _credential(value: SecretStr) -> SecretStr:
    line = _line(value)
    if " " in line.get_secret_value():
        raise ValueError
    return line


_SHORTEST_SECRET = 32
"""Characters: as many as no one guesses, whatever they are made of."""


def _secret(value: SecretStr) -> SecretStr:
    if len(_credential(value).get_secret_value()) < _SHORTEST_SECRET:
        raise ValueError
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    if not (re.match(r"postgres(ql)?://", value.get_secret_value()) and value.get_secret_value().isprintable()):
        raise ValueError
    return value


_OTHER_ZONES_IN_POSTGRESQL = ("posix/", "right/", "localtime", "posixrules", "CET", "EET", "MET", "WET")
"""Names that a host may have for itself, and four that PostgreSQL takes for a fixed offset without summer time."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError from None
    if value.startswith(_OTHER_ZONES_IN_POSTGRESQL):
        raise ValueError
    return value


Flag = Annotated[bool, BeforeValidator(_is_yes), Accepts("`true`; any other word is `false`")]
Secret = Annotated[SecretStr, AfterValidator(_secret), Accepts("at least 32 characters without spaces")]
Credential = Annotated[SecretStr, AfterValidator(_credential), Accepts("text without spaces")]
SenderNumber = Annotated[SecretStr, AfterValidator(_line), Accepts("one line of text")]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url), Accepts("a URL that begins with `postgresql://`")]
TimeZone = Annotated[str, AfterValidator(_zone), Accepts("the name of a time zone, such as `Europe/Amsterdam`")]


# --- lists and objects ----------------------------------------------------------------------------------------------


def _pieces(value: Any) -> Any:
    return [piece.strip() for piece in value.split(",")] if isinstance(value, str) else value


def _user_ids(value: Any) -> Any:
    pieces = _pieces(value)
    if pieces is value:
        return value
    # What int() reads besides plain digits, such as "1_000", was meant otherwise: an allowlist fails closed.
    if not all(re.fullmatch(r"[1-9][0-9]{0,18}", piece) for piece in pieces):
        raise ValueError
    return [int(piece) for piece in pieces]


def _known(channels: tuple[str, ...]) -> tuple[str, ...]:
    # The packages that are installed are looked through only for a name that is none of the engine's.
    unknown = set(channels) - set(Channel)
    if unknown and not unknown <= set(channel_names()):
        raise ValueError
    return channels


def _json_object(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError from None


UserId = Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
UserIds = Annotated[
    tuple[UserId, ...],
    BeforeValidator(_user_ids),
    Accepts("user ids with commas between them, such as `1,2`: whole numbers from 1, and nothing else"),
]
Channels = Annotated[tuple[str, ...], BeforeValidator(_pieces), AfterValidator(_known), AcceptsChannels("channels")]
FromJson = BeforeValidator(_json_object)


# --- addresses and places -------------------------------------------------------------------------------------------

_LONGEST_SENDER = 320
_LONGEST_URL = 2000
_LONGEST_HOST = 253
_LARGEST_PORT = 65535
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL = (
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"""(?:/[!"$->@-\[\]-~]*)?"""
)
"""Patterns are compiled at their first use: most runs need none of them."""
_ADDRESS = r"""[^@\s<>,;:"()\[\]\\]+@[^@\s<>,;:"()\[\]\\]+"""
_SENDER = rf"""(?P<bare>{_ADDRESS})|(?:"(?:[^"\\\r\n]|\\.)*"\s*|[^"<>@,;:\[\]\\\r\n]*)<(?P<address>{_ADDRESS})>"""


def _http_url(value: str) -> str:
    """A URL that everybody reads alike: no user, no query, and only signs that need no interpretation."""
    found = re.fullmatch(_URL, value) if len(value) <= _LONGEST_URL else None
    if found is None:
        raise ValueError
    host, port = found["host"], found["port"]
    if len(host) > _LONGEST_HOST or not 1 <= int(port or "443") <= _LARGEST_PORT:
        raise ValueError
    # Whoever stands between here and there would read every key and message.
    if not _is_this_machine(host) and found["scheme"] == "http":
        raise ValueError
    return value.rstrip("/")


def _is_this_machine(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    if not host.startswith(("127.", "[")):
        return False
    from ipaddress import IPv6Address, ip_address

    address = ip_address(host.strip("[]"))  # raises ValueError for what is none
    return address == IPv6Address("::1") if host.startswith("[") else address.is_loopback


def _one_sender(value: str) -> str:
    found = re.fullmatch(_SENDER, value) if len(value) <= _LONGEST_SENDER else None
    if found is None:
        raise ValueError
    from email.utils import parseaddr

    # The adapters read it by this function: what they take out of it must be what was checked.
    if parseaddr(value)[1] != (found["bare"] or found["address"]):
        raise ValueError
    return value


def _existing_folder(value: Path) -> Path:
    try:
        is_folder = value.is_dir()
    except OSError:
        is_folder = False
    if not is_folder:
        raise ValueError
    return value


HttpUrl = Annotated[
    str,
    AfterValidator(_http_url),
    Accepts("a plain `https://` URL without user, query and fragment; `http://` only for this machine (`localhost`)"),
]
Sender = Annotated[
    str,
    AfterValidator(_one_sender),
    Accepts("one address, `Name <a@b.c>` or `a@b.c`; a name with signs such as a comma stands in double quotes"),
]
Folder = Annotated[Path, AfterValidator(_existing_folder), Accepts("an existing folder")]
