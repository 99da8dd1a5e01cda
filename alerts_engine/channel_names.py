"""The names of the channels, known without loading what a channel is."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from alerts_engine.types import Channel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "alerts_engine.channels"
"""The group by which a package adds a channel (SPEC I-6)."""


@cache
def custom_channels() -> tuple[EntryPoint, ...]:
    """The channels that packages add, by name; nothing of them is loaded."""
    from importlib.metadata import entry_points  # most commands need no channel, and every one imports the settings

    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name))


def channel_names() -> tuple[str, ...]:
    """Every name that a channel has, the built-in ones first."""
    return (*Channel, *(entry.name for entry in custom_channels()))
