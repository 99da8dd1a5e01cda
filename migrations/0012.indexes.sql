-- transactional: false
--
-- One index for each question that is asked on every run, however many old rows there are (SPEC O-4, section 16).
-- They are partial where the question is about few rows. Built while the application goes on writing.

-- Phase B: which events wait, what each user wants, and how much of a day's quota is used (SPEC B-1, B-4, B-7).
CREATE INDEX CONCURRENTLY IF NOT EXISTS alert_events_pending_fanout_idx
    ON alert_events (created_at, id)
    WHERE fanout_completed_at IS NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS alerts_engine_prefs_user_idx
    ON user_alert_prefs (user_id);

-- All deliveries of a user, channel and day have one key, which PostgreSQL stores once.
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_user_idx
    ON user_alert_deliveries (user_id, channel, quota_day);

-- Instant deliveries that others wrote count too, and have no quota_day.
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_uncounted_idx
    ON user_alert_deliveries (user_id, channel, created_at)
    WHERE delivery_kind = 'instant' AND quota_day IS NULL;

-- What failed or was skipped gives its place in the quota back.
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_freed_idx
    ON user_alert_deliveries (quota_day, user_id, channel)
    WHERE quota_day IS NOT NULL AND status IN ('failed', 'skipped');

-- Phase C: what is due, oldest first, new and retried apart, and which leases expired (SPEC C-2, C-11).
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_new_idx
    ON user_alert_deliveries (channel, created_at, id)
    WHERE status = 'queued' AND delivery_kind = 'instant' AND next_retry_at IS NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_retry_idx
    ON user_alert_deliveries (channel, next_retry_at, id)
    WHERE status = 'queued' AND delivery_kind = 'instant' AND next_retry_at IS NOT NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_lease_idx
    ON user_alert_deliveries (lease_expires_at)
    WHERE status = 'sending';

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_new_idx
    ON user_alert_digests (channel, created_at, id)
    WHERE status = 'queued' AND next_retry_at IS NULL;

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_due_idx
    ON user_alert_digests (channel, next_retry_at, id)
    WHERE status = 'queued';

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_lease_idx
    ON user_alert_digests (lease_expires_at)
    WHERE status = 'sending';

-- Phase D: what waits for a digest (SPEC D-1).
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_deliveries_undigested_idx
    ON user_alert_deliveries (id)
    WHERE status = 'queued' AND delivery_kind = 'digest';

-- A digest's items; and what goes with a user who is deleted.
CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digest_items_digest_idx
    ON user_alert_digest_items (digest_id);

CREATE INDEX CONCURRENTLY IF NOT EXISTS user_alert_digests_user_idx
    ON user_alert_digests (user_id);
