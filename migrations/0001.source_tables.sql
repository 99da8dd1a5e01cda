-- What the engine only reads (SPEC DB-5). An EnergyRiskIQ database has these tables already and keeps them as they are;
-- on an empty database they are made in the application's shape, so that the rules and the fan-out can read them.
-- The comment on a table remembers who made it: the rollback removes nothing that we did not make.
-- Plans and alert types carry no CHECK: plan_settings may bring new plans, rules may bring new types.

DO $$
BEGIN
    IF to_regclass('users') IS NULL THEN
        CREATE TABLE users (
            id SERIAL PRIMARY KEY,
            email TEXT UNIQUE NOT NULL,
            telegram_chat_id TEXT,
            phone_number VARCHAR(20),
            email_verified BOOLEAN,
            created_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC')
        );
        COMMENT ON TABLE users IS 'created by alerts-engine';
    END IF;

    IF to_regclass('user_plans') IS NULL THEN
        CREATE TABLE user_plans (
            user_id INT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
            plan TEXT NOT NULL
        );
        COMMENT ON TABLE user_plans IS 'created by alerts-engine';
    END IF;

    IF to_regclass('plan_settings') IS NULL THEN
        CREATE TABLE plan_settings (
            plan_code TEXT PRIMARY KEY,
            display_name TEXT,
            monthly_price_usd NUMERIC,
            allowed_alert_types TEXT[],
            max_email_alerts_per_day INT,
            delivery_config JSONB,
            is_active BOOLEAN DEFAULT TRUE
        );
        COMMENT ON TABLE plan_settings IS 'created by alerts-engine';
    END IF;

    IF to_regclass('user_alert_prefs') IS NULL THEN
        CREATE TABLE user_alert_prefs (
            id SERIAL PRIMARY KEY,
            user_id INT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            region TEXT NOT NULL DEFAULT 'Europe',
            alert_type TEXT NOT NULL,
            asset TEXT CHECK (asset IN ('oil', 'gas', 'fx', 'freight')),
            threshold FLOAT,
            enabled BOOLEAN DEFAULT TRUE,
            cooldown_minutes INT DEFAULT 120
        );
        COMMENT ON TABLE user_alert_prefs IS 'created by alerts-engine';
    END IF;
END
$$;

DO $$
BEGIN
    IF to_regclass('events') IS NULL THEN
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
            inserted_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC')
        );
        COMMENT ON TABLE events IS 'created by alerts-engine';
    END IF;

    IF to_regclass('risk_events') IS NULL THEN
        CREATE TABLE risk_events (
            id SERIAL PRIMARY KEY,
            event_id INT UNIQUE REFERENCES events (id) ON DELETE CASCADE,
            region TEXT,
            category TEXT,
            base_severity INT,
            ai_confidence FLOAT,
            weighted_score FLOAT,
            created_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC')
        );
        COMMENT ON TABLE risk_events IS 'created by alerts-engine';
    END IF;

    IF to_regclass('risk_indices') IS NULL THEN
        CREATE TABLE risk_indices (
            id SERIAL PRIMARY KEY,
            region TEXT NOT NULL,
            window_days INT CHECK (window_days IN (7, 30)),
            risk_score FLOAT CHECK (risk_score BETWEEN 0 AND 100),
            trend TEXT CHECK (trend IN ('rising', 'falling', 'stable')),
            calculated_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC')
        );
        COMMENT ON TABLE risk_indices IS 'created by alerts-engine';
    END IF;

    IF to_regclass('asset_risk') IS NULL THEN
        CREATE TABLE asset_risk (
            id SERIAL PRIMARY KEY,
            asset TEXT NOT NULL,
            region TEXT NOT NULL,
            window_days INT CHECK (window_days IN (7, 30)),
            risk_score FLOAT CHECK (risk_score BETWEEN 0 AND 100),
            direction TEXT CHECK (direction IN ('up', 'down', 'mixed', 'unclear')),
            calculated_at TIMESTAMP DEFAULT (now() AT TIME ZONE 'UTC')
        );
        COMMENT ON TABLE asset_risk IS 'created by alerts-engine';
    END IF;
END
$$;
