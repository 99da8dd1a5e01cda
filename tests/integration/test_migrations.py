"""Migrations on an empty database, on the application's, and on half-way ones; and their files."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import sqlparse

from alerts_engine import schema
from alerts_engine.statements import folder
from tests.support import legacy
from tests.support.postgres15 import postgres15
from tests.support.shape import ALL, STARTS, columns_of, make, rows, shape

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def old_server() -> Iterator[str]:
    with postgres15() as url:
        yield url


def test_an_empty_database_gets_every_migration_once(bare_database_url):
    """Applying twice is a no-op (SPEC DB-2)."""
    assert schema.apply(bare_database_url) == ALL
    assert schema.apply(bare_database_url) == []


def test_asking_what_is_pending_changes_nothing(bare_database_url):
    """``migrate --check`` leaves a bare database bare (SPEC DB-2)."""
    assert schema.pending(bare_database_url) == ALL
    assert rows(bare_database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    schema.apply(bare_database_url)
    assert schema.pending(bare_database_url) == []


def test_the_tables_have_the_columns_of_the_contract(database_url):
    """Every column that SPEC DB-6 and O-1 name is there, and an event has no user."""
    delivery_state = {
        "status", "attempts", "next_retry_at", "last_error", "failure_kind", "sent_at", "provider_message_id",
        "claimed_by", "lease_expires_at", "created_at",
    }  # fmt: skip
    contract = {
        "alert_events": {
            "id", "alert_type", "scope_region", "scope_assets", "severity", "headline", "body", "driver_event_ids",
            "cooldown_key", "event_fingerprint", "fanout_completed_at", "payload", "created_at",
        },
        "user_alert_deliveries": {"id", "user_id", "alert_event_id", "channel", "delivery_kind", *delivery_state},
        "user_alert_digests": {
            "id", "user_id", "channel", "period", "window_start", "window_end", "digest_key", *delivery_state
        },
        "user_alert_digest_items": {"digest_id", "delivery_id"},
        "user_notification_settings": {"user_id", "digest_only", "digest_period"},
        "user_channel_preferences": {"user_id", "channel", "enabled"},
        "alerts_engine_runs": {
            "run_id", "triggered_by", "phase", "started_at", "finished_at", "duration_ms", "status", "counts",
            "error_summary", "git_sha", "dry_run",
        },
        "alerts_engine_run_items": {"run_id", "phase", "started_at", "finished_at", "duration_ms", "status", "counts"},
    }  # fmt: skip
    found = {table: set(names) for table, names in columns_of(database_url, *contract).items()}
    assert {table: names - found[table] for table, names in contract.items() if names - found[table]} == {}
    assert not any("user" in name for name in found["alert_events"])


@pytest.mark.parametrize("start", STARTS)
def test_every_start_ends_in_a_schema_that_serves_the_engine(bare_database_url, start):
    """Fresh, legacy and half-way databases end with the same engine columns, keys and valid indexes (SPEC DB-3)."""
    make(bare_database_url, start)
    assert schema.apply(bare_database_url) == ALL
    got = shape(bare_database_url)

    required = {
        ("alert_events", "event_fingerprint"), ("alert_events", "fanout_position"),
        ("user_alert_deliveries", "delivery_kind"), ("user_alert_deliveries", "status"),
        ("user_alert_deliveries", "attempts"), ("user_alert_digests", "attempts"), ("user_alert_digests", "status"),
    }  # fmt: skip
    assert required <= {(table, name) for table, name, _, not_null, _ in got["columns"] if not_null}
    unique = {
        ("alert_events", "(event_fingerprint)"),
        ("user_alert_deliveries", "(alert_event_id, user_id, channel, delivery_kind)"),
        ("user_alert_digests", "(digest_key)"),
        ("user_alert_digest_items", "(delivery_id)"),
        ("alerts_engine_runs", "(run_id)"),
    }
    assert unique <= {(table, text[text.index("(") :]) for table, text, _ in got["indexes"] if "UNIQUE" in text}
    assert all(valid for _, _, valid in got["indexes"])
    assert not [text for *_, text in got["constraints"] if "NOT VALID" in text]
    assert not [name for _, name, _ in got["constraints"] if name.endswith("_present")]


def test_a_legacy_database_ends_like_a_fresh_one(bare_database_url, database_url):
    """Apart from id widths and the application's own columns and checks, both shapes are one (SPEC DB-3)."""
    legacy.create(bare_database_url)
    schema.apply(bare_database_url)
    old, new = shape(bare_database_url), shape(database_url)

    def engine_columns(columns: set[tuple]) -> set[tuple]:
        engine = {"alert_events", "user_alert_deliveries", "user_alert_digests", "user_alert_digest_items",
                  "user_notification_settings", "user_channel_preferences", "alerts_engine_runs",
                  "alerts_engine_run_items"}  # fmt: skip
        differs = {"id", "alert_event_id", "reason", "created_at", "severity"}
        return {column for column in columns if column[0] in engine and column[1] not in differs}

    assert engine_columns(old["columns"]) == engine_columns(new["columns"])
    assert {text for _, text, _ in new["indexes"]} - {text for _, text, _ in old["indexes"]} == {
        "CREATE INDEX alert_events_cooldown_key_idx ON public.alert_events USING btree (cooldown_key)"
    }


@pytest.mark.parametrize("start", STARTS)
def test_postgresql_15_takes_the_migrations_up_and_down(old_server, start):
    """The older of the two tested servers (SPEC DB-1)."""
    name = f"start_{start}"
    rows(old_server, f"CREATE DATABASE {name}")
    url = old_server.replace("/postgres?", f"/{name}?")
    make(url, start)
    assert schema.apply(url) == ALL
    assert schema.rollback(url) == ALL[::-1]
    assert schema.apply(url) == ALL


def test_every_migration_has_its_rollback_beside_it():
    """A file and its rollback come together (SPEC DB-2)."""
    files = {path.name for path in folder("migrations").iterdir()}
    assert files == {f"{name}{end}" for name in ALL for end in (".sql", ".rollback.sql")}


@pytest.mark.parametrize("path", sorted(folder("migrations").iterdir()), ids=lambda path: path.name)
def test_yoyo_reads_the_file_as_it_was_meant(path):
    """A DO block is one statement to sqlparse, and plain ASCII needs no locale (SPEC DB-2)."""
    text = path.read_text(encoding="ascii")
    statements = [sqlparse.format(statement, strip_comments=True).strip() for statement in sqlparse.split(text)]
    assert all(statement.endswith(";") for statement in statements if statement)
    blocks = [statement for statement in statements if statement.startswith("DO $$")]
    assert len(blocks) == text.count("DO $$")
    assert all(block.endswith("$$;") for block in blocks)


CHECKSUMS = {
    "0001.source_tables.rollback.sql": "e352623eb487ee0e",
    "0001.source_tables.sql": "f3a3c7746441eb99",
    "0002.replaced.rollback.sql": "7be26ba37729c927",
    "0002.replaced.sql": "a743eba816834933",
    "0003.events_and_deliveries.rollback.sql": "91a9478d69b089d4",
    "0003.events_and_deliveries.sql": "3d4f4deb1c587787",
    "0004.engine_columns.rollback.sql": "5dcbd01a9a5e4e55",
    "0004.engine_columns.sql": "c1a3994f82e732c3",
    "0005.digests.rollback.sql": "328c7a152bc77972",
    "0005.digests.sql": "f35a16a9180b1511",
    "0006.user_settings.rollback.sql": "62c9dfaee0c40a9a",
    "0006.user_settings.sql": "0de3c92bcea93615",
    "0007.run_history.rollback.sql": "5ade231401339929",
    "0007.run_history.sql": "ff1e0747da00f657",
    "0008.application_inserts.rollback.sql": "f7636366544e4c2a",
    "0008.application_inserts.sql": "255043585249adb9",
    "0009.existing_rows.rollback.sql": "4f92060fe6334710",
    "0009.existing_rows.sql": "1fe28abbf6797bc6",
    "0010.checks.rollback.sql": "a89ebf4b855962c2",
    "0010.checks.sql": "7d6fe0330ff0e8a0",
    "0011.one_digest_per_delivery.rollback.sql": "fa67b29af2af4751",
    "0011.one_digest_per_delivery.sql": "28b378ed2de53771",
    "0012.unique_keys.rollback.sql": "3c44540384002696",
    "0012.unique_keys.sql": "66be8f4d252221aa",
    "0013.replaced_unique_keys.rollback.sql": "800940792e200fe4",
    "0013.replaced_unique_keys.sql": "8428c292eaf53095",
    "0014.references.rollback.sql": "febbd769459384e9",
    "0014.references.sql": "9a0d21b4a0e29490",
    "0015.validated_rows.rollback.sql": "861dfe85674e440f",
    "0015.validated_rows.sql": "4fdb16560fbc6226",
    "0016.required_columns.rollback.sql": "a0894a02cfd2ae95",
    "0016.required_columns.sql": "4312430b9b4de575",
    "0017.indexes.rollback.sql": "d79b7306d0722883",
    "0017.indexes.sql": "5066e83276c5cb8b",
    "0018.quota_counts.rollback.sql": "26a89b719045e52a",
    "0018.quota_counts.sql": "74d915eae982e73b",
    "0019.quota_index.rollback.sql": "3c1aef2eb8478fb9",
    "0019.quota_index.sql": "557e8a4a2f455b30",
    "0020.no_quota_ordinal.rollback.sql": "3c3958ec35eaf516",
    "0020.no_quota_ordinal.sql": "214131e806207bb2",
}
"""The first 16 digits of each file's SHA-256. yoyo knows a migration by its name: one that databases may have applied
must not change. Mend the shape in a new file."""


def test_a_migration_that_was_published_does_not_change():
    """The same name is the same migration everywhere (SPEC DB-2)."""
    found = {path.name: sha256(path.read_bytes()).hexdigest()[:16] for path in folder("migrations").iterdir()}
    assert found == CHECKSUMS
