"""One text for two tables: what ``-- also:`` derives (DESIGN section 3)."""

from __future__ import annotations

from alerts_engine.statements import load


def test_the_other_statement_has_the_other_table_and_not_the_lines_that_are_only_here():
    """Both are complete statements of their own, with one interface."""
    statements = load("phase_c_send")
    deliveries, digests = statements["are_deliveries_due"], statements["are_digests_due"]
    assert "user_alert_digests" in digests.text
    assert "user_alert_deliveries" not in digests.text
    assert "delivery_kind" in deliveries.text
    assert "delivery_kind" not in digests.text
    assert digests.parameters == deliveries.parameters


def test_the_other_statement_may_return_other_rows():
    """A claimed digest has no event of its own."""
    statements = load("phase_c_send")
    assert (statements["claim_deliveries"].returns, statements["claim_digests"].returns) == (
        "ClaimedDelivery",
        "ClaimedDigest",
    )
