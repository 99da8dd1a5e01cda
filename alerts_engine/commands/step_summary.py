"""A run's summary in Markdown, as GitHub shows it below a job (SPEC R-4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog

from alerts_engine.commands.tables.counts import PHASE_NAMES, stop_of, words_of
from alerts_engine.commands.tables.runs import WHO, trouble_text
from alerts_engine.commands.tables.words import duration_text, many, moment_text
from alerts_engine.operations.diagnosis import HealthStatus, Severity
from alerts_engine.plain_text import visible
from alerts_engine.reports import RunStatus
from alerts_engine.types import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from alerts_engine.operations.findings import Findings
    from alerts_engine.operations.health import HealthReport
    from alerts_engine.operations.summary import QueueState, RunSummary
    from alerts_engine.settings import Settings

_MARKS = {"success": "✅", "failed": "❌", "skipped": "⏭️", "running": "⏳"}
_OUTCOMES = ("sent", "failed", "retried", "skipped")
_LONGEST_TEXT = 2000
_HOUR = 60
_SPECIAL = r"([\\`*_{}\[\]()#+!|~@-])"
_SERVER = r"https?://[\w.-]+(:\d+)?"
_REPOSITORY = r"[\w.-]+/[\w.-]+"
_COMMIT = r"[0-9a-f]{7,64}"
_SHORT = 8
_RUNS_HELP = "`alerts-engine runs show {id}` has the details."


def summary_markdown(run: RunSummary, settings: Settings) -> str:
    """The whole page: what ran, what was sent by channel, what waits, and what needs somebody."""
    parts = [
        f"### {_MARKS.get(run.status, '')} alerts-engine: {run.status}",
        " · ".join(_facts(run, settings)),
        *(["**A dry run: nothing was changed, and nothing was sent.**"] if run.dry_run else []),
        *_attention(run),
        *_phases(run),
        *_by_channel(run),
        *_queue(run),
        _RUNS_HELP.format(id=run.run_id.split("-", 1)[0]),
    ]
    return "\n\n".join(parts) + "\n"


def failure_markdown(error: str) -> str:
    """The page of a run that could not begin."""
    return f"### {_MARKS['failed']} alerts-engine: failed\n\nNothing was run: {escaped(error)}\n"


def preflight_markdown(findings: Findings) -> str | None:
    """The page of a preflight that found something; ``None`` when it did not."""
    lines = [f"- ❌ {escaped(error)}" for error in findings.errors]
    lines += [f"- ⚠️ {escaped(warning)}" for warning in findings.warnings]
    mark = _MARKS["success" if findings.ok else "failed"]
    return "\n".join((f"### {mark} preflight", "", *lines, "")) if lines else None


def health_markdown(report: HealthReport) -> str:
    """The problems of a health report, each with the command that helps."""
    marks = {Severity.FAILING: "❌", Severity.DEGRADED: "⚠️", Severity.NOTE: "ℹ️"}
    lines = [f"- {marks[one.severity]} {escaped(one.message)}: `{one.command}`" for one in report.problems]
    mark = {HealthStatus.OK: "✅", HealthStatus.DEGRADED: "⚠️", HealthStatus.FAILING: "❌"}[report.status]
    return "\n".join((f"### {mark} health: {report.status}", "", *lines, ""))


def append_step_summary(markdown: str, settings: Settings) -> None:
    """Add it to GitHub's file, where there is one. A page that cannot be written fails no run."""
    path = settings.github_step_summary
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{markdown}\n")
    except OSError as error:
        log = structlog.get_logger("alerts_engine.command")
        log.warning("summary_not_written", variable="GITHUB_STEP_SUMMARY", error=error.strerror)


def escaped(text: str) -> str:
    """``text`` as one line in which nothing is markup; a text that is too long is cut."""
    line = " ".join(visible(text).split())
    cut = line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
    quoted = re.sub(_SPECIAL, r"\\\1", cut)
    return quoted.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    rule = ["---", *("--:" if numbers else "---" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


# --- what ran -------------------------------------------------------------------------------------------------------


def _facts(run: RunSummary, settings: Settings) -> Iterator[str]:
    yield f"phase {escaped(run.phase)}"
    yield escaped(WHO.get(run.triggered_by, run.triggered_by))
    yield f"started {escaped(moment_text(run.started_at))} UTC"
    if run.duration_ms is not None:
        yield f"took {duration_text(run.duration_ms)}"
    if run.git_sha:
        yield f"commit {_commit(run.git_sha, settings)}"


def _commit(sha: str, settings: Settings) -> str:
    server, repository = settings.github_server_url or "", settings.github_repository or ""
    if not re.fullmatch(_COMMIT, sha):
        return escaped(sha)
    if not (re.fullmatch(_SERVER, server) and re.fullmatch(_REPOSITORY, repository)):
        return f"`{sha[:_SHORT]}`"
    return f"[`{sha[:_SHORT]}`]({server}/{repository}/commit/{sha})"


def _phases(run: RunSummary) -> Iterator[str]:
    rows = []
    for one in run.phases:
        words = words_of(one.phase, one.counts)
        skipped = [trouble_text(one.trouble)] if one.trouble and one.status != RunStatus.FAILED else []
        said = [*words.done, *words.details, *skipped, *(["see above"] if one.trouble and not skipped else [])]
        name = f"{_MARKS.get(one.status, '')} {escaped(one.phase)} {PHASE_NAMES.get(one.phase, '')}"
        what = "<br>".join(map(escaped, said or ["nothing to do"]))
        rows.append((name, escaped(one.status), duration_text(one.duration_ms), what))
    if rows:
        yield _table(("phase", "status", "took", "what it would do" if run.dry_run else "what it did"), rows)


# --- what was sent --------------------------------------------------------------------------------------------------


def _by_channel(run: RunSummary) -> Iterator[str]:
    counts = next((one.counts for one in run.phases if one.phase == Phase.C), {})
    if would := counts.get("would_send"):
        kinds = ("deliveries", "digests")
        rows = [
            (escaped(channel), *(f"{rows.get(kind, {}).get('count', 0):,}" for kind in kinds))
            for channel, rows in would.items()
        ]
        yield _table(("would send by", "alerts", "digests"), rows, numbers=True)
    elif found := {channel: one for channel, one in counts.get("by_channel", {}).items() if any(one.values())}:
        names = list(dict.fromkeys((*_OUTCOMES, *(name for one in found.values() for name in one))))
        rows = [(escaped(channel), *(f"{one.get(name, 0):,}" for name in names)) for channel, one in found.items()]
        yield _table(("sent by", *(escaped(name.replace("_", " ")) for name in names)), rows, numbers=True)


def _queue(run: RunSummary) -> Iterator[str]:
    digests = _sent_digests(run)
    said = [f"{many(digests, 'digest')} sent"] if digests is not None and not run.dry_run else []
    if run.queue is not None:
        said = [*_waiting(run.queue), *said]
    if said:
        yield f"**Queue**: {', '.join(said)}."


def _sent_digests(run: RunSummary) -> int | None:
    counts: Any = next((one.counts for one in run.phases if one.phase == Phase.C), {}).get("digests")
    return None if counts is None else int(counts.get("sent", 0))


def _waiting(queue: QueueState) -> Iterator[str]:
    yield _oldest("alert", queue.oldest_delivery_minutes)
    yield _oldest("digest", queue.oldest_digest_minutes)
    yield f"{many(queue.digests_queued, 'digest')} queued"


def _oldest(what: str, minutes: float | None) -> str:
    if minutes is None:
        return f"no {what} is due"
    whole = max(0, round(minutes))
    age = f"{whole} min" if whole < _HOUR else f"{whole // _HOUR} h {whole % _HOUR} min"
    return f"the oldest due {what} has waited for {age}"


# --- what needs somebody --------------------------------------------------------------------------------------------


def _attention(run: RunSummary) -> Iterator[str]:
    lines = [f"- ❌ {escaped(text)}" for text in _errors(run)]
    lines += [f"- ⏸️ phase {escaped(one.phase)} {escaped(stop)}" for one in run.phases if (stop := stop_of(one.counts))]
    lines += [f"- ⚠️ {escaped(warning)}" for warning in run.warnings]
    if lines:
        yield "**What needs attention**"
        yield "\n".join(lines)


def _errors(run: RunSummary) -> Iterator[str]:
    if run.error:
        yield trouble_text(run.error)
    for one in run.phases:
        if one.status == RunStatus.FAILED and one.trouble:
            yield f"phase {one.phase}: {trouble_text(one.trouble)}"
