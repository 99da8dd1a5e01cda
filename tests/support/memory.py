"""How much memory some work takes."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20


@dataclass
class Peak:
    """The most memory that was taken at once, in MiB; filled when the block has ended."""

    mib: float = 0.0


@contextmanager
def measured_memory() -> Iterator[Peak]:
    """Measure what Python allocates in the block, beyond what was there before; buffers of asyncpg are part of it."""
    gc.collect()
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.mib = tracemalloc.get_traced_memory()[1] / MIB
        tracemalloc.stop()
