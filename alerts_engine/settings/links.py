"""The readers' links, where the settings are there for them (SPEC U-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.reader_links import ReaderLinks

if TYPE_CHECKING:
    from alerts_engine.settings.model import Settings


def reader_links(settings: Settings) -> ReaderLinks | None:
    """What makes and reads the links by which readers stop alerts; ``None`` unless both settings are set."""
    if settings.link_secret is None or settings.public_base_url is None:
        return None
    return ReaderLinks(settings.link_secret.get_secret_value(), settings.public_base_url)
