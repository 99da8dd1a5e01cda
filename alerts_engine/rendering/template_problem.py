"""What can be wrong with an own template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why an own template cannot be used: its file's name, the line if known, and what is wrong there.

    ``problem`` may quote what was being rendered: show it for sample data only.
    """

    file: str
    line: int | None
    problem: str
