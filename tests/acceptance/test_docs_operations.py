"""The operators' tables are the code's (SPEC O-4, O-6)."""

from __future__ import annotations

import ast
import dataclasses
import inspect

from alerts_engine.operations import diagnosis
from alerts_engine.operations.causes import CAUSES
from alerts_engine.operations.diagnosis import Thresholds
from tests.support.documents import table

DOCUMENT = "alerts_engine/operations/README.md"


def test_causes_are_all_there():
    """In their order, with the same words: ``failures`` says what the page says."""
    rows = [(codes.replace("`", ""), meaning, advice) for codes, meaning, advice in table(DOCUMENT, "## failures")]
    assert rows == [(cause.codes, cause.meaning, cause.advice) for cause in CAUSES]


def test_thresholds_are_all_there_with_their_reasons():
    """Each value with the sentence that stands beside it."""
    rows = [(name.strip("`"), float(value), why) for name, value, why in table(DOCUMENT, "## health")]
    fields = [(one.name, float(one.default)) for one in dataclasses.fields(Thresholds)]
    assert [(name, value) for name, value, _ in rows] == fields
    assert [why for *_, why in rows] == reasons()


def reasons() -> list[str]:
    """The docstrings of the fields."""
    [made] = ast.parse(inspect.getsource(diagnosis.Thresholds)).body
    assert isinstance(made, ast.ClassDef)
    texts = [one.value.value for one in made.body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
    return [str(text) for text in texts[1:]]
