"""The admin API does what its description says, whatever is asked: schemathesis, over real HTTP (SPEC P-2, P-3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from alerts_engine.admin.admin_site import PREFIX
from tests.integration.test_admin_api import DESCRIPTION
from tests.support.admin import HEADERS, made
from tests.support.serving import BINDINGS, served_in_thread
from tests.support.world import add_delivery, add_event, add_user, prepared

if TYPE_CHECKING:
    import psycopg

load_all_checks()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = {one.ok().label: one.ok() for one in SCHEMA.get_all_operations()}
_NOT_HERE = ["ignored_auth"]
"""Test_admin_access tries tokens; too many wrong ones would close the door for all that comes after."""
_EXAMPLES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 4}


def _few(examples: int) -> hypothesis_settings:
    """The same ones every time."""
    return hypothesis_settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    db = prepared(postgresql)
    for _ in range(3):
        event = add_event(db, datetime.now(UTC) - timedelta(hours=1), fanned_out=True)
        add_delivery(db, add_user(db, "pro", telegram="1"), event)
    db.execute("UPDATE user_alert_deliveries SET status = 'failed', last_error = 'timeout', failure_kind = 'transient',"
               " ended_at = now()")  # fmt: skip
    return db


@pytest.mark.slow
@pytest.mark.parametrize("binding", BINDINGS)
def test_every_answer_is_described(binding: str, db: psycopg.Connection, database_url: str) -> None:
    """Right parameters and wrong ones: no 5xx, no status, header, type or form that the description does not have."""
    asked: set[tuple[str, int]] = set()
    checks = [check for check in CHECKS.get_all() if check.__name__ not in _NOT_HERE]
    with served_in_thread(lambda: made(binding, database_url)) as url:

        def ask(case: schemathesis.Case) -> None:
            assume(
                not {"reason", "cause"} <= set(case.query or ())
            )  # a description cannot say that one excludes the other
            answer = case.call(base_url=url + PREFIX, headers=HEADERS)
            asked.add((case.operation.label, answer.status_code))
            case.validate_response(answer, checks=checks)

        for operation in OPERATIONS.values():
            for mode, examples in _EXAMPLES.items():
                _few(examples)(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    assert {label for label, status in asked if status == 200} >= {"GET /runs", "GET /health", "GET /metrics"}
    assert {label for label, _ in asked} == set(OPERATIONS)
