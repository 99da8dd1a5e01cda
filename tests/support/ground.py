"""What a scenario stands on: a filled database, settings that point at a sandbox, and the count at the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from alerts_engine import AlertsEngine, Phase, Settings
from alerts_engine.sandbox import Credentials
from alerts_engine.settings import variable_name
from tests.support.counters import counted, there

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts_engine import RunReport
    from alerts_engine.sandbox import Sandbox

PROVIDERS = {"brevo": "email", "resend": "email", "telegram": "telegram", "twilio": "sms"}
"""Each provider's channel."""
CHANNELS = ("email", "telegram", "sms")
KEYED = ("brevo", "resend")
"""The providers that recognise a repeat by its key (SPEC C-12)."""

_ALERTS = """
INSERT INTO alert_events
       (alert_type, scope_region, severity, headline, body, cooldown_key, event_fingerprint, payload,
        fanout_completed_at)
SELECT 'HIGH_IMPACT_EVENT', 'Europe', 1 + mod(n, 5), 'Pipeline outage ' || n, repeat('Flows are down. ', 10),
       'chaos ' || n, 'chaos ' || n, '{"value": 71.5}', now()
  FROM generate_series(1, %(alerts)s) AS n
    ON CONFLICT DO NOTHING
"""
_USERS = """
INSERT INTO users (email, telegram_chat_id, phone_number, email_verified)
SELECT 'user' || n || '@example.com', (100000 + n)::text, '+1555' || lpad(n::text, 7, '0'), TRUE
  FROM generate_series((SELECT count(*) FROM users) + 1, (SELECT count(*) FROM users) + %(users)s) AS n
RETURNING id
"""
_DELIVERIES = """
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, delivery_kind, created_at)
SELECT u.id, e.id, %(channel)s, %(kind)s, e.created_at + make_interval(secs => 0.001 * u.ordinal)
  FROM unnest(%(users)s::int8[]) WITH ORDINALITY AS u (id, ordinal)
  JOIN (SELECT id, created_at, row_number() OVER (ORDER BY id) AS ordinal FROM alert_events) AS e
       ON %(every_alert)s OR e.ordinal = 1 + mod(u.ordinal, %(alerts)s)
RETURNING id
"""
_DIGESTS = """
INSERT INTO user_alert_digests
       (user_id, channel, period, window_start, window_end, digest_key, next_retry_at)
SELECT u, %(channel)s, 'daily', date_trunc('day', now()) - interval '1 day', date_trunc('day', now()),
       u || ':' || %(channel)s || ':daily:chaos', date_trunc('day', now())
  FROM unnest(%(users)s::int8[]) AS u
RETURNING id
"""
_ITEMS = """
INSERT INTO user_alert_digest_items (digest_id, delivery_id)
SELECT g.id, d.id
  FROM user_alert_digests AS g
  JOIN user_alert_deliveries AS d ON d.user_id = g.user_id AND d.channel = g.channel AND d.delivery_kind = 'digest'
"""
_BATCHED = """
UPDATE user_alert_deliveries SET status = 'skipped', last_error = 'batched_into_digest'
 WHERE delivery_kind = 'digest'
"""
_ROWS = """
SELECT 'deliveries' AS queue, id, user_id, channel, status, attempts, last_error, failure_kind, next_retry_at,
       claimed_by, lease_expires_at, send_started_at, sent_at::timestamptz AS sent_at, provider_message_id
  FROM user_alert_deliveries WHERE delivery_kind = 'instant'
 UNION ALL
SELECT 'digests', id, user_id, channel, status, attempts, last_error, failure_kind, next_retry_at,
       claimed_by, lease_expires_at, send_started_at, sent_at, provider_message_id
  FROM user_alert_digests
 ORDER BY queue, id
"""
_OLDER = """
UPDATE {} SET uncertain_since = uncertain_since - %(by)s, next_retry_at = next_retry_at - %(by)s,
       send_started_at = send_started_at - %(by)s, key_used_at = key_used_at - %(by)s,
       lease_expires_at = lease_expires_at - %(by)s
 WHERE status IN ('queued', 'sending')
"""
_ALERT_COUNT = 10
MINUTE = 61.0
"""Nobody is asked sooner than a minute after a send began."""


@dataclass
class Result:
    """What came of a scenario; a line of the table."""

    fault: str
    sends: int = 0
    lost: int = 0
    """Messages that nobody got and that no row reports as failed."""
    doubled: int = 0
    allowed: int = 0
    """Doubles that cannot be avoided: accepted, and the answer lost, by a provider that knows no keys."""
    reported: int = 0
    """Rows that ended as ``failed`` with ``send_uncertain``."""
    kills: int = 0
    answers_lost: int = 0
    """Messages that were accepted, whose answer never came."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.lost == 0 and self.doubled <= self.allowed


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, row_factory=namedtuple_row, options="-c TimeZone=UTC")


def add_users(url: str, count: int) -> list[int]:
    with closing(connect(url)) as db:
        db.execute(_ALERTS, {"alerts": _ALERT_COUNT})
        return [row.id for row in db.execute(_USERS, {"users": count})]


def add_deliveries(
    url: str, users: list[int], channel: str, kind: str = "instant", *, every_alert: bool = False
) -> int:
    """A delivery of one alert (or of every alert) for each user; how many that are."""
    values = {"users": users, "channel": channel, "kind": kind, "alerts": _ALERT_COUNT, "every_alert": every_alert}
    with closing(connect(url)) as db:
        return db.execute(_DELIVERIES, values).rowcount


def add_digests(url: str, users: list[int], channel: str) -> int:
    """A due digest with one alert in it for each user."""
    add_deliveries(url, users, channel, "digest")
    with closing(connect(url)) as db, db.transaction():
        made = db.execute(_DIGESTS, {"users": users, "channel": channel}).rowcount
        db.execute(_ITEMS)
        db.execute(_BATCHED)
        return made


def seed(url: str, sends: int, channels: Iterable[str] = ("email",)) -> int:
    """``sends`` instant deliveries on each channel, to as many users; how many that are in all."""
    users = add_users(url, sends)
    return sum(add_deliveries(url, users, channel) for channel in channels)


def all_rows(url: str) -> list[Any]:
    """Every instant delivery and every digest, in the order of their ids."""
    with closing(connect(url)) as db:
        return db.execute(_ROWS).fetchall()


def statuses(url: str) -> Counter[str]:
    return Counter(row.status for row in all_rows(url))


# --- running the engine ---------------------------------------------------------------------------------------------


def environment(url: str, sandbox_url: str, **fields: Any) -> dict[str, str]:
    """The variables of a worker process: the sandbox as all four providers, and no waiting between attempts."""
    values = _fields(sandbox_url) | fields
    return {"DATABASE_URL": url} | {variable_name(name).upper(): str(value) for name, value in values.items()}


def settings(url: str, sandbox_url: str, **fields: Any) -> Settings:
    """The same as settings; the environment of whoever runs the tests does not matter."""
    with pytest.MonkeyPatch.context() as patched:
        for name in Settings.model_fields:
            patched.delenv(variable_name(name), raising=False)
        return Settings(_env_file=None, database_url=url, **_fields(sandbox_url) | fields)


def _fields(sandbox_url: str) -> dict[str, Any]:
    return {
        **{name.lower(): value for name, value in Credentials().settings(sandbox_url).items()},
        "max_send_per_run": 1_000_000, "retry_base_seconds": 0.001, "retry_max_seconds": 0.001,
        "send_timeout_seconds": 5, "shutdown_seconds": 0.3, "send_lease_seconds": 6,
    }  # fmt: skip


def base_urls(url: str) -> dict[str, str]:
    """All four providers at ``url``."""
    return {f"{provider}_base_url": url for provider in PROVIDERS}


async def run(configured: Settings, phase: Phase = Phase.C, **order: Any) -> RunReport:
    async with AlertsEngine(configured) as engine:
        return await engine.run(phase, **order)


async def drain(configured: Settings, sandbox: Sandbox) -> int:
    """Run phase C until nothing waits, a minute apart, so that what is uncertain is asked about: how many runs.

    Leases that a fault left behind are waited for.
    """
    assert configured.database_url is not None
    url = configured.database_url.get_secret_value()
    for number in range(1, 1000):
        await run(configured)
        if not statuses(url).keys() & {"queued", "sending"}:
            return number
        await asyncio.sleep(0.1)
        let_time_pass(url, MINUTE)
        sandbox.advance(MINUTE)
    raise AssertionError(f"the queue does not become empty: {statuses(url)}")


def let_time_pass(url: str, seconds: float) -> None:
    """Make all that is known of unsent rows older; the sandbox has a clock of its own."""
    with closing(connect(url)) as db:
        for table in ("user_alert_deliveries", "user_alert_digests"):
            db.execute(_OLDER.format(table), {"by": timedelta(seconds=seconds)})


# --- counting -------------------------------------------------------------------------------------------------------


def judge(result: Result, url: str, received: Iterable[tuple[str, str]], started: float) -> Result:
    """Fill in what was lost and doubled. ``received`` are (channel, destination), one for each message."""
    with closing(connect(url)) as db:
        addresses = {
            row.id: {"email": row.email, "telegram": row.telegram_chat_id, "sms": row.phone_number}
            for row in db.execute("SELECT id, email, telegram_chat_id, phone_number FROM users")
        }
    rows = all_rows(url)
    wanted = Counter((row.channel, addresses[row.user_id][row.channel]) for row in rows)
    uncertain = [row for row in rows if row.status == "failed" and row.last_error == "send_uncertain"]
    excused = Counter((row.channel, addresses[row.user_id][row.channel]) for row in uncertain)
    got = Counter(received)
    result.sends = len(rows)
    result.reported = len(uncertain)
    result.doubled = sum((got - wanted).values())
    result.lost = sum((wanted - got - excused).values())
    result.seconds = time.monotonic() - started
    unsent = [row for row in rows if row.status != "sent" and row not in uncertain]
    assert not unsent, f"{result.fault}: {len(unsent)} rows did not end as sent, such as {unsent[0]}"
    assert counted(url) == there(url), f"{result.fault}: the counters say something else than the rows (SPEC O-4a)"
    return result
