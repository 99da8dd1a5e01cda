"""How an answer looks: tables that fit any width.

Nothing is cut away: long words fold, and a table without the room for its columns is a list of records. Whatever is
drawn goes through :func:`visible`, so that no text of an event can play with the terminal. rich is imported when
something is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from alerts_engine.plain_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType
    from rich.text import Text

_STYLES = {
    "success": "green", "failed": "bold red", "skipped": "yellow", "running": "cyan",
    "✓": "green", "✗": "bold red", "!": "bold yellow",
}  # fmt: skip
_WARNING = r"(?m)^! .*$"
_GAP = 2
_LONGEST_WORD = 36
"""A run's id. What is longer, such as a path, may fold."""
_SENTENCE = 24
"""A column of sentences that is narrower is hard to read."""


_LONGEST_NAME = 16


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head, or, where they do not fit, records."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    if_empty: str = "nothing to show"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one below the other."""

    title: str
    values: Sequence[tuple[str, str]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Marked:
    """Sentences, each with a mark before it."""

    title: str
    lines: Sequence[tuple[str, str]]
    caption: str = ""


Block = Table | Facts | Marked


def drawn(block: Block, width: int) -> Iterator[RenderableType]:
    """What rich prints for ``block`` on ``width`` columns."""
    from rich.text import Text

    if block.title:
        yield _text(block.title, "bold")
    match block:
        case Table(rows=[]):
            yield _text(block.if_empty)
        case Table():
            widths = column_widths((block.columns, *block.rows), width)
            yield from _records(block, width) if widths is None else [_side_by_side(block, widths)]
        case Facts():
            yield from _record(block.values, width)
        case Marked():
            yield _pairs([(_text(mark, _style(mark)), _text(line)) for mark, line in block.lines])
        case _:
            assert_never(block)
    if block.caption:
        yield Text()
        yield _text(block.caption)


def column_widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """How wide each column is to be so that all of them fit; ``None`` when they can't be read side by side."""
    columns = [[visible(cell) for cell in column] for column in zip(*rows, strict=True)]
    widths = [_longest(cell.split("\n") for cell in column) for column in columns]
    words = [_longest(cell.split() for cell in column) for column in columns]
    least = [min(full, max(_SENTENCE, min(word, _LONGEST_WORD))) for full, word in zip(widths, words, strict=True)]
    room = width - _GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
        widths[widest] -= 1
    return widths


def _longest(pieces: Iterable[list[str]]) -> int:
    from rich.cells import cell_len

    return max((cell_len(piece) for some in pieces for piece in some), default=0)


def _side_by_side(table: Table, widths: Sequence[int]) -> RenderableType:
    from rich import box
    from rich.table import Table as Grid

    # The divider of this box is the second column of the gap.
    padding = (0, _GAP - 1, 0, 0)
    airy = any("\n" in cell for row in table.rows for cell in row)
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, leading=int(airy))
    for name, width in zip(table.columns, widths, strict=True):
        grid.add_column(_text(name), width=max(width, 1), overflow="fold")
    for row in table.rows:
        grid.add_row(*(_text(cell, _style(cell)) for cell in row))
    return grid


def _records(table: Table, width: int) -> Iterator[RenderableType]:
    """Each row as a record: a name and a value for each column that says something."""
    from rich.text import Text

    for number, row in enumerate(table.rows):
        if number:
            yield Text()
        yield from _record([pair for pair in zip(table.columns, row, strict=True) if pair[1]], width)


def _record(values: Sequence[tuple[str, str]], width: int) -> Iterator[RenderableType]:
    """Values beside their names; one with a word that would break there stands below its name."""
    from rich.padding import Padding

    name_width = min(_LONGEST_NAME, _longest([name] for name, _ in values))
    room = width - name_width - _GAP
    for name, value in values:
        if room < min(_longest([visible(value).split()]), _LONGEST_WORD):
            yield _text(name, "bold")
            yield Padding(_text(value, _style(value)), (0, 0, 0, _GAP))
        else:
            yield _pairs([(_text(name, "bold"), _text(value, _style(value)))], name_width)


def _pairs(pairs: Sequence[tuple[Text, Text]], first_width: int | None = None) -> RenderableType:
    from rich.table import Table as Grid

    grid = Grid.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(width=first_width, overflow="fold")
    grid.add_column(overflow="fold")
    for pair in pairs:
        grid.add_row(*pair)
    return grid


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    shown = Text(visible(text), style=style, overflow="fold")
    shown.highlight_regex(_WARNING, _STYLES["!"])
    return shown


def _style(cell: str) -> str:
    return _STYLES.get(cell.partition("\n")[0], "")
