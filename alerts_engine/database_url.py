"""What may be said of a DATABASE_URL: where the server is. Never who connects, and by which password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from alerts_engine.errors import DatabaseUnreachableError

_SCHEMES = {"postgres", "postgresql"}
_DEFAULT_PORT = "5432"
_HOST = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>.*))?")
_HALF_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WITH_TLS = {"require", "verify-ca", "verify-full"}


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a URL names, and what its errors must not show."""

    where: str = ""
    """Hosts and ports, or sockets; empty when the environment decides."""
    host: str | None = None
    """The host's name, if there is just one."""
    user: str | None = field(default=None, repr=False)
    wants_tls: bool = False


def target_of(url: str) -> Target:
    """Read ``url``; raises :class:`DatabaseUnreachableError` when its clients would not understand it alike.

    asyncpg and libpq take a malformed URL apart at different places, and both may then look for half of a password as
    a host or a port, and say so. So one in doubt gets to neither.
    """
    scheme, _, rest = url.partition("://")
    authority, tail = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    info, _, servers = authority.rpartition("@")
    query = _query(tail)
    problem = _problem(scheme, rest, authority, tail)
    hosts = _hosts(unquote(servers) or query.get("host", ""), query.get("port", ""))
    if problem is None and hosts is None:
        problem = "a port must be a number, and an IPv6 address stands in [ ]"
    if problem is not None or hosts is None:
        raise DatabaseUnreachableError(f"DATABASE_URL cannot be used: {problem}")
    return Target(
        where=", ".join(_place(host, port) for host, port in hosts),
        host=hosts[0][0] if len(hosts) == 1 and not hosts[0][0].startswith("/") else None,
        user=unquote(info.partition(":")[0]) or query.get("user"),
        wants_tls=query.get("sslmode") in _WITH_TLS,
    )


def _problem(scheme: str, rest: str, authority: str, tail: str) -> str | None:
    if scheme not in _SCHEMES:
        return "it must begin with postgresql://"
    if re.search(r"\s", rest):
        return "a space is written as %20"
    if _HALF_ENCODED.search(rest):
        return "a % that encodes nothing is written as %25"
    elsewhere = re.sub(r"(?<=[?&])(?:user|password)=[^&]*", "", tail)
    info, _, _ = authority.rpartition("@")
    if "#" in rest or "@" in elsewhere or re.search(r"[@\[\]]", info):
        return "in user and password, / is written as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and ] as %5D"
    _, _, parameters = tail.partition("?")
    if parameters and not _query(tail):
        return "what follows the ? must be name=value, joined by &"
    return None


def _query(tail: str) -> dict[str, str]:
    """The parameters; none when they cannot be read."""
    pairs = [pair.split("=", 1) for pair in tail.partition("?")[2].split("&")]
    if any(len(pair) == 1 for pair in pairs):
        return {}
    return {name: unquote(value) for name, value in pairs}


def _hosts(hosts: str, ports: str) -> list[tuple[str, str]] | None:
    """Each host with its port, which may be one for all; ``None`` when one makes no sense."""
    listed = ports.split(",") if ports else [""]
    names = hosts.split(",") if hosts else []
    found = [_host_and_port(name, port) for name, port in zip(names, listed * len(names), strict=False)]
    return found if all(port.isdigit() for _, port in found) else None


def _host_and_port(name: str, port: str) -> tuple[str, str]:
    if name.startswith("/"):
        return name, port or _DEFAULT_PORT
    match = _HOST.fullmatch(name)
    return ("", "?") if match is None else (match["host"], port or match["port"] or _DEFAULT_PORT)


def _place(host: str, port: str) -> str:
    if host.startswith("/"):
        return f"the socket in {host}"
    return f"{host}:{port}" if host else f"port {port}"
