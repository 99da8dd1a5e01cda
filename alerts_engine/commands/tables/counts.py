"""A phase's counts in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def counts_text(counts: Mapping[str, Any] | None, trouble: str | None) -> str:
    """Counts that are not zero, a line for each group of them, and what went wrong."""
    lines = [line for line in _lines(counts or {}) if line]
    return "\n".join([*lines, trouble] if trouble else lines or ["nothing to do"])


def _lines(counts: Mapping[str, Any], group: str = "") -> Iterator[str]:
    numbers = ", ".join(_number(name, value) for name, value in counts.items() if _is_told(value))
    yield f"{group}: {numbers}" if group and numbers else numbers
    for name, value in counts.items():
        if isinstance(value, dict):
            # "by rule" and "by channel" say nothing that their members do not.
            inner = "" if name.startswith("by_") else name.replace("_", " ")
            yield from _lines(value, f"{group} {inner}".strip())


def _is_told(value: Any) -> bool:
    return bool(value) and not isinstance(value, dict | list)


def _number(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"{words} {value}"


def of_all_phases(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The counts of a run's phases side by side, without their details."""
    phases = [phase for phase in (counts or {}).values() if isinstance(phase, dict)]
    return {name: value for phase in phases for name, value in phase.items() if not isinstance(value, dict | list)}
