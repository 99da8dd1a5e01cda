"""What stands below the options in every command's help: examples, and what its exit codes mean (SPEC CLI-6b)."""

from __future__ import annotations

from itertools import chain
from textwrap import wrap

BROKE = "a setting cannot be used, the database cannot be reached, or something broke"
_WRONG_USAGE = "wrong usage"
_WIDTH = 76
_KEEP_LINES = "\b"
"""To click: the paragraph that begins with it is not wrapped."""


def epilog(*examples: str, done: str = "done", failed: str = BROKE) -> str:
    """``examples`` are arguments of ``alerts-engine``; ``done`` and ``failed`` say what exit codes 0 and 1 mean."""
    shown = [f"  alerts-engine {example}" for example in examples]
    meanings = enumerate((done, failed, _WRONG_USAGE))
    codes = chain.from_iterable(wrap(f"  {code}  {text}", _WIDTH, subsequent_indent="     ") for code, text in meanings)
    return "\n".join((_KEEP_LINES, "Examples:", *shown, "", _KEEP_LINES, "Exit codes:", *codes))
