"""The schedules that the manual shows are valid, and start a run (SPEC K-1, section 12)."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.acceptance.conftest import CommandLine, answer_of
from tests.support.documents import MANUAL, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alerts_engine.sandbox import Sandbox

HOME = "/srv/alerts"
PROGRAM = ".venv/bin/alerts-engine"
REAL_PROGRAM = f"{sys.prefix}/bin/alerts-engine"


def shown(language: str) -> list[str]:
    return [block.text for block in blocks(MANUAL) if block.language == language]


@pytest.fixture
def shell(tmp_path: Path, sandbox: Sandbox, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, {"DATABASE_URL": database_url, **sandbox.settings})


async def test_crontab_starts_what_it_says(shell: CommandLine):
    """Five fields of time, then a command that says nothing when all is well."""
    (crontab,) = shown("cron")
    for line in crontab.splitlines():
        *times, command = line.split(maxsplit=5)
        assert all(set(field) <= set("*/,-0123456789") for field in times), line
        here = command.replace(HOME, str(shell.folder)).replace(PROGRAM, REAL_PROGRAM)
        answer = await shell("-c", here, program=("sh",))
        assert answer.code == 0, answer.err
    assert answer.out


async def test_good_run_from_cron_is_silent(shell: CommandLine):
    """Cron mails what a command writes, so only what needs somebody is written."""
    first = shown("cron")[0].splitlines()[0].split(maxsplit=5)[5]
    _, _, command = first.partition(" && ")
    answer = await shell(*shlex.split(command)[1:])
    assert (answer.code, answer.out, answer.err) == (0, "", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
async def test_systemd_accepts_its_units(tmp_path: Path):
    """`systemd-analyze verify` finds nothing to say about the service and its timer."""
    units = [block for block in blocks(MANUAL) if block.language == "systemd"]
    for unit in units:
        (tmp_path / str(unit.file)).write_text(unit.text.replace(f"{HOME}/{PROGRAM}", REAL_PROGRAM))
    names = [str(tmp_path / str(unit.file)) for unit in units]
    verify = CommandLine(tmp_path, {})
    answer = await answer_of(await verify.start("verify", "--man=no", *names, program=("systemd-analyze",)))
    assert (answer.code, answer.out, answer.err) == (0, "", "")


async def test_systemd_service_runs(shell: CommandLine):
    """What the unit starts is a run, and its patience is longer than that of a stop (CLI-7)."""
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(next(text for text in shown("systemd") if "[Service]" in text))
    assert float(unit["Service"]["TimeoutStopSec"]) > 20
    await _has_run(shell, shlex.split(unit["Service"]["ExecStart"]))


async def test_kubernetes_job_runs(shell: CommandLine):
    """One at a time, never repeated by itself, with time enough to stop."""
    (manifest,) = (yaml.safe_load(text) for text in shown("yaml"))
    assert (manifest["kind"], manifest["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 20
    await _has_run(shell, _args(pod))


def _args(pod: Mapping[str, list[Mapping[str, list[str]]]]) -> list[str]:
    (container,) = pod["containers"]
    return container["args"]


async def _has_run(shell: CommandLine, command: list[str]) -> None:
    assert command[0].endswith("alerts-engine")
    answer = await shell(*command[1:])
    assert answer.code == 0, answer.err
    assert {json.loads(line)["level"] for line in answer.err.splitlines()} <= {"info", "warning"}
    recorded = await shell("runs", "show", "last", "--json")
    assert json.loads(recorded.out)["status"] == "success"
