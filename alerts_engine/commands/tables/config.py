"""What ``config show`` shows to people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from alerts_engine.commands.tables.drawing import Marked, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts_engine.commands.tables.drawing import Block
    from alerts_engine.operations.configuration import Configuration, ShownSetting


def config_blocks(found: Configuration) -> Iterator[Block]:
    """A row per setting; below them what is wrong, and what is odd."""
    rows = [(one.variable, _value(one), str(one.origin)) for one in found.settings]
    yield Table("settings", ("variable", "value", "from"), rows)
    marks = [*(("✗", error) for error in found.errors), *(("!", warning) for warning in found.warnings)]
    if marks:
        yield Marked("problems", marks)


def _value(setting: ShownSetting) -> str:
    if not setting.usable:
        return "cannot be used"
    value = setting.value
    if value is None or value in ([], {}):
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
