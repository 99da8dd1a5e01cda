"""What preflight finds; its JSON is that of ``preflight --json`` (SPEC R-1)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """Which channels are configured, and what is well, odd and wrong; a line for each, and each once."""

    db_ok: bool = False
    migrations_ok: bool = False
    channels_configured: dict[str, bool] = field(default_factory=dict)
    credentials: dict[str, str] | None = field(default=None, init=False)
    """What the provider of each channel says of its credentials; ``None`` where nobody asked."""
    notes: list[str] = field(default_factory=list, init=False)
    """What is no problem, and worth knowing before the first real run."""
    warnings: list[str] = field(default_factory=list, init=False)
    errors: list[str] = field(default_factory=list, init=False)

    @property
    def ok(self) -> bool:
        """Whether a run may start."""
        return not self.errors

    def warn(self, *texts: str) -> None:
        """Note what a run works in spite of."""
        _add(self.warnings, texts)

    def fail(self, *texts: str) -> None:
        """Note what keeps a run from working."""
        _add(self.errors, texts)


def _add(lines: list[str], texts: tuple[str, ...]) -> None:
    for text in texts:
        line = " ".join(text.split())
        if line not in lines:
            lines.append(line)
