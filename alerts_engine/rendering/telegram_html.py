"""Telegram's own small HTML (Bot API, "HTML style"): is a text valid, and how long is it after parsing."""

from __future__ import annotations

import re
from html import unescape

from alerts_engine.errors import TemplateError
from alerts_engine.rendering.cleaning import utf16_length

LONGEST_TEXT = 4096
"""UTF-16 units after parsing (SPEC M-2)."""

_TOKEN = re.compile(r"<(?P<end>/?)(?P<tag>[a-z][a-z0-9-]*)(?P<attributes>[^<>]*)>")
_PLAIN_TAGS = ("b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "pre", "tg-spoiler")
_ATTRIBUTES = dict.fromkeys(_PLAIN_TAGS, re.compile("")) | {
    "a": re.compile(r" href=\"[^\"]+\""),
    "code": re.compile(r"(?: class=\"language-[^\"]+\")?"),
    "blockquote": re.compile(r"(?: expandable)?"),
}
_BARE = re.compile(r"[<>]|&(?!(?:lt|gt|amp|quot|#[0-9]{1,7}|#x[0-9a-f]{1,6});)")


def parsed_length(text: str) -> int:
    """UTF-16 units of ``text`` after parsing; :class:`TemplateError` if Telegram would refuse its markup."""
    _check_nesting(text)
    plain = _TOKEN.sub("", text)
    if _BARE.search(plain):
        raise TemplateError("Telegram message: a <, > or & that is neither markup nor escaped")
    return utf16_length(unescape(plain).strip())


def _check_nesting(text: str) -> None:
    open_tags: list[str] = []
    for token in _TOKEN.finditer(text):
        if not token["end"]:
            _check_start(token)
            open_tags.append(token["tag"])
        elif not open_tags or open_tags.pop() != token["tag"] or token["attributes"]:
            raise TemplateError(f"Telegram message: {token[0]} closes nothing")
    if open_tags:
        raise TemplateError(f"Telegram message: <{open_tags[-1]}> is not closed")


def _check_start(token: re.Match[str]) -> None:
    attributes = _ATTRIBUTES.get(token["tag"])
    if attributes is None or not attributes.fullmatch(token["attributes"]):
        raise TemplateError(f"Telegram message: {token[0]} is not a tag of Telegram's")
