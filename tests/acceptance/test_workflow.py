"""The workflow that runs the engine on GitHub, executed step by step (SPEC R-4)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from alerts_engine.sandbox import Fault
from alerts_engine.settings import Settings, variable_names
from alerts_engine.types import Phase
from tests.acceptance.conftest import add_news, statuses
from tests.support.github import Job, read_workflow
from tests.support.locked import REPOSITORY, locked_environment

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from alerts_engine.sandbox import Sandbox

WORKFLOWS = REPOSITORY / ".github" / "workflows"
WORKFLOW = read_workflow(WORKFLOWS / "alerts_engine_v2.yml")
(JOB,) = WORKFLOW["jobs"].values()
KNOWN_ACTIONS = {
    "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683",
    "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065",
    "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02",
}
SET_BY_GITHUB = {name for name in variable_names().values() if name.startswith("GITHUB_")} | {"CI"}
ONLY_THE_APPLICATION = {"INTERNAL_RUNNER_TOKEN"}


# --- what stands in it ----------------------------------------------------------------------------------------------


def test_it_runs_every_ten_minutes_and_never_twice_at_once():
    """Its schedule, its inputs, its time, its rights (R-4)."""
    assert WORKFLOW["on"]["schedule"] == [{"cron": "*/10 * * * *"}]
    inputs = WORKFLOW["on"]["workflow_dispatch"]["inputs"]
    assert set(inputs) == {"phase", "dry_run", "since_hours", "batch_size", "alerts_enabled"}
    assert set(inputs["phase"]["options"]) == {str(phase) for phase in Phase}
    assert WORKFLOW["concurrency"] == {"group": "alerts-engine-v2", "cancel-in-progress": False}
    assert (JOB["timeout-minutes"], WORKFLOW["permissions"], JOB["permissions"]) == (10, {}, {"contents": "read"})


def test_every_setting_reaches_the_engine_under_its_name():
    """Secrets from secrets, and only to the steps of the engine; all else from variables (R-4, section 4)."""
    secret = {
        variable_names()[name] for name, one in Settings.model_fields.items() if "SecretStr" in str(one.annotation)
    }
    steps = {
        step["name"]: step.get("env", {}) for step in JOB["steps"] if step.get("name") in {"Preflight", "Run", "Health"}
    }
    for env in steps.values():
        assert env == {name: f"${{{{ secrets.{name} }}}}" for name in env}
        assert set(env) == secret - ONLY_THE_APPLICATION
    others = set(variable_names().values()) - secret - SET_BY_GITHUB
    assert others <= set(JOB["env"])
    assert all(f"vars.{name}" in JOB["env"][name] for name in others)
    assert "secrets." not in str([JOB["env"], [step for step in JOB["steps"] if step.get("name") not in steps]])


def test_no_expression_stands_in_a_script():
    """Inputs reach the shell through its environment alone (R-4)."""
    for path in WORKFLOWS.glob("*.yml"):
        for job in read_workflow(path)["jobs"].values():
            assert not [step["run"] for step in job["steps"] if "${{" in step.get("run", "")]


def test_actions_are_pinned_by_their_commit():
    """To commits that somebody has looked up, and no others."""
    for path in WORKFLOWS.glob("*.yml"):
        used = {step["uses"] for job in read_workflow(path)["jobs"].values() for step in job["steps"] if "uses" in step}
        assert used <= KNOWN_ACTIONS


def test_the_times_leave_the_engine_its_own_end():
    """It stops by itself before GitHub does, and a cancelled one before it is killed (CLI-7)."""

    def default(name: str) -> float:
        found = re.search(r"\|\| '(\d+)'", JOB["env"][name])
        assert found is not None
        return float(found[1])

    longest, shutdown = default("ALERTS_MAX_RUN_SECONDS"), default("ALERTS_SHUTDOWN_SECONDS")
    fields = Settings.model_fields
    assert shutdown < 7.5
    assert longest + shutdown + fields["send_timeout_seconds"].default < JOB["timeout-minutes"] * 60 - 60
    assert fields["send_lease_seconds"].default < 600


# --- what it does ---------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What a checkout leaves there."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    for name in ("alerts_engine", "sql", "migrations"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture
def job(workspace: Path, database_url: str, sandbox: Sandbox) -> Job:
    """A scheduled job; the packages are there already, and none can be downloaded."""
    # The base URLs lead to this machine, which only the sandbox is.
    secrets = {name: value for name, value in sandbox.settings.items() if "_URL" not in name and name != "EMAIL_FROM"}
    variables = {name: value for name, value in sandbox.settings.items() if name not in secrets}
    base = {
        "PATH": f"{locked_environment() / 'bin'}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return Job(WORKFLOW, workspace, base, variables=variables, secrets=secrets | {"DATABASE_URL": database_url})


def report(job: Job) -> dict[str, Any]:
    found = json.loads((job.workspace / "logs" / "run.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def runs_recorded(connection: psycopg.Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute(
        "SELECT triggered_by, phase, status FROM alerts_engine_runs ORDER BY started_at"
    ).fetchall()
    connection.rollback()
    return rows  # type: ignore[return-value]


async def test_a_scheduled_run_sends_and_says_so(job: Job, postgresql: psycopg.Connection):
    """Installed, looked at, run: the messages, the history, the logs and the page (R-4, O-1)."""
    add_news(postgresql, users=3)
    await job.execute()
    assert job.ok, job.steps
    assert "Requirement already satisfied" in job.steps["Install"].out
    assert statuses(postgresql) == {"sent": 3}
    assert runs_recorded(postgresql) == [("github_actions_schedule", "all", "success")]
    assert {path.name for path in (job.workspace / "logs").iterdir()} == {
        "health.txt", "install.txt", "preflight.txt", "run.json", "run.jsonl",
    }  # fmt: skip
    lines = (job.workspace / "logs" / "run.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["phase"] for line in lines} == {"a", "b", "d", "c"}
    assert "✅ alerts-engine: success" in job.summary
    assert "| email | 3 | 0 | 0 | 0 |" in job.summary


async def test_what_is_not_set_is_no_warning(job: Job):
    """GitHub hands an unset variable on as an empty one, and nobody made a mistake."""
    await job.execute()
    assert job.ok
    assert "set but empty" not in job.summary + "".join(step.out for step in job.steps.values())


async def test_preflight_keeps_a_run_from_beginning(job: Job, postgresql: psycopg.Connection):
    """The job fails, nothing is run or sent, the page says why, and the logs are kept (R-1, R-4)."""
    add_news(postgresql, users=2)
    job.variables = {**job.variables, "ALERTS_TIMEZONE": "Mars/Olympus"}
    await job.execute()
    assert not job.ok
    assert {name: job.steps[name].outcome for name in ("Preflight", "Run", "Keep the logs")} == {
        "Preflight": "failure", "Run": "skipped", "Keep the logs": "success",
    }  # fmt: skip
    assert "ALERTS\\_TIMEZONE must be" in job.summary
    assert (runs_recorded(postgresql), statuses(postgresql)) == ([], {})


async def test_a_failing_channel_fails_the_job_and_nothing_else(
    job: Job, postgresql: psycopg.Connection, sandbox: Sandbox
):
    """The other channels' messages are sent, its rows stay queued, and the page says what to do (C-7, R-4)."""
    add_news(postgresql, users=2)
    postgresql.execute("UPDATE users SET telegram_chat_id = '4711' WHERE id = 1")
    postgresql.commit()
    sandbox.faults.add(Fault(provider="brevo", status=401, code="unauthorized"))
    await job.execute()
    assert (job.ok, job.steps["Run"].outcome, job.steps["Keep the logs"].outcome) == (False, "failure", "success")
    rows = postgresql.execute("SELECT channel, status, count(*) FROM user_alert_deliveries GROUP BY 1, 2").fetchall()
    assert {("email", "queued", 2), ("telegram", "sent", 1)} <= set(rows)
    assert "❌ alerts-engine: failed" in job.summary
    assert "look at the key" in job.summary
    assert job.steps["Health"].outcome == "failure"
    assert "### ❌ health: failing" in job.summary
    assert "`alerts-engine preflight --check-credentials`" in job.summary


async def test_a_dry_run_by_hand_changes_nothing(job: Job, postgresql: psycopg.Connection):
    """Its inputs reach the engine (X-1, R-4)."""
    add_news(postgresql, users=2)
    job.event, job.inputs = "workflow_dispatch", {"dry_run": True, "since_hours": "48", "batch_size": "5"}
    await job.execute()
    assert job.ok
    assert report(job)["dry_run"]
    assert (statuses(postgresql), runs_recorded(postgresql)) == ({}, [("github_actions_manual", "all", "success")])
    assert "A dry run" in job.summary


@pytest.mark.parametrize(
    ("inputs", "variables"), [({"alerts_enabled": False}, {}), ({}, {"ALERTS_V2_ENABLED": "false"})]
)
async def test_switched_off_it_does_nothing(
    job: Job, postgresql: psycopg.Connection, inputs: dict[str, object], variables: dict[str, str]
):
    """By the input or by the variable, which the input's default does not override (CLI-2)."""
    add_news(postgresql, users=1)
    job.event, job.inputs, job.variables = "workflow_dispatch", inputs, {**job.variables, **variables}
    await job.execute()
    assert job.ok
    assert (report(job)["status"], statuses(postgresql), runs_recorded(postgresql)) == ("skipped", {}, [])


@pytest.mark.parametrize("name", ["phase", "since_hours", "batch_size"])
@pytest.mark.parametrize(
    "value", ['"; touch owned; echo "', "$(touch owned)", "`touch owned`", "1\ntouch owned", "--json; touch owned"]
)
async def test_a_hostile_input_is_a_wrong_value(
    job: Job, postgresql: psycopg.Connection, name: str, value: str, workspace: Path
):
    """Never shell: the job fails, and nothing is run (R-4)."""
    add_news(postgresql, users=1)
    job.event, job.inputs = "workflow_dispatch", {name: value}
    await job.execute()
    assert not job.ok
    assert not await asyncio.to_thread((workspace / "owned").exists)
    assert (statuses(postgresql), runs_recorded(postgresql)) == ({}, [])


async def test_a_cancelled_job_leaves_nothing_half_done(job: Job, postgresql: psycopg.Connection, sandbox: Sandbox):
    """SIGINT in the middle: sends in flight end, the rest is queued again, the record is closed, the logs are kept."""
    add_news(postgresql, users=40)
    job.variables = {**job.variables, "ALERTS_SEND_CONCURRENCY": "4"}
    sandbox.faults.add(Fault(destination="*", delay=0.5))
    job.cancel_when = lambda step: step == "Run" and len(sandbox.messages) >= 4
    await job.execute()
    assert job.cancelled
    assert (job.steps["Run"].outcome, job.steps["Keep the logs"].outcome) == ("failure", "success")
    after = statuses(postgresql)
    assert after.keys() == {"sent", "queued"}
    assert after["sent"] == len(sandbox.messages)
    assert runs_recorded(postgresql) == [("github_actions_schedule", "all", "failed")]
    assert "a signal came" in job.summary


@pytest.mark.parametrize("there", [True, False])
async def test_without_requirements_the_project_is_installed_or_it_fails_with_a_message(job: Job, there: bool):
    """requirements.txt, else pyproject.toml, else a sentence (R-4)."""
    (job.workspace / "requirements.txt").unlink()
    if there:
        job.workflow = {**WORKFLOW, "jobs": {"run": {**JOB, "steps": JOB["steps"][:3]}}}
        await job.execute()
        assert (job.ok, job.outputs["found"]) == (True, {"file": "pyproject.toml"})
        return
    (job.workspace / "pyproject.toml").unlink()
    await job.execute()
    assert not job.ok
    assert "::error::There is neither a requirements.txt nor a pyproject.toml" in job.steps["Find what to install"].out
    assert {step.outcome for name, step in job.steps.items() if name in {"Install", "Preflight", "Run"}} == {"skipped"}
