"""Fake providers that speak the real wire formats, keep what they got and show it as an inbox page."""

from __future__ import annotations

from alerts_engine.sandbox.faults import Fault, FaultError, Faults
from alerts_engine.sandbox.model import Attempt, Provider, SandboxMessage
from alerts_engine.sandbox.server import Sandbox, SandboxAddressError, run_forever

__all__ = [
    "Attempt",
    "Fault",
    "FaultError",
    "Faults",
    "Provider",
    "Sandbox",
    "SandboxAddressError",
    "SandboxMessage",
    "run_forever",
]
