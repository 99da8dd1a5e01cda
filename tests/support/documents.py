"""Reading the documents: their blocks, tables and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
MANUAL = "replit.md"

_NOT_OURS = {".venv", ".git", ".alerts-engine", "build", "node_modules"}
DOCUMENTS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in REPOSITORY.rglob("*.md")
    if not _NOT_OURS & set(path.relative_to(REPOSITORY).parts[:-1])
)
"""Every page of the repository, from its root."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, and its lines."""

    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def file(self) -> str | None:
        """Where it is to be saved, when its first line says so."""
        found = re.search(r"\bfile: (\S+)", self.lines[0])
        return found[1] if found else None


def text_of(document: str) -> str:
    """A file of the repository."""
    return (REPOSITORY / document).read_text("utf-8")


def blocks(document: str) -> list[Block]:
    """The fenced blocks, in their order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)
    return [Block(language, tuple(body.rstrip("\n").split("\n"))) for language, body in found]


def section(document: str, heading: str) -> str:
    """What stands below a heading, to the next one of its rank or above."""
    rank = len(heading.split(" ", 1)[0])
    return re.split(rf"^#{{1,{rank}}} ", f"\n{text_of(document)}".split(f"\n{heading}\n", 1)[1], flags=re.MULTILINE)[0]


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    rows = re.search(r"^\|.*?\n(?!\|)", section(document, heading) + "\n", re.MULTILINE | re.DOTALL)
    assert rows is not None, heading
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows[0].splitlines()]
    return cells[2:]


def names(cell: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


def anchors(document: str) -> set[str]:
    """The headings, as links name them."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
