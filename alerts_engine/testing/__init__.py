"""What an application's own tests stand on: a database, providers' doubles, and an inbox (SPEC I-4).

With pytest: ``pytest_plugins = ["alerts_engine.testing.plugin"]``. Without it: :func:`playground`.
"""

from __future__ import annotations

from alerts_engine.testing.database import AlertsDatabase
from alerts_engine.testing.playground import Playground, playground
from alerts_engine.testing.sandbox import AlertsSandbox, Inbox

__all__ = ["AlertsDatabase", "AlertsSandbox", "Inbox", "Playground", "playground"]
