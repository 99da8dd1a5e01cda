"""What ``explain`` shows to people: decisions and their facts in words."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from alerts_engine.channels import channels
from alerts_engine.commands.tables.drawing import Table
from alerts_engine.commands.tables.words import moment_text
from alerts_engine.operations.explain import Verdict
from alerts_engine.types import SINCE_HOURS, Kind, Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from alerts_engine.operations.explain import Answer, Decision, DeliveryState, Explanation, Facts, Preference

_VERDICTS = {
    Verdict.DELIVER: "would deliver",
    Refusal.PLAN: "not in the plan",
    Refusal.PREFS: "not wanted",
    Refusal.MISSING_DESTINATION: "no destination",
    Refusal.QUOTA: "over the quota",
    Verdict.EMAIL_UNVERIFIED: "email unverified",
    Verdict.NOT_IN_ALLOWLIST: "not in allowlist",
    Verdict.CHANGED_SINCE: "changed since",
}
_CONDITIONS = {
    "enabled": "switched off",
    "alert_type": "another type",
    "region": "another region",
    "asset": "another asset",
    "threshold": "below the threshold",
}


# --- explain --------------------------------------------------------------------------------------------------------


def explanation_tables(explanation: Explanation) -> Iterator[Table]:
    """One event: a row per channel, and the preference rows behind it."""
    event = explanation.event
    where = f", {event.scope_region}" if event.scope_region else ""
    title = f"event {event.id} for user {explanation.user_id}: {event.headline}\n"
    title += f"{event.alert_type}{where}, severity {event.severity}, {moment_text(event.created_at)} UTC"
    rows = [
        (decision.channel, str(decision.verdict), _why(decision, explanation), _since(decision, explanation))
        for decision in explanation.decisions
    ]
    yield Table(title, ("channel", "decision", "why", "since"), rows, _as_of(explanation))
    if explanation.preferences:
        asked = [(str(one.row.id), _asked(one), _held_against(one)) for one in explanation.preferences]
        left_out = explanation.preferences_left_out
        caption = f"and {left_out} more" if left_out else ""
        yield Table("preferences", ("row", "asks for", "this event"), asked, caption)


def explanations_table(user_id: int, explanations: Sequence[Explanation]) -> Table:
    """Several events: a row each."""
    rows = [
        (f"{one.event.id}", moment_text(one.event.created_at), one.event.headline, *map(_in_short, one.decisions))
        for one in explanations
    ]
    columns = ("event", "created (UTC)", "headline", *channels())
    caption = f"alerts-engine explain --user {user_id} --event ID says why." if rows else ""
    return Table(f"the newest events for user {user_id}", columns, rows, caption, "There are no events yet.")


def _in_short(decision: Decision) -> str:
    if not decision.deliveries:
        return _VERDICTS[decision.verdict]
    return ", ".join(_state(delivery) for delivery in decision.deliveries)


def _as_of(explanation: Explanation) -> str:
    today = "plan, preferences and addresses are today's"
    if explanation.event.reached:
        return f"decided as of the fan-out, {moment_text(explanation.decided_at)} UTC; {today}"
    said = f"not fanned out yet: what the fan-out would decide now, {moment_text(explanation.decided_at)} UTC; {today}"
    if explanation.decided_at - explanation.event.created_at > timedelta(hours=SINCE_HOURS):
        said += f"\nolder than {SINCE_HOURS} hours: only a run with a larger --since-hours takes it"
    return said


def _why(decision: Decision, explanation: Explanation) -> str:
    if decision.verdict is decision.today:
        return _reason(decision.today, decision, explanation)
    if decision.verdict is Verdict.CHANGED_SINCE:
        return "nothing was made then; today's plan, preferences and addresses would deliver"
    return f"it was made; by what there is today: {_reason(decision.today, decision, explanation)}"


def _reason(answer: Answer, decision: Decision, explanation: Explanation) -> str:
    if decision.facts is None:
        return _NOT_LOOKED_AT.get(answer, "")
    if isinstance(answer, Refusal):
        return _refused(answer, decision.facts, decision.channel, explanation)
    return f"{_wanted(decision.facts, explanation)}; {_allowance(decision.facts, decision)}"


def _refused(reason: Refusal, facts: Facts, channel: str, explanation: Explanation) -> str:
    """Each reason in a sentence."""
    match reason:
        case Refusal.PLAN:
            return _refused_by_plan(facts, channel, explanation.event.alert_type)
        case Refusal.PREFS:
            return _refused_by_wishes(facts, channel, explanation)
        case Refusal.MISSING_DESTINATION:
            return f"the user has no {channels()[channel].destination}"
        case Refusal.QUOTA:
            return f"{facts.used} of {facts.per_day} a day are used (plan {facts.plan})"
        case _:
            assert_never(reason)


_NOT_LOOKED_AT: dict[Answer, str] = {
    Verdict.EMAIL_UNVERIFIED: "the user's email address is not verified",
    Verdict.NOT_IN_ALLOWLIST: "ALERTS_SEND_ALLOWLIST_USER_IDS is set, and this user is not in it",
}


def _refused_by_plan(facts: Facts, channel: str, alert_type: str) -> str:
    if not facts.type_allowed:
        return f"plan {facts.plan} does not allow {alert_type}"
    if facts.per_day is None:
        return f"plan {facts.plan} does not allow {channel}"
    if not channels()[channel].has_digests:
        return f"it would come in a digest (plan {facts.plan}), and there are no {channels()[channel].title} digests"
    return f"it would come in a digest, and plan {facts.plan} has none"


def _refused_by_wishes(facts: Facts, channel: str, explanation: Explanation) -> str:
    if facts.wanted and facts.stopped:
        return f"the user has stopped {explanation.event.alert_type} on {channel}"
    if facts.wanted:
        return f"the user has switched {channel} off"
    if facts.cooldown_minutes and facts.heard_at:
        return f"a cooldown of {facts.cooldown_minutes} minutes, last heard of it at {moment_text(facts.heard_at)}"
    if not explanation.preferences:
        return "no preference rows: the defaults are HIGH_IMPACT_EVENT in Europe"
    if len(explanation.preferences) == 1:
        return f"preference {explanation.preferences[0].row.id}: {_held_against(explanation.preferences[0])}"
    return f"none of {len(explanation.preferences) + explanation.preferences_left_out} preferences matches"


def _wanted(facts: Facts, explanation: Explanation) -> str:
    matching = [one for one in explanation.preferences if one.matches]
    if not matching:
        return "no preference rows: the defaults match"
    shortest = min(matching, key=lambda one: one.cooldown_minutes)
    heard = f", last heard of it at {moment_text(facts.heard_at)}" if facts.heard_at else ""
    return f"preference {shortest.row.id} matches{heard}"


def _allowance(facts: Facts, decision: Decision) -> str:
    if facts.over_quota:
        return f"{facts.used} of {facts.per_day} a day are used, so it goes into the digest (plan {facts.plan})"
    if decision.kind is Kind.DIGEST:
        return f"in a digest (plan {facts.plan})"
    return f"{facts.used} of {facts.per_day} a day used by other events (plan {facts.plan})"


def _asked(preference: Preference) -> str:
    row = preference.row
    asset = f", {row.asset}" if row.asset else ""
    threshold = "" if row.threshold is None else f", from {row.threshold:g}"
    cooldown = f", every {preference.cooldown_minutes} minutes at most" if preference.cooldown_minutes else ""
    return f"{row.alert_type}, {row.region}{asset}{threshold}{cooldown}"


def _held_against(preference: Preference) -> str:
    return ", ".join(_CONDITIONS[name] for name in preference.failed_conditions) or "matches"


def _since(decision: Decision, explanation: Explanation) -> str:
    if decision.deliveries:
        return "\n".join(_state_in_full(delivery) for delivery in decision.deliveries)
    return "–" if explanation.event.reached else "waits for the fan-out"


def _state(delivery: DeliveryState) -> str:
    if delivery.digest_id is None and delivery.kind is Kind.INSTANT:
        return str(delivery.status)
    return f"{_collection(delivery)} {delivery.digest_status or delivery.status}"


def _state_in_full(delivery: DeliveryState) -> str:
    """The delivery, or the digest that it went into: its state, what is wrong, and when something happens next."""
    if delivery.digest_id is not None:
        told = [f"{_collection(delivery)} {delivery.digest_id}: {delivery.digest_status}"]
        due = delivery.digest_due_at
        if delivery.digest_uncertain_since is not None:
            return ", ".join([*told, _uncertain(delivery.digest_uncertain_since, delivery.digest_sent_by, due)])
        told += _times(delivery.digest_status, delivery.digest_sent_at, due)
        return ", ".join(told + _trouble(delivery.digest_attempts, delivery.digest_last_error))
    waits = delivery.kind is Kind.DIGEST and delivery.status is Status.QUEUED
    told = [f"delivery {delivery.id}: {'waits for its digest' if waits else delivery.status}"]
    if delivery.uncertain_since is not None:
        return ", ".join([*told, _uncertain(delivery.uncertain_since, delivery.sent_by, delivery.next_retry_at)])
    told += _times(delivery.status, delivery.sent_at, delivery.next_retry_at)
    return ", ".join(told + _trouble(delivery.attempts, delivery.last_error))


def _collection(delivery: DeliveryState) -> str:
    return "bundle" if delivery.kind is Kind.INSTANT else "digest"


def _uncertain(since: datetime, provider: str | None, due_at: datetime | None) -> str:
    """Its answer was lost: since when nobody knows whether it arrived, and what settles it (SPEC C-17)."""
    at = f" at {moment_text(due_at)}" if due_at is not None else ""
    settled = f"{provider} is asked, or recognises a repeat,{at}" if provider else f"it is sent again{at}"
    return f"uncertain since {moment_text(since)}, {settled}"


def _times(status: Status | None, sent_at: datetime | None, due_at: datetime | None) -> list[str]:
    if sent_at is not None:
        return [f"at {moment_text(sent_at)}"]
    return [f"due {moment_text(due_at)}"] if status is Status.QUEUED and due_at is not None else []


def _trouble(attempts: int | None, error: str | None) -> list[str]:
    return ([f"attempts {attempts}"] if attempts else []) + ([error] if error else [])
