"""The one encoder of answers (SPEC CLI-4)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest
from pydantic import SecretStr

from alerts_engine import RunStatus, to_json
from alerts_engine.operations.findings import Findings

RUN = UUID("6a1b5a2e-9a1f-4f6e-8d52-0c1f6b8f2d11")


@dataclass(frozen=True, slots=True)
class Part:
    JSON_ALSO: ClassVar = ("twice",)

    amount: int

    @property
    def twice(self) -> int:
        return 2 * self.amount

    @property
    def hidden(self) -> int:
        return -self.amount


@dataclass(frozen=True, slots=True)
class Whole:
    run_id: UUID
    status: RunStatus
    at: datetime
    file: Path | None
    parts: tuple[Part, ...]


def test_an_answer_is_its_fields_and_the_properties_that_belong_to_it():
    whole = Whole(RUN, RunStatus.FAILED, datetime(2022, 2, 24, 10, tzinfo=UTC), Path("/x"), (Part(1), Part(2)))
    encoded = to_json({"whole": whole, RunStatus.SUCCESS: None})
    assert json.loads(json.dumps(encoded)) == {
        "whole": {
            "run_id": str(RUN),
            "status": "failed",
            "at": "2022-02-24T10:00:00+00:00",
            "file": "/x",
            "parts": [{"amount": 1, "twice": 2}, {"amount": 2, "twice": 4}],
        },
        "success": None,
    }


def test_a_secret_has_no_json_form():
    with pytest.raises(TypeError, match="SecretStr has no JSON form"):
        to_json({"key": SecretStr("hunter2")})


def test_a_finding_is_one_line_and_there_once():
    """Whoever adds it (SPEC R-1)."""
    findings = Findings(channels_configured={"email": True})
    findings.warn("odd\n  thing", "another")
    findings.warn("odd thing")
    findings.fail("wrong")
    assert not findings.ok
    assert to_json(findings) == {
        "channels_configured": {"email": True},
        "credentials": None,
        "notes": [],
        "db_ok": False,
        "migrations_ok": False,
        "warnings": ["odd thing", "another"],
        "errors": ["wrong"],
    }
