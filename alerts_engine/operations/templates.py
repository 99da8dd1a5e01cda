"""Whether the templates of ``ALERTS_TEMPLATES_DIR`` can be used (SPEC M-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts_engine.channels import channels
from alerts_engine.rendering import check_templates

if TYPE_CHECKING:
    from pathlib import Path

    from alerts_engine.rendering import TemplateProblem


def template_problems(folder: Path | None) -> list[TemplateProblem]:
    """What is wrong with the custom templates in ``folder``; nothing where there is none."""
    if folder is None:
        return []
    return check_templates(folder, digest_channels=[name for name, spec in channels().items() if spec.has_digests])
