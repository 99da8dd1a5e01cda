"""The alert rules and the dashboard ask for what is really there (SPEC P-5)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from alerts_engine import AlertsEngine
from alerts_engine.cli import app
from tests.support import ground
from tests.support.documents import table
from tests.support.sending import destination

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sending import World

FOLDER = files("alerts_engine") / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.rules.yml").read_text("utf-8"))
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text("utf-8"))
README = "alerts_engine/monitoring/README.md"
_SELECTED = re.compile(r"\b(alerts_engine_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"')


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *panels]


@pytest.fixture
async def metrics(world: World) -> dict[str, set[str]]:
    """Each metric with its labels, where everything has a sample."""
    world.alert(world.users(3), "email")
    world.fault(destination(1, "email"), status=401)
    await world.run()
    world.sandbox.faults.clear()
    await world.run()
    async with AlertsEngine(ground.settings(world.url, world.sandbox.url)) as engine:
        text = await engine.metrics()
    return {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }


async def test_every_expression_asks_for_a_metric_that_is_there(metrics: dict[str, set[str]]):
    """By its name and its labels: a rule on a name that is gone never fires."""
    asked = [found for expression in expressions() for found in _SELECTED.finditer(expression)]
    assert len(asked) > 20
    for name, selector in (found.groups() for found in asked):
        if name == "alerts_engine_health_problems":  # nothing is wrong here
            continue
        assert name in metrics, name
        assert {label for label, _ in _LABEL.findall(selector or "")} <= metrics[name], (name, selector)


async def test_the_page_lists_what_is_there(metrics: dict[str, set[str]]):
    """Names, types by their suffix, and labels."""
    listed = {
        name.strip("`"): set(re.findall(r"`(\w+)`", labels)) for name, _, labels, _ in table(README, "## Metrics")
    }
    assert listed.keys() - {"alerts_engine_health_problems"} == metrics.keys()
    assert all(listed[name] == labels for name, labels in metrics.items())
    types = {name.strip("`"): kind for name, kind, _, _ in table(README, "## Metrics")}
    assert {name for name, kind in types.items() if kind == "counter"} == {
        name for name in types if name.endswith("_total")
    }


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_whole(rule: dict[str, Any]):
    """Its parts, its severity, and a command of the engine that exists."""
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert set(rule["annotations"]) == {"summary", "command"}
    assert rule["annotations"]["summary"].endswith((".", "?"))
    program, name, *_ = rule["annotations"]["command"].split()
    assert (program, name in get_command(app).commands) == ("alerts-engine", True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_is_balanced(expression: str):
    """What PromQL would not parse at all."""
    outside = re.sub(r'"[^"]*"', "", expression)
    assert all(outside.count(one) == outside.count(other) for one, other in ("()", "[]", "{}"))
    assert expression.count('"') % 2 == 0


def test_promtool_takes_the_rules_where_there_is_one(tmp_path: Path):
    """Its word is the last one; the tests above stand alone where it is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert rules()
        return
    path = tmp_path / "alerts.rules.yml"
    path.write_text((FOLDER / "alerts.rules.yml").read_text("utf-8"))
    checked = subprocess.run([promtool, "check", "rules", "--lint-fatal", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for number, expression in enumerate(expressions()):
        one = tmp_path / f"{number}.yml"
        plain = expression.replace("$__rate_interval", "5m")
        one.write_text(json.dumps({"groups": [{"name": "x", "rules": [{"record": "x:y", "expr": plain}]}]}))
        checked = subprocess.run([promtool, "check", "rules", one], capture_output=True, check=False)
        assert checked.returncode == 0, (expression, checked.stderr)


def test_the_dashboard_is_whole():
    """Each panel has a title, a place of its own, and asks the data source that its reader chooses."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) >= 8
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
