import asyncio

from alerts_engine import AlertsEngine, NewEvent
from alerts_engine.testing import playground


async def main() -> None:
    with playground() as play:
        play.database.add_user("a@example.com")
        async with AlertsEngine(play.settings) as engine:
            await engine.publish(
                NewEvent(
                    alert_type="HIGH_IMPACT_EVENT",
                    severity=4,
                    headline="LNG terminal in Freeport shut after a fire",
                    event_fingerprint="newsroom:freeport-fire",
                )
            )
            await engine.run()
        print(*[message.subject for message in play.inbox.of("a@example.com")])


asyncio.run(main())
