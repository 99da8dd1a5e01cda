"""Spans by OpenTelemetry, in a process that uses it (SPEC I-5).

Its API is never imported here: an application that traces has imported it, and a run from cron must not wait for it. No
span holds a destination, a message, or the text of an error.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    Note = Callable[[Mapping[str, Any]], None]

_API = "opentelemetry.trace"
Result = TypeVar("Result")


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Note]:
    """A span around the block; what it yields takes the attributes that are known later. ``None`` is left out."""
    api = sys.modules.get(_API)
    if api is None:
        yield _nobody_looks
        return
    tracer = api.get_tracer("alerts_engine")
    # OpenTelemetry would keep the error's text and its traceback, which may hold what must not be kept.
    with tracer.start_as_current_span(
        f"alerts_engine.{name}", attributes=_kept(attributes), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield lambda later: current.set_attributes(_kept(later))
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(api.StatusCode.ERROR)
            raise


async def in_span(
    name: str, work: Awaitable[Result], describe: Callable[[Result], Mapping[str, Any]], **attributes: Any
) -> Result:
    """Await ``work`` in a span, which also says how ``describe`` sees the result."""
    if _API not in sys.modules:
        return await work
    with span(name, **attributes) as note:
        result = await work
        note(describe(result))
    return result


def _kept(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and words under the engine's names; counts that are tables of their own are left to the history."""
    return {
        f"alerts_engine.{name}": str(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if isinstance(value, bool | int | float | str)
    }


def _nobody_looks(_: Mapping[str, Any]) -> None:
    pass
