"""Migrations on an empty database, on the application's, and on half-way ones; and their files."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import sqlparse

from alerts_engine import schema
from alerts_engine.statements import folder
from tests.support import legacy
from tests.support.postgres15 import postgres15
from tests.support.shape import ALL, COLUMNS, STARTS, columns_of, make, rows, shape

if TYPE_CHECKING:
    from collections.abc import Iterator

README = folder("migrations") / "README.md"


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


DELIVERY_STATE = {
    "status", "attempts", "next_retry_at", "last_error", "failure_kind", "sent_at", "provider_message_id",
    "claimed_by", "lease_expires_at", "created_at",
}  # fmt: skip
CONTRACT = {
    "alert_events": {
        "id", "alert_type", "scope_region", "scope_assets", "severity", "headline", "body", "driver_event_ids",
        "cooldown_key", "event_fingerprint", "fanout_completed_at", "payload", "created_at",
    },
    "user_alert_deliveries": {"id", "user_id", "alert_event_id", "channel", "delivery_kind", *DELIVERY_STATE},
    "user_alert_digests": {
        "id", "user_id", "channel", "period", "window_start", "window_end", "digest_key", *DELIVERY_STATE
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
"""The columns that SPEC DB-6 and O-1 name."""
READ_ONLY = {
    "events", "risk_events", "risk_indices", "asset_risk", "users", "user_plans", "plan_settings", "user_alert_prefs",
}  # fmt: skip
"""The tables of SPEC DB-5."""


def test_the_tables_have_the_columns_of_the_contract(database_url):
    """Every column that SPEC DB-6 and O-1 name is there, and an event has no user."""
    found = {table: set(names) for table, names in columns_of(database_url, *CONTRACT).items()}
    assert {table: names - found[table] for table, names in CONTRACT.items() if names - found[table]} == {}
    assert not any("user" in name for name in found["alert_events"])


def test_what_is_beyond_the_contract_is_explained(database_url):
    """Columns, tables and functions of the engine's own are in ``migrations/README.md`` (SPEC DB-6)."""
    explained = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", README.read_text("utf-8")))))
    tables = {table for table, *_ in rows(database_url, COLUMNS)} - READ_ONLY
    columns = columns_of(database_url, *CONTRACT)
    own = {column for table, known in CONTRACT.items() for column in columns[table] if column not in known}
    functions = {
        name
        for (name,) in rows(database_url, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    }
    assert tables - CONTRACT.keys() | own | functions <= explained


def test_every_migration_is_explained():
    """In the order in which they are applied, in ``migrations/README.md`` (SPEC DB-2)."""
    assert re.findall(r"^\| `(\d{4}\.\w+)`", README.read_text("utf-8"), re.MULTILINE) == ALL


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
    files = {path.name for path in folder("migrations").glob("*.sql")}
    assert files == {f"{name}{end}" for name in ALL for end in (".sql", ".rollback.sql")}


@pytest.mark.parametrize("path", sorted(folder("migrations").glob("*.sql")), ids=lambda path: path.name)
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
    "0002.replaced.sql": "c6623e77ca4d1e46",
    "0003.events.rollback.sql": "262701e9935b9e36",
    "0003.events.sql": "3570a60c80144450",
    "0004.deliveries.rollback.sql": "46cad759c1e1c335",
    "0004.deliveries.sql": "416fad6891b29135",
    "0005.digests.rollback.sql": "83fecbebf0667433",
    "0005.digests.sql": "1b49b7a5915e9894",
    "0006.user_settings.rollback.sql": "62c9dfaee0c40a9a",
    "0006.user_settings.sql": "dc1b258eb43d900d",
    "0007.destinations.rollback.sql": "d9fa5ce06184a4ec",
    "0007.destinations.sql": "2fd4c6873ec0c1cf",
    "0008.quota_counts.rollback.sql": "26a89b719045e52a",
    "0008.quota_counts.sql": "fba0ce45d54971a3",
    "0009.run_history.rollback.sql": "b470a49c76f6b7b4",
    "0009.run_history.sql": "38dc797d53fa7f05",
    "0010.existing_rows.rollback.sql": "d97fa81a3e316a23",
    "0010.existing_rows.sql": "374618a733369210",
    "0011.unique_keys.rollback.sql": "a3f8f6f95c79846c",
    "0011.unique_keys.sql": "7b13ae4858ccb285",
    "0012.indexes.rollback.sql": "48d3769fc852ab38",
    "0012.indexes.sql": "9357ac32739aa5ad",
    "0013.replaced_keys.rollback.sql": "36e37441529b132d",
    "0013.replaced_keys.sql": "e2db6e65d91c0985",
    "0014.checks.rollback.sql": "c3c68cc02ea987ad",
    "0014.checks.sql": "9a57af31365f9223",
    "0015.references.rollback.sql": "d9fc874f5ed69f3a",
    "0015.references.sql": "1d8b623ccd2b5558",
    "0016.validated.rollback.sql": "37863b4b9cddc55e",
    "0016.validated.sql": "f7348918b397c8a3",
    "0017.uncertain_sends.rollback.sql": "7eac9bd20c4334a5",
    "0017.uncertain_sends.sql": "69b897095b339dfe",
    "0018.uncertain_indexes.rollback.sql": "b6ff4dccc8762eee",
    "0018.uncertain_indexes.sql": "1419374a1dfecfed",
    "0019.vacuum.rollback.sql": "6520465980e1fa23",
    "0019.vacuum.sql": "cfa42bf7e41ae2e6",
    "0020.outcomes.rollback.sql": "4a948fa8182a6008",
    "0020.outcomes.sql": "0ca240d274ccd34c",
    "0021.outcome_indexes.rollback.sql": "d910080ebd0afa9b",
    "0021.outcome_indexes.sql": "24660331475a1cd9",
    "0022.outcomes_so_far.rollback.sql": "347ffd701f3bf020",
    "0022.outcomes_so_far.sql": "8ed191e1447a67e9",
    "0023.over_quota.rollback.sql": "7edfa95e1caea935",
    "0023.over_quota.sql": "0281adaa64f4fbe9",
    "0024.bundles.rollback.sql": "44cf1d906af0c6dd",
    "0024.bundles.sql": "362a094b6241fb5d",
    "0025.readers_choices.rollback.sql": "2d59bf6205f4ed60",
    "0025.readers_choices.sql": "b45bd47dc7d9bc6a",
    "0026.reasons_as_table.rollback.sql": "eacf22f226dd0732",
    "0026.reasons_as_table.sql": "2eda2282ae69116b",
}
"""The first 16 digits of each file's SHA-256. yoyo knows a migration by its name: one that databases may have applied
must not change. Correct the shape in a new file."""


def test_a_migration_that_was_published_does_not_change():
    """The same name is the same migration everywhere (SPEC DB-2)."""
    found = {path.name: sha256(path.read_bytes()).hexdigest()[:16] for path in folder("migrations").glob("*.sql")}
    assert found == CHECKSUMS
