"""How an answer is drawn: at any width nothing is cut away (SPEC section 3)."""

from __future__ import annotations

import io
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from alerts_engine.commands.tables.drawing import Block, Facts, Marked, Table, column_widths, drawn

ID = str(UUID(int=7))
COLUMNS = ("phase", "status", "what it did")
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=60)
CELLS = st.lists(WORDS, max_size=8).map(" ".join)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4)


def lines_of(block: Block, width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, emoji=False)
    for piece in drawn(block, width):
        console.print(piece, crop=False)
    return out.getvalue().rstrip("\n").split("\n")


def ink(*texts: str) -> Counter[str]:
    """Every character that is seen, and how often."""
    return Counter(character for text in texts for character in text if not character.isspace() and character != "─")


@given(rows=ROWS, width=st.integers(20, 150))
def test_every_character_of_every_cell_is_there_at_any_width(rows: list[tuple[str, ...]], width: int):
    """Side by side below one head, or as records with a name at each value; and no line is wider than the terminal."""
    lines = lines_of(Table("", COLUMNS, rows, if_empty="none"), width)
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    cells = [cell for row in rows for cell in row]
    if not rows:
        expected = ink("none")
    elif column_widths((COLUMNS, *rows), width):
        expected = ink(*COLUMNS, *cells)
    else:
        expected = ink(*cells, *(name for row in rows for name, cell in zip(COLUMNS, row, strict=True) if cell))
    assert ink(*lines) == expected


@given(values=st.lists(st.tuples(WORDS, CELLS), min_size=1, max_size=4), width=st.integers(20, 150))
def test_facts_and_marked_lines_are_whole_at_any_width(values: list[tuple[str, str]], width: int):
    """Names, marks and what stands behind them."""
    for block in (Facts("", values), Marked("", [("!", value) for _, value in values])):
        lines = lines_of(block, width)
        assert max(cell_len(line.rstrip()) for line in lines) <= width
        assert ink(*lines) >= ink(*(value for _, value in values))


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_an_id_stays_in_one_piece(width: int):
    """So that it can be copied, down to 40 columns."""
    block = Table("", COLUMNS, [("a generate", "success", f"3 new events, and much more to say about them\n{ID}")])
    assert any(ID in line for line in lines_of(block, width))
    assert any(ID in line for line in lines_of(Facts(f"run {ID}", [("commit", "0123456789abcdef" * 2)]), width))


def test_columns_become_records_before_they_get_hard_to_read():
    """A narrow table has names before its values, and a line between two records."""
    rows = [("a", "success", "three new events of three regions"), ("b", "failed", "no connection")]
    block = Table("", COLUMNS, rows, "in 3 ms")
    assert lines_of(block, 60)[0].split() == ["phase", "status", "what", "it", "did"]
    assert [line.rstrip() for line in lines_of(block, 36)] == [
        "phase        a",
        "status       success",
        "what it did  three new events of",
        "             three regions",
        "",
        "phase        b",
        "status       failed",
        "what it did  no connection",
        "",
        "in 3 ms",
    ]


def test_no_control_of_a_cell_reaches_the_terminal():
    """Whatever the block, in its title, head, cells, marks and caption."""
    hostile = "\x1b[31m\x9b2J\u202egnp\x07"
    for block in (
        Table(hostile, (hostile, "b"), [(hostile, hostile)], hostile),
        Table("", ("a",), [], if_empty=hostile),
        Facts(hostile, [(hostile, hostile)], hostile),
        Marked(hostile, [(hostile, hostile)], hostile),
    ):
        for width in (100, 24):
            text = "".join(lines_of(block, width))
            assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(text)
            assert r"\x1b[31m" in text.replace(" ", "")
