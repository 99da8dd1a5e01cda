-- The one column without a default: an application that does not know it could write no event.

ALTER TABLE alert_events ALTER COLUMN event_fingerprint DROP NOT NULL;
