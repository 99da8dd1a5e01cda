"""What phase B makes of rows that make no sense: each has one result, and none stops the fan-out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alerts_engine import Phase
from tests.support.world import (
    add_event,
    add_plan_settings,
    add_preference,
    add_user,
    prepared,
    run_phase,
)

if TYPE_CHECKING:
    import psycopg


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    return prepared(postgresql)


async def recipients(url: str, db: psycopg.Connection) -> dict[int, set[int]]:
    """Who got each event of a fan-out that ended well."""
    report = await run_phase(url, Phase.B)
    assert report.error is None
    found: dict[int, set[int]] = {}
    for event, user in db.execute("SELECT alert_event_id, user_id FROM user_alert_deliveries"):
        found.setdefault(event, set()).add(user)
    return found


async def test_a_preference_for_an_unknown_region_matches_no_other(db: psycopg.Connection, database_url: str):
    """It is a row all the same, so that the defaults do not stand in for it (SPEC B-4)."""
    lost, default = add_user(db, "pro"), add_user(db, "pro")
    add_preference(db, lost, region="Atlantis")
    europe, atlantis, nowhere = add_event(db), add_event(db, region="atlantis"), add_event(db, region=None)
    assert await recipients(database_url, db) == {europe: {default}, atlantis: {lost}, nowhere: {lost, default}}


async def test_a_blank_scope_is_no_scope(db: psycopg.Connection, database_url: str):
    """A blank region is none; without assets only preferences for any asset match an asset alert (SPEC B-4)."""
    somewhere, any_asset, gas = (add_user(db, "enterprise") for _ in range(3))
    add_preference(db, somewhere, region="Asia")
    add_preference(db, any_asset, "ASSET_RISK_SPIKE")
    add_preference(db, gas, "ASSET_RISK_SPIKE", asset="gas")
    blank = add_event(db, region=" \t"[:1])
    bare = add_event(db, alert_type="ASSET_RISK_SPIKE", assets=[])
    assert await recipients(database_url, db) == {blank: {somewhere}, bare: {any_asset}}


@pytest.mark.parametrize("config", [[], "all of it", 7, None, {"email": []}, {"email": {"max_per_day": "many"}}])
async def test_nonsense_in_a_plans_settings_stops_nobody_else(
    config: object, db: psycopg.Connection, database_url: str
):
    """The plan falls back to its daily emails, and users of other plans get theirs (SPEC B-5)."""
    add_plan_settings(db, "pro", config, emails_per_day=1)
    odd, other = add_user(db, "pro"), add_user(db, "trader")
    event = add_event(db)
    assert await recipients(database_url, db) == {event: {odd, other}}
