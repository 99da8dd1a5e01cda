"""What the mail programs of this world show of an HTML email: caniemail.com's tests, held against a message."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TABLE = json.loads(Path(__file__).with_name("support.json").read_text(encoding="utf-8"))
CLIENTS: tuple[str, ...] = tuple(_TABLE["clients"])
SUPPORT: Mapping[str, str] = _TABLE["support"]
"""For each feature a letter a client: ``y`` supported, ``a`` in part, ``n`` not, ``u`` not known."""

WITHOUT = {
    "css-at-media": "a phone keeps the desk's padding",
    "css-at-media-prefers-color-scheme": "the light colours, or the program's dark ones",
    "css-color-scheme": "the light colours, or the program's dark ones",
    "css-border-radius": "square corners",
    "css-height": "a gap of another height; the attribute says it, too",
    "css-max-height": "nothing: the preview line is hidden by mso-hide there",
    "css-overflow": "nothing: the preview line is hidden by mso-hide there",
    "css-white-space": "a badge that may break into two lines",
    "css-word-break": "a very long word makes the page wider",
    "html-aria-hidden": "a screen reader says the dots, too",
    "html-body": "nothing: the table around the page has the same colours",
}
"""What some program does not show, and what its reader sees instead."""

_ELEMENTS = {"h1": "h1-h6", "h2": "h1-h6", "th": "table", "td": "table", "tr": "table"}
_BARE = frozenset({"html", "head", "title", "meta", "a", "br"})
"""What every program knows, so that nobody tests it."""
_BARE_ATTRIBUTES = frozenset({
    "charset", "name", "content", "class", "style", "href", "border", "scope", "bgcolor", "http-equiv",
})  # fmt: skip
_BARE_PROPERTIES = frozenset({"color", "font-family", "text-size-adjust", "supported-color-schemes"})
_LONGHANDS = re.compile(r"(padding|margin|border|background|font)-(?:top|right|bottom|left|color|style).*")
_AT_RULE = re.compile(r"@(?P<name>[\w-]+)(?P<query>[^{;]*)[{;]")
_DECLARATION = re.compile(r"(?P<name>[\w-]+)\s*:\s*(?P<value>[^;{}]+)(?=[;}]|\Z)")
_UNIT = re.compile(r"(?<![\w#.])-?[\d.]+(?P<unit>px|em|rem|pt|vw|vh|ch|ex|cm|mm|in|%)")


@dataclass(frozen=True, slots=True)
class Missing:
    """A feature that some mail programs do not show."""

    feature: str
    clients: tuple[str, ...]


class _Used(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.features: set[str] = set()
        self.css: list[str] = []
        self._in_style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        if tag not in _BARE:
            self.features.add(f"html-{_ELEMENTS.get(tag, tag)}")
        for name, value in attrs:
            if name == "style":
                self.css.append(value or "")
            elif name not in _BARE_ATTRIBUTES:
                self.features.add(f"html-{name}")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - called so by HTMLParser
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.css.append(data)


@cache
def features(html: str) -> frozenset[str]:
    """What ``html`` makes use of, by caniemail's names; conditional comments are for the programs that they name."""
    used = _Used(html)
    found = set(used.features)
    for css in used.css:
        found |= {f"css-at-{_at_rule(rule)}" for rule in _AT_RULE.finditer(css)}
        plain = re.sub(r"\([^)]*\)", "", css) if "@" in css else css
        for declaration in _DECLARATION.finditer(plain):
            found |= _of_declaration(declaration["name"].casefold(), declaration["value"].casefold())
    return frozenset(found)


def missing(html: str, *, accepted: Iterable[str] = ()) -> list[Missing]:
    """What of ``html`` some program does not show, and what nobody has tested, but for ``accepted``."""
    faults = []
    for feature in sorted(features(html) - set(accepted)):
        letters = SUPPORT.get(feature)
        without = (
            CLIENTS if letters is None else tuple(c for c, one in zip(CLIENTS, letters, strict=True) if one == "n")
        )
        if without:
            faults.append(Missing(feature, without))
    return faults


def _at_rule(rule: re.Match[str]) -> str:
    kinds = ("prefers-color-scheme", "prefers-reduced-motion", "orientation", "hover", "device-pixel-ratio")
    return next((f"{rule['name']}-{kind}" for kind in kinds if kind in rule["query"]), rule["name"])


def _of_declaration(name: str, value: str) -> set[str]:
    if name.startswith("mso-"):
        return set()
    plain = name.removeprefix("-webkit-").removeprefix("-moz-")
    found = set() if plain in _BARE_PROPERTIES else {f"css-{_property(plain)}"}
    found |= {f"css-unit-{'percent' if one['unit'] == '%' else one['unit']}" for one in _UNIT.finditer(value)}
    if "!important" in value:
        found.add("css-important")
    if plain == "display" and value.split(maxsplit=1)[0] in {"none", "flex", "grid"}:
        found.add(f"css-display-{value.split(maxsplit=1)[0]}")
    for function in ("rgba", "rgb", "calc", "var", "clamp", "light-dark", "linear-gradient"):
        if f"{function}(" in value:
            known = {
                "var": "variables",
                "calc": "unit-calc",
                "clamp": "function-clamp",
                "light-dark": "function-light-dark",
            }
            found.add(f"css-{known.get(function, function)}")
    return found


def _property(name: str) -> str:
    if f"css-{name}" in SUPPORT:
        return name
    long = _LONGHANDS.fullmatch(name)
    return long[1] if long else name
