from asyncpg import connect

from tests.examples.newsroom import report_outage

pytest_plugins = ["alerts_engine.testing.plugin"]


async def test_an_outage_reaches_its_readers(alerts_database, alerts_engine, alerts_inbox):
    alerts_database.add_user("a@example.com")
    alerts_database.execute("CREATE TABLE outages (plant text PRIMARY KEY)")
    async with alerts_engine as engine:
        await report_outage(engine, await connect(alerts_database.url), "Freeport")
        await engine.run()
    (message,) = alerts_inbox.of("a@example.com")
    assert "Freeport is down" in message.subject
