"""Fake providers that speak the real wire formats, keep what they got and show it as an inbox page."""

from __future__ import annotations

from alerts_engine.sandbox.credentials import Credentials, SandboxKeyError
from alerts_engine.sandbox.faults import Fault, FaultError, Faults
from alerts_engine.sandbox.model import Attempt, Provider, SandboxMessage
from alerts_engine.sandbox.server import Sandbox, SandboxAddressError

__all__ = [
    "Attempt",
    "Credentials",
    "Fault",
    "FaultError",
    "Faults",
    "Provider",
    "Sandbox",
    "SandboxAddressError",
    "SandboxKeyError",
    "SandboxMessage",
]
