"""A job of a workflow, executed as GitHub would: its ``run:`` steps in order, in bash, with GitHub's environment.

What ``uses:`` an action is passed over, and so is the runner's own work. Expressions are evaluated in the part of their
language that the workflow uses; any other is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_EXPRESSION = r"\$\{\{(.*?)\}\}"
_TOKEN = r"\s*(?:('(?:[^']|'')*')|([A-Za-z_][\w.]*(?:\(\))?)|(&&|\|\||==|!=|!|\(|\)))"
_OPERATORS = {"&&": " and ", "||": " or ", "!": " not ", "==": "==", "!=": "!=", "(": "(", ")": ")"}
_PATIENCE = 120


@dataclass(slots=True)
class Step:
    """What came of one step."""

    name: str
    outcome: str
    out: str = ""


@dataclass(slots=True)
class Job:
    """One job of a workflow in ``workspace``; ``base`` is what the machine has in its environment."""

    workflow: dict[str, Any]
    workspace: Path
    base: Mapping[str, str]
    event: str = "schedule"
    inputs: Mapping[str, object] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    cancel_when: Callable[[str], bool] = lambda _step: False
    """Asked twenty times a second, with the step's name: whether somebody cancels the job now."""
    steps: dict[str, Step] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    cancelled: bool = False

    @property
    def ok(self) -> bool:
        """Whether GitHub would call the job a success."""
        return not self.cancelled and all(step.outcome != "failure" for step in self.steps.values())

    @property
    def summary(self) -> str:
        """The page below the job."""
        path = self.workspace / ".runner" / "summary"
        return path.read_text("utf-8") if path.exists() else ""

    async def execute(self) -> Job:
        """Run the only job's steps, and come back when it has ended."""
        (job,) = self.workflow["jobs"].values()
        (self.workspace / ".runner").mkdir(exist_ok=True)
        for number, step in enumerate(job["steps"]):
            name = step.get("name") or step.get("uses", f"step {number}").partition("@")[0]
            self.steps[name] = await self._step(name, step, job.get("env", {}))
        return self

    async def _step(self, name: str, step: dict[str, Any], job_env: dict[str, Any]) -> Step:
        wanted = self._value(f"${{{{ {step['if']} }}}}") if "if" in step else self.ok
        if not wanted:
            return Step(name, "skipped")
        if "uses" in step:
            return Step(name, "success")
        outputs = self.workspace / ".runner" / "outputs"
        outputs.write_text("")
        script = self.workspace / ".runner" / "step.sh"
        script.write_text(step["run"])
        env = {key: self._text(value) for key, value in {**job_env, **step.get("env", {})}.items()}
        code, out = await self._bash(name, script, env)
        if "id" in step:
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return Step(name, "success" if code == 0 else "failure", out)

    async def _bash(self, name: str, script: Path, env: dict[str, str]) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", str(script),
            cwd=self.workspace,
            env={**self.base, **self._runner_env(), **env},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        reading = asyncio.create_task(process.communicate())
        try:
            async with asyncio.timeout(_PATIENCE):
                while not reading.done():
                    if not self.cancelled and self.cancel_when(name):
                        self.cancelled = True
                        process.send_signal(signal.SIGINT)
                    await asyncio.sleep(0.05)
            out, _ = await reading
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode is not None
        return process.returncode, out.decode()

    def _runner_env(self) -> dict[str, str]:
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": self.event,
            "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "someone/something",
            "GITHUB_OUTPUT": str(self.workspace / ".runner" / "outputs"),
            "GITHUB_STEP_SUMMARY": str(self.workspace / ".runner" / "summary"),
        }

    # --- expressions ------------------------------------------------------------------------------------------------

    def _text(self, value: object) -> str:
        """A value with its expressions replaced, as GitHub writes it into the environment."""

        def written(found: re.Match[str]) -> str:
            result = self._value(found[0])
            return str(result).lower() if isinstance(result, bool) else str(result or "")

        return re.sub(_EXPRESSION, written, str(value))

    def _value(self, expression: str) -> object:
        inner = re.fullmatch(_EXPRESSION, expression.strip())
        assert inner is not None, expression
        source, names = "", dict[str, object]()
        for literal, name, operator in self._tokens(inner[1].strip()):
            if operator:
                source += _OPERATORS[operator]
            else:
                key = f"_{len(names)}"
                names[key] = literal[1:-1].replace("''", "'") if literal else self._lookup(name)
                source += key
        # Python's "and" and "or" hand on an operand as GitHub's && and || do; the names are values, never code.
        return eval(source, {"__builtins__": {}}, names)  # noqa: S307

    def _tokens(self, text: str) -> list[tuple[str, str, str]]:
        found, at = [], 0
        while at < len(text):
            token = re.compile(_TOKEN).match(text, at)
            assert token is not None, f"nobody evaluates {text!r}"
            found.append((token[1] or "", token[2] or "", token[3] or ""))
            at = token.end()
        return found

    def _lookup(self, name: str) -> object:
        match name.split("."):
            case ["always()"]:
                return True
            case ["true" | "false"]:
                return name == "true"
            case ["github", "event_name"]:
                return self.event
            case ["inputs", one]:
                return self._input(one)
            case ["vars" | "secrets" as kind, one]:
                return {"vars": self.variables, "secrets": self.secrets}[kind].get(one, "")
            case ["steps", step, "outputs", one]:
                return self.outputs.get(step, {}).get(one, "")
        raise AssertionError(f"nobody evaluates {name}")

    def _input(self, name: str) -> object:
        """Of a run by hand, with its default; of a scheduled one there are none."""
        if self.event != "workflow_dispatch":
            return None
        return self.inputs.get(name, self.workflow["on"]["workflow_dispatch"]["inputs"][name]["default"])


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as GitHub reads it: ``on`` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow's file."""
    found = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    assert isinstance(found, dict)
    return found
