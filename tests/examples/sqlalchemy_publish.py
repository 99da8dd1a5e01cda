from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

PUBLISH = text("""
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)
VALUES ('HIGH_IMPACT_EVENT', 4, :headline, '', :identity, :identity)
    ON CONFLICT (event_fingerprint) DO NOTHING
RETURNING id
""")


def report_outage(connection: Connection, plant: str) -> bool:
    connection.execute(text("INSERT INTO outages (plant) VALUES (:plant)"), {"plant": plant})
    found = connection.execute(PUBLISH, {"headline": f"{plant} is down", "identity": f"outage:{plant}"})
    return found.first() is not None


async def report_outage_async(connection: AsyncConnection, plant: str) -> bool:
    return await connection.run_sync(report_outage, plant)
