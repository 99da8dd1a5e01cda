"""The alerts that messages tell, asked for by several senders at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from alerts_engine import AlertsEngine
from alerts_engine.database import connect
from alerts_engine.phases.send import event_cache as module
from alerts_engine.rendering.views import BODY_LIMIT, HEADLINE_LIMIT
from tests.support.ground import CHANNELS
from tests.support.memory import measured_memory
from tests.support.world import add_event, prepared, settings

if TYPE_CHECKING:
    import psycopg

    from tests.support.sending import World


async def test_a_lane_gets_its_alerts_while_another_has_them_forgotten(
    postgresql: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """What is remembered is bounded, and shared; an answer has all that was asked for (SPEC C-4)."""
    monkeypatch.setattr(module, "_MOST_KEPT", 2)
    db = prepared(postgresql)
    first, second, *others = [add_event(db) for _ in range(5)]
    async with connect(database_url) as database:
        alerts = module.EventCache(database)
        await alerts.of([first])
        told, told_others = await asyncio.gather(alerts.of([first, second]), alerts.of(others))
    assert {event: known.alert.event_id for event, known in told.items()} == {first: first, second: second}
    assert set(told_others) == set(others)


async def test_what_is_remembered_is_bounded_by_its_length_too(
    postgresql: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Two thousand long bodies would be too much (SPEC section 16, memory)."""
    monkeypatch.setattr(module, "_MOST_CHARACTERS_KEPT", 10)
    db = prepared(postgresql)
    events = [add_event(db) for _ in range(4)]
    db.execute("UPDATE alert_events SET body = 'seven..'")
    async with connect(database_url) as database:
        alerts = module.EventCache(database)
        for event in events:
            assert (await alerts.of([event]))[event].alert.body == "seven.."
            assert list(alerts._known) == [event]


async def test_an_event_of_any_length_is_the_same_message_and_takes_no_memory(world: World):
    """Texts are cut where they are read, beyond what any message shows (SPEC M-4, section 16)."""
    users = world.users()
    as_shown, in_60_megabytes = [await _send_to_all_channels(world, users, times) for times in (2, 20_000)]
    assert as_shown == in_60_megabytes


async def _send_to_all_channels(world: World, users: list[int], times: int) -> list[object]:
    """The messages of an event whose texts are ``times`` as long as a message shows."""
    world.execute("TRUNCATE user_alert_deliveries CASCADE")
    for channel in CHANNELS:
        world.alert(users, channel)
    world.execute(
        f"UPDATE alert_events SET body = repeat('{'Gas flows fell. ' * (BODY_LIMIT // 16)}', {times}),"
        f" headline = repeat('{'Outage ' * (HEADLINE_LIMIT // 7)}', {times}),"
        f" scope_region = repeat('Asia ', {20 * times})"
        " WHERE id IN (SELECT alert_event_id FROM user_alert_deliveries)"
    )
    with measured_memory() as peak:
        report = await world.run()
    assert report.counts["sent"] == len(CHANNELS)
    assert peak.mib < 20
    messages = sorted(world.sandbox.messages[-len(CHANNELS) :], key=lambda message: message.channel)
    return [(message.channel, message.subject, message.html, message.text) for message in messages]


async def test_an_event_of_any_length_is_previewed_and_explained(world: World):
    """With no more memory than another one (SPEC B-9)."""
    (user,) = world.users()
    ((event,),) = world.execute(
        "UPDATE alert_events SET body = repeat('long ', 12000000), headline = repeat('long ', 12000000)"
        " WHERE id = (SELECT min(id) FROM alert_events) RETURNING id"
    )
    async with AlertsEngine(settings(world.url)) as engine:
        with measured_memory() as peak:
            (explained,) = await engine.explain(user, event)
            previewed = await engine.preview("event", event)
    assert explained.event.headline.startswith("long long ")
    assert previewed.content.body.startswith("long long ")
    assert peak.mib < 20


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0001-01-01 BC", "290000-01-01"])
async def test_an_event_of_another_age_keeps_nobody_from_getting_messages(world: World, moment: str):
    """Also where no calendar has its moment (SPEC C-5, B-9)."""
    users = world.users()
    world.alert(users, every_alert=True)
    ((event,),) = world.execute(
        f"UPDATE alert_events SET created_at = '{moment}' WHERE id = (SELECT min(id) FROM alert_events) RETURNING id"
    )
    report = await world.run()
    assert (report.error, set(world.statuses)) == (None, {"sent"})
    async with AlertsEngine(settings(world.url)) as engine:
        (explained,) = await engine.explain(users[0], event)
    assert explained.event.id == event
