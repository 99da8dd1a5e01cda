"""Who a request is meant for, and which page sent it: against DNS rebinding and against requests across sites.

A web page that somebody happens to visit can make the browser call this machine. It can do so under a name of its own
that leads here (DNS rebinding), and then read everything; or across sites, and then change something unread.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

_OWN_PAGE = frozenset({"same-origin", "none"})


def is_meant_for(host: str, names: frozenset[str], local: str) -> bool:
    """Whether the Host header names this machine: one of ``names``, a loopback name, or the address it came in at."""
    name = _name_in(host)
    return name in names or is_this_machine(name) or (bool(name) and name == local.removeprefix("::ffff:"))


def is_of_another_site(host: str, fetch_site: str | None, origin: str | None) -> bool:
    """Browsers say where a request comes from; nobody else does, and pages cannot keep them from it.

    A request that says both must be right in both. Behind a proxy the Host header may not be the name that the browser
    knows; whoever serves there asks for the origin only where nothing is said of the site.
    """
    own = (f"http://{host}".lower(), f"https://{host}".lower())
    return (fetch_site is not None and fetch_site not in _OWN_PAGE) or (
        origin is not None and origin.lower() not in own
    )


def is_loopback(name: str) -> bool:
    """Whether it is an address that only this machine reaches."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


@lru_cache(maxsize=256)
def is_this_machine(name: str) -> bool:
    """Whether the name leads to this machine, wherever it is said."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


@lru_cache(maxsize=256)
def _name_in(host: str) -> str:
    """The name in ``name:port``; empty when it is neither."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
    except ValueError:
        return ""
    return "" if found.netloc != host or "@" in host else bare_name(found.hostname or "")


def bare_name(name: str) -> str:
    """A host's name as two spellings of it are the same."""
    return name.lower().strip("[]").removesuffix(".")
