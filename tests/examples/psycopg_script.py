import os
import sys

import psycopg

PUBLISH = """
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)
VALUES ('HIGH_IMPACT_EVENT', 4, %(headline)s, '', %(identity)s, %(identity)s)
    ON CONFLICT (event_fingerprint) DO NOTHING
RETURNING id
"""


def report_outage(plant: str) -> bool:
    """The outage and its alert are there together, or neither of them; whether the alert is new."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS outages (plant text)")
        connection.execute("INSERT INTO outages (plant) VALUES (%s)", [plant])
        row = connection.execute(PUBLISH, {"headline": f"{plant} is down", "identity": f"outage:{plant}"}).fetchone()
    return row is not None


if __name__ == "__main__":
    print("published" if report_outage(sys.argv[1]) else "known already")
