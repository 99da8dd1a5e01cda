"""An EnergyRiskIQ database as the application left it: its tables, rows in them, and half-way variants (SPEC DB-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = """
CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    email TEXT UNIQUE NOT NULL,
    telegram_chat_id TEXT,
    phone_number VARCHAR(20),
    email_verified BOOLEAN DEFAULT FALSE,
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE user_plans (
    user_id INT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    plan TEXT NOT NULL CHECK (plan IN ('free', 'personal', 'trader', 'pro', 'enterprise'))
);
CREATE TABLE plan_settings (
    plan_code TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    monthly_price_usd NUMERIC(10, 2) NOT NULL,
    allowed_alert_types TEXT[] NOT NULL,
    max_email_alerts_per_day INT NOT NULL,
    delivery_config JSONB NOT NULL,
    is_active BOOLEAN DEFAULT TRUE
);
CREATE TABLE user_alert_prefs (
    id SERIAL PRIMARY KEY,
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    region TEXT NOT NULL DEFAULT 'Europe',
    alert_type TEXT NOT NULL
        CHECK (alert_type IN ('REGIONAL_RISK_SPIKE', 'ASSET_RISK_SPIKE', 'HIGH_IMPACT_EVENT', 'DAILY_DIGEST')),
    asset TEXT CHECK (asset IS NULL OR asset IN ('oil', 'gas', 'fx', 'freight')),
    threshold FLOAT,
    enabled BOOLEAN DEFAULT TRUE,
    cooldown_minutes INT DEFAULT 120
);
CREATE TABLE events (
    id SERIAL PRIMARY KEY,
    title TEXT NOT NULL,
    source_name TEXT,
    source_url TEXT UNIQUE,
    category TEXT,
    region TEXT,
    severity_score INT CHECK (severity_score BETWEEN 1 AND 5),
    event_time TIMESTAMP,
    raw_text TEXT,
    ai_summary TEXT,
    inserted_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE risk_events (
    id SERIAL PRIMARY KEY,
    event_id INT UNIQUE REFERENCES events (id),
    region TEXT,
    category TEXT,
    base_severity INT,
    ai_confidence FLOAT,
    weighted_score FLOAT,
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE risk_indices (
    id SERIAL PRIMARY KEY,
    region TEXT NOT NULL,
    window_days INT CHECK (window_days IN (7, 30)),
    risk_score FLOAT CHECK (risk_score BETWEEN 0 AND 100),
    trend TEXT CHECK (trend IN ('rising', 'falling', 'stable')),
    calculated_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE asset_risk (
    id SERIAL PRIMARY KEY,
    asset TEXT NOT NULL,
    region TEXT NOT NULL,
    window_days INT,
    risk_score FLOAT,
    direction TEXT CHECK (direction IN ('up', 'down', 'mixed', 'unclear')),
    calculated_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE alert_events (
    id SERIAL PRIMARY KEY,
    alert_type TEXT NOT NULL
        CHECK (alert_type IN ('REGIONAL_RISK_SPIKE', 'ASSET_RISK_SPIKE', 'HIGH_IMPACT_EVENT', 'DAILY_DIGEST')),
    scope_region TEXT,
    scope_assets TEXT[] NOT NULL DEFAULT '{}',
    severity INT DEFAULT 3 CHECK (severity BETWEEN 1 AND 5),
    headline TEXT NOT NULL,
    body TEXT NOT NULL,
    driver_event_ids INT[],
    cooldown_key TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE UNIQUE INDEX idx_alert_events_cooldown ON alert_events (cooldown_key);
CREATE TABLE user_alert_deliveries (
    id SERIAL PRIMARY KEY,
    user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    alert_event_id INT NOT NULL REFERENCES alert_events (id) ON DELETE CASCADE,
    channel TEXT NOT NULL CONSTRAINT the_channels CHECK (channel IN ('email', 'telegram', 'sms', 'account')),
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'sent', 'skipped', 'failed')),
    reason TEXT,
    provider_message_id TEXT,
    created_at TIMESTAMP DEFAULT NOW(),
    sent_at TIMESTAMP
);
CREATE UNIQUE INDEX idx_deliveries_once ON user_alert_deliveries (user_id, alert_event_id, channel);
"""

ROWS = """
INSERT INTO users (email, telegram_chat_id, phone_number, email_verified, created_at) VALUES
    ('ada@example.org', '1001', '+31600000001', TRUE, '2025-11-01 08:00'),
    ('bob@example.org', NULL, NULL, FALSE, '2025-11-02 08:00'),
    ('cy@example.org', '1003', NULL, TRUE, '2025-11-03 08:00');
INSERT INTO user_plans VALUES (1, 'pro'), (2, 'free'), (3, 'trader');
INSERT INTO plan_settings VALUES
    ('pro', 'Pro', 49.00, '{ALL}', 20, '{"email": {"max_per_day": 20, "realtime_limit": null}}', TRUE);
INSERT INTO user_alert_prefs (user_id, alert_type, asset, threshold) VALUES
    (1, 'HIGH_IMPACT_EVENT', NULL, NULL), (1, 'ASSET_RISK_SPIKE', 'gas', 75), (3, 'DAILY_DIGEST', NULL, NULL);
INSERT INTO events (title, source_name, source_url, category, region, severity_score, inserted_at) VALUES
    ('Pipeline outage', 'Reuters', 'https://example.org/1', 'energy', 'Europe', 5, '2025-11-10 09:00');
INSERT INTO risk_events (event_id, region, category, base_severity, ai_confidence, weighted_score, created_at) VALUES
    (1, 'Europe', 'energy', 5, 0.9, 4.5, '2025-11-10 09:01');
INSERT INTO risk_indices (region, window_days, risk_score, trend, calculated_at) VALUES
    ('Europe', 7, 82.5, 'rising', '2025-11-10 10:00');
INSERT INTO asset_risk (asset, region, window_days, risk_score, direction, calculated_at) VALUES
    ('gas', 'Europe', 7, 77, 'up', '2025-11-10 10:00');
INSERT INTO alert_events
    (alert_type, scope_region, scope_assets, severity, headline, body, driver_event_ids, cooldown_key, created_at)
VALUES
    ('HIGH_IMPACT_EVENT', 'Europe', '{}', 5, 'Pipeline outage', 'A body', '{1}', 'high:1', '2025-11-10 09:05'),
    ('ASSET_RISK_SPIKE', 'Europe', '{gas}', 4, 'Gas', 'Another', '{1}', 'asset:Europe:gas:1', '2025-11-10 10:05'),
    ('REGIONAL_RISK_SPIKE', 'Europe', '{}', 4, 'Europe', 'None yet', NULL, 'region:Europe:1', '2025-11-10 10:06');
INSERT INTO user_alert_deliveries
    (user_id, alert_event_id, channel, status, reason, provider_message_id, created_at, sent_at)
VALUES
    (1, 1, 'email', 'sent', NULL, 'pm-1', '2025-11-10 09:06', '2025-11-10 09:07'),
    (1, 1, 'account', 'sent', NULL, NULL, '2025-11-10 09:06', NULL),
    (1, 1, 'telegram', 'failed', 'chat not found', NULL, '2025-11-10 09:06', NULL),
    (2, 1, 'email', 'skipped', 'unverified', NULL, '2025-11-10 09:06', NULL),
    (3, 2, 'email', 'queued', NULL, NULL, '2025-11-10 10:06', NULL),
    (3, 2, 'account', 'queued', NULL, NULL, '2025-11-10 10:06', NULL);
"""

HALF_WAY = {
    "fingerprint_nullable": """
        ALTER TABLE alert_events ADD COLUMN event_fingerprint TEXT, ADD COLUMN payload JSONB;
        -- Names what another event's back-fill would be called.
        UPDATE alert_events SET event_fingerprint = 'region:Europe:1' WHERE id = 1;
    """,
    "fingerprint_constraint": """
        ALTER TABLE alert_events ADD COLUMN event_fingerprint TEXT UNIQUE;
    """,
    "fanout_marker": """
        ALTER TABLE alert_events ADD COLUMN fanout_completed_at TIMESTAMP;
    """,
    "delivery_columns_loose": """
        ALTER TABLE user_alert_deliveries
            ADD COLUMN delivery_kind TEXT,
            ADD COLUMN attempts INT,
            ADD COLUMN next_retry_at TIMESTAMP,
            ADD COLUMN last_error TEXT;
        UPDATE user_alert_deliveries SET delivery_kind = 'instant' WHERE id = 1;
    """,
    "sending_known": """
        ALTER TABLE user_alert_deliveries
            DROP CONSTRAINT user_alert_deliveries_status_check,
            ADD CHECK (status IN ('queued', 'sending', 'sent', 'skipped', 'failed'));
        UPDATE user_alert_deliveries SET status = 'sending' WHERE id = 3;
    """,
    "unique_with_kind": """
        ALTER TABLE user_alert_deliveries
            ADD COLUMN delivery_kind TEXT NOT NULL DEFAULT 'instant' CHECK (delivery_kind IN ('instant', 'digest')),
            ADD CONSTRAINT by_hand UNIQUE (alert_event_id, user_id, channel, delivery_kind);
        DROP INDEX idx_deliveries_once;
    """,
    "unique_as_constraint": """
        DROP INDEX idx_deliveries_once;
        ALTER TABLE user_alert_deliveries ADD CONSTRAINT only_once UNIQUE (channel, user_id, alert_event_id);
    """,
    "unique_deferrable": """
        DROP INDEX idx_deliveries_once;
        ALTER TABLE user_alert_deliveries
            ADD CONSTRAINT once UNIQUE (user_id, alert_event_id, channel) DEFERRABLE INITIALLY DEFERRED;
    """,
    "status_without_default": """
        ALTER TABLE user_alert_deliveries ALTER COLUMN status DROP DEFAULT;
    """,
    "checks_not_valid": """
        ALTER TABLE user_alert_deliveries
            DROP CONSTRAINT the_channels,
            ADD CONSTRAINT the_channels CHECK (channel IN ('email', 'telegram', 'sms', 'account')) NOT VALID;
    """,
    "sent_without_time": """
        UPDATE user_alert_deliveries SET sent_at = NULL WHERE id = 1;
    """,
    "digest_tables": """
        CREATE TABLE user_alert_digests (
            id SERIAL PRIMARY KEY,
            user_id INT NOT NULL REFERENCES users (id),
            channel TEXT NOT NULL CHECK (channel IN ('email', 'telegram')),
            period TEXT NOT NULL CHECK (period IN ('daily')),
            window_start TIMESTAMP NOT NULL,
            window_end TIMESTAMP NOT NULL,
            digest_key TEXT NOT NULL UNIQUE,
            status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'sent', 'failed')),
            attempts INT,
            sent_at TIMESTAMP
        );
        CREATE TABLE user_alert_digest_items (
            id SERIAL PRIMARY KEY,
            digest_id INT NOT NULL REFERENCES user_alert_digests (id),
            delivery_id INT NOT NULL REFERENCES user_alert_deliveries (id),
            UNIQUE (digest_id, delivery_id)
        );
        INSERT INTO user_alert_digests
            (user_id, channel, period, window_start, window_end, digest_key, status, sent_at)
        VALUES
            (3, 'email', 'daily', '2025-11-10', '2025-11-11', '3:email:daily:2025-11-10', 'queued', NULL),
            (3, 'email', 'daily', '2025-11-11', '2025-11-12', '3:email:daily:2025-11-11', 'sent', '2025-11-12');
        INSERT INTO user_alert_digest_items (digest_id, delivery_id) VALUES (1, 5), (2, 5), (1, 4);
    """,
    "run_tables": """
        CREATE TABLE alerts_engine_runs (
            run_id UUID PRIMARY KEY,
            triggered_by TEXT NOT NULL,
            phase TEXT NOT NULL CHECK (phase IN ('a', 'b', 'c', 'd')),
            started_at TIMESTAMPTZ NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'success', 'failed')),
            counts JSONB
        );
        CREATE TABLE alerts_engine_run_items (
            id SERIAL PRIMARY KEY,
            run_id UUID NOT NULL REFERENCES alerts_engine_runs (run_id),
            phase TEXT NOT NULL,
            started_at TIMESTAMPTZ NOT NULL,
            status TEXT NOT NULL
        );
        INSERT INTO alerts_engine_runs VALUES (gen_random_uuid(), 'local', 'a', '2025-11-10', 'success', '{}');
        INSERT INTO alerts_engine_run_items (run_id, phase, started_at, status)
        SELECT run_id, phase, started_at, status FROM alerts_engine_runs;
    """,
    "settings_tables": """
        CREATE TABLE user_notification_settings (
            user_id INT PRIMARY KEY REFERENCES users (id),
            digest_only BOOLEAN DEFAULT FALSE,
            digest_period TEXT
        );
        CREATE TABLE user_channel_preferences (
            user_id INT REFERENCES users (id),
            channel TEXT,
            enabled BOOLEAN DEFAULT TRUE,
            PRIMARY KEY (user_id, channel)
        );
        INSERT INTO user_notification_settings VALUES (1, TRUE, 'daily');
    """,
}
"""What somebody has already done to the database by hand, each on top of the legacy tables and rows."""


def create(url: str, half_way: Sequence[str] = ()) -> None:
    """Make the application's database, with rows, and the named half-way steps on top."""
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
        connection.execute(ROWS)
        for step in half_way:
            connection.execute(HALF_WAY[step])
