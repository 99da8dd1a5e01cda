"""The inbox page: markup, style and script in files of their own, one text for the browser."""

from __future__ import annotations

from importlib.resources import files

_SCRIPTS = ("messages.js", "page.js")


def inbox_page() -> str:
    """The whole page, with one script and nothing to be loaded."""
    page = _read("page.html").replace(
        '<link rel="stylesheet" href="style.css">', f"<style>\n{_read('style.css')}</style>"
    )
    tags = "\n".join(f'<script src="{name}"></script>' for name in _SCRIPTS)
    return page.replace(tags, f"<script>\n{''.join(map(_read, _SCRIPTS))}</script>")


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text("utf-8")
