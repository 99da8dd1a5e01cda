"""requirements.txt: what a runner installs, locked (SPEC R-4). Newer versions upstream change nothing here."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.locked import REPOSITORY, REQUIREMENTS, locked_environment, uv

if TYPE_CHECKING:
    from pathlib import Path


def pins(text: str) -> dict[str, Requirement]:
    lines = [line.removesuffix("\\").strip() for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found}


def project() -> list[Requirement]:
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    return [Requirement(one) for one in (*table["dependencies"], *table["optional-dependencies"]["speed"])]


def test_every_dependency_is_locked_to_a_version_that_the_project_allows():
    """Exactly one version each, which pyproject.toml allows."""
    locked = pins(REQUIREMENTS.read_text("utf-8"))
    for wanted in project():
        pin = locked[canonicalize_name(wanted.name)]
        (version,) = pin.specifier
        assert version.operator == "=="
        assert wanted.specifier.contains(version.version), wanted


def test_every_line_is_a_pin_or_a_hash_and_no_registry_is_named():
    """No index, no URL, no option; each package has at least one hash."""
    text = REQUIREMENTS.read_text("utf-8")
    packages = re.split(r"(?m)^(?=[a-z0-9])", re.sub(r"(?m)^#.*\n", "", text))[1:]
    assert len(packages) == len(pins(text))
    for one in packages:
        first, *hashes = [line.removesuffix("\\").strip() for line in one.splitlines()]
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [\w.' =<>!]+)?", first), first
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes)


@pytest.mark.slow
def test_it_is_complete():
    """Installed without looking for dependencies, nothing lacks anything."""
    assert "compatible" in uv("pip", "check", "--python", str(locked_environment() / "bin" / "python"))


@pytest.mark.slow
def test_it_is_what_the_project_asks_for_today(tmp_path: Path):
    """Locking again, with these versions preferred, changes no version: ``make requirements`` was not forgotten."""
    again = tmp_path / "requirements.txt"
    again.write_text(REQUIREMENTS.read_text("utf-8"), "utf-8")
    uv(
        "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--extra", "speed", "--no-config",
        "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--output-file", str(again), "pyproject.toml",
    )  # fmt: skip
    assert pins(again.read_text("utf-8")) == pins(REQUIREMENTS.read_text("utf-8"))
