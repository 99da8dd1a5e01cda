"""Reading a request's body, bounded in size and in time: a slow or endless one holds nothing up."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from alerts_engine.admin.exchange import HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def read_body(chunks: AsyncIterator[bytes], length: str | None, *, most: int, seconds: float) -> bytes:
    """All of ``chunks``. Raises :class:`HttpError` when that is more than ``most`` bytes, or takes too long."""
    if length is not None and length.isdecimal() and int(length) > most:
        raise _too_large(most)
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in chunks:
                read += chunk
                if len(read) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise HttpError(
            HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {seconds:g} seconds", {"Connection": "close"}
        ) from None
    return bytes(read)


def _too_large(most: int) -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {most} bytes", {"Connection": "close"}
    )
