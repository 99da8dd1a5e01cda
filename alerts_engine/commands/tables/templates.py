"""What ``templates`` shows on a terminal. rich is imported when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from alerts_engine.rendering import TemplateProblem


def template_problems_table(folder: str, problems: Sequence[TemplateProblem]) -> Table:
    """What is wrong with the own templates."""
    rows = [(one.file, "–" if one.line is None else str(one.line), one.problem) for one in problems]
    return table_of(f"templates in {folder}", ("file", "line", "problem"), rows)


def templates_tables(templates: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> Iterator[Table]:
    """What own templates can replace, and what they may say."""
    yield table_of("templates", ("file", "in use"), list(templates.items()))
    for name, types in fields.items():
        yield table_of(name, ("field", "type"), list(types.items()))
