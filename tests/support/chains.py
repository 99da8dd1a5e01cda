"""Everything that anybody could read in an error: a traceback, a debugger, a service that collects errors."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def chain_text(error: BaseException) -> str:
    """The texts of ``error`` and of all that led to it, hidden or not, with their arguments and attributes."""
    texts = [f"{one!r} {one} {one.args!r} {getattr(one, '__dict__', {})!r}" for one in chain(error)]
    lines = "".join(traceback.format_exception(error)).splitlines()
    # The lines of source between are the tests' and ours, not the error's.
    return "\n".join([*texts, *(line for line in lines if not line.startswith("    "))])


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """``error``, its causes and contexts."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
