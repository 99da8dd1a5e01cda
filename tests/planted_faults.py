"""``python -m tests.planted_faults``: plant one fault at a time, and see whether the tests notice (by hand).

Each fault is a statement of the product, what is put in its place, and the tests that should fail then. The checkout is
copied once; every fault is planted in the copy, tried, and taken back. What survives is listed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPY = ROOT / ".alerts-engine" / "planted"
SQL_C, SQL_B, SQL_D = "sql/phase_c_send.sql", "sql/phase_b_fan_out.sql", "sql/phase_d_build_digests.sql"
SEND = "alerts_engine/phases/send"
C, OUTCOMES, CRASH = "test_phase_c.py", "test_phase_c_outcomes.py", "test_phase_c_crash.py"
B, D = "test_phase_b.py", "test_phase_d.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong line."""

    file: str
    right: str
    wrong: str
    noticed_by: str


FAULTS = (
    Fault(SQL_C, "FOR UPDATE OF r SKIP LOCKED", "FOR UPDATE OF r", C),
    Fault(SQL_C, "AND r.delivery_kind = 'instant'  -- only here", "AND TRUE  -- only here", C),
    Fault(SQL_C, "AND r.next_retry_at <= coalesce($5::timestamptz, now())", "AND TRUE", C),
    Fault(SQL_C, "ORDER BY r.created_at, r.id\n     LIMIT $2", "ORDER BY r.created_at DESC, r.id\n     LIMIT $2", C),
    Fault(SQL_C, "AND ($6::int8[] IS NULL OR r.user_id = ANY ($6))", "AND TRUE", C),
    Fault(SQL_C, "AND r.id <> ALL ($8)", "AND TRUE", f"{CRASH} {OUTCOMES}"),
    Fault(SQL_C, "r.lease_expires_at IS NOT NULL AND r.claimed_by = $1\n", "TRUE\n", CRASH),
    Fault(SQL_C, "AND r.lease_expires_at > coalesce($3::timestamptz, now()) + $4::interval", "AND TRUE", CRASH),
    Fault(SQL_C, "attempts = r.attempts + CASE WHEN x.begun THEN 1 ELSE 0 END", "attempts = r.attempts", CRASH),
    Fault(
        SQL_C, "WHEN x.begun AND ($3 OR r.attempts + 1 >= $2) THEN 'failed'", "WHEN x.begun AND $3 THEN 'failed'", CRASH
    ),
    Fault(SQL_C, "coalesce(p.enabled, TRUE) AS channel_enabled", "TRUE AS channel_enabled", f"{C} {OUTCOMES}"),
    Fault(SQL_C, "last_error = 'channel_not_configured'", "last_error = 'missing_destination'", f"{C} {OUTCOMES}"),
    Fault(SQL_B, "c.really_used + c.place > c.per_day", "c.really_used + c.place > c.per_day + 1", B),
    Fault(
        SQL_B,
        "ORDER BY e.severity DESC, e.created_at, e.id) AS quota_rank",
        "ORDER BY e.created_at, e.id) AS quota_rank",
        B,
    ),
    Fault(SQL_B, "AND u.email_verified IS NOT FALSE\n       AND ($7", "AND ($7", B),
    Fault(SQL_B, "AND ($7::int8[] IS NULL OR u.id = ANY ($7))", "", B),
    Fault(SQL_B, "p.region IN ('global', e.region)", "p.region IN (e.region)", B),
    Fault(SQL_B, "p.threshold <= e.value", "p.threshold < e.value", B),
    Fault(SQL_B, "OR s.digest_only = 1 OR", "OR", B),
    Fault(SQL_B, "c.has_digests AND p.digests > 0", "c.has_digests", B),
    Fault(SQL_B, "d.channel <> 'account'", "TRUE", B),
    Fault(SQL_B, "WHERE c.enabled IS FALSE", "WHERE FALSE", B),
    Fault(SQL_D, "t.ends + $4::interval", "t.ends", D),
    Fault(SQL_D, "OR g.attempts > 0 OR g.last_error IS NOT NULL", "", D),
    Fault(SQL_D, "last_error = 'batched_into_digest'", "last_error = NULL", D),
    Fault(
        f"{SEND}/row_update.py",
        "attempts = min(attempts, max(policy.max_attempts - 1, 0))",
        "pass",
        "../unit/test_row_update.py",
    ),
    Fault(
        f"{SEND}/backoff.py",
        "max(backoff * (1 + JITTER * random), retry_after or 0.0)",
        "backoff",
        "../unit/test_backoff.py",
    ),
    Fault(f"{SEND}/rates.py", "max(1.0, self._rate)", "self._rate * 10", "../unit/test_rates.py"),
    Fault(f"{SEND}/limits.py", "return self.left <= 0 and self.under_way <= 0", "return False", C),
    Fault(f"{SEND}/provider_calls.py", "self._limits.is_down = True", "pass", OUTCOMES),
    Fault(f"{SEND}/provider_calls.py", "self._limits.bucket.pause(seconds)", "pass", OUTCOMES),
    Fault("alerts_engine/channels/http.py", "allow_redirects=False", "allow_redirects=True", "test_channels.py"),
)


def main() -> None:
    options = _options()
    _copy()
    survived = [number for number in options.only or range(1, len(FAULTS) + 1) if not _is_noticed(number)]
    for number in survived:
        print(f"survived: {number} {FAULTS[number - 1]}")
    sys.exit(1 if survived else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="+", help="the faults of these numbers")
    return parser.parse_args()


def _copy() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def _is_noticed(number: int) -> bool:
    """Whether the tests fail while the fault is there."""
    fault = FAULTS[number - 1]
    path = COPY / fault.file
    right = path.read_text()
    if fault.right not in right:
        print(f"{number:2} {fault.file}: not there any more: {fault.right!r}")
        return False
    path.write_text(right.replace(fault.right, fault.wrong))
    try:
        code = _tests(fault.noticed_by)
    finally:
        path.write_text(right)
    print(
        f"{number:2} {'noticed' if code == 1 else f'survived (pytest: {code})'}  {fault.file}: {fault.wrong!r}",
        flush=True,
    )
    return code == 1


def _tests(names: str) -> int:
    files = [f"tests/integration/{name}" for name in names.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(COPY)}
    return subprocess.run(command, cwd=COPY, env=environment, check=False, capture_output=True).returncode


if __name__ == "__main__":
    main()
