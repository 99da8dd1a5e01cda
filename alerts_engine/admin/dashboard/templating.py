"""The dashboard's templates: everything that comes from the database is escaped, since it is data (SPEC M-4)."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from alerts_engine.admin.dashboard import charts, words
from alerts_engine.admin.dashboard.views import CAN_RETRY
from alerts_engine.admin.exchange import Answer, html_answer

_FILTERS = (
    words.number, words.milliseconds, words.minutes, words.ago, words.clock, words.second, words.hour, words.did,
    words.code, words.clock_only, words.many, words.channel, words.sentence,
)  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({one.__name__: one for one in _FILTERS})
    made.globals.update(charts=charts, outcomes=charts.OUTCOMES, names=words.NAMES, can_retry=CAN_RETRY, dict=dict)
    return made


def rendered(template: str, **values: Any) -> Answer:
    """A piece of the page."""
    return html_answer(_environment().get_template(template).render(values))
