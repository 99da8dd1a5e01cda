"""The older flags, translated (SPEC CLI-3)."""

from __future__ import annotations

import pytest

from alerts_engine.runner import translated


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ([], ["run"]),
        (["--phase", "b", "--dry-run"], ["run", "--phase", "b", "--dry-run"]),
        (["--since-hours=5", "--log-json"], ["run", "--since-hours=5", "--log-json"]),
        (["--preflight", "--phase", "c", "--batch-size", "5"], ["preflight", "--phase", "c"]),
        (["--phase", "c", "--since-hours=5", "--dry-run", "--preflight"], ["preflight", "--phase", "c", "--dry-run"]),
        (["--health", "--phase", "all", "--since-hours", "5", "--dry-run", "--log-json"], ["health", "--log-json"]),
    ],
)
def test_each_flag_reaches_the_command_that_knows_it(flags: list[str], arguments: list[str]):
    assert translated(flags) == arguments


def test_what_cannot_be_done_says_why():
    with pytest.raises(ValueError, match="one of"):
        translated(["--health", "--preflight"])
