"""What ``templates`` shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alerts_engine.rendering import TemplateProblem


def template_problems_table(folder: str, problems: Sequence[TemplateProblem]) -> Table:
    """What is wrong with the custom templates."""
    rows = [(one.file, "–" if one.line is None else str(one.line), one.problem) for one in problems]
    return Table(f"templates in {folder}", ("file", "line", "problem"), rows)


def templates_tables(templates: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]) -> Iterator[Table]:
    """What custom templates can replace, and what they may say."""
    yield Table("templates", ("file", "in use"), list(templates.items()))
    for name, types in fields.items():
        yield Table(name, ("field", "type"), list(types.items()))
