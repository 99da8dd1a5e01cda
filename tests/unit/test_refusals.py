"""A reason not to deliver is one arm of a CASE, one member of an enum, and one sentence (SPEC B-4)."""

from __future__ import annotations

import re

from alerts_engine.phases.fan_out import FanOutCounts
from alerts_engine.phases.one_page import FanOutPage
from alerts_engine.statements import load
from alerts_engine.types import Kind, Refusal

SPECIFIED = {
    "deliveries_skipped_plan",
    "deliveries_skipped_prefs",
    "deliveries_skipped_missing_dest",
    "deliveries_skipped_quota",
}


def test_the_statement_knows_exactly_the_members():
    """What its CASEs give, but for the kinds of a delivery, and what a quota moves to the digest (SPEC B-4, B-7)."""
    text = load("phase_b_fan_out")["fan_out_page"].text
    given = set(re.findall(r"\b(?:THEN|ELSE) '(\w+)'", text)) - set(Kind) - {"moved"}
    assert given == set(Refusal)


def test_each_member_is_counted_under_its_name():
    """Also when it never came up (SPEC B-8)."""
    counts = FanOutCounts()
    refusals = {reason.value: number for number, reason in enumerate(Refusal, start=1)}
    for _ in range(2):
        counts.add(FanOutPage(10, 0, 0, 0, refusals, 0, [], None, None))
    told = counts.as_counts()
    assert {name for name in told if name.startswith("deliveries_skipped_")} == SPECIFIED
    assert [told[reason.count_name] for reason in Refusal] == [2 * number for number in refusals.values()]
    assert set(FanOutCounts().as_counts()) == set(told)
