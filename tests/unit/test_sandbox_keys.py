"""How long the sandbox remembers idempotency keys."""

import pytest

from alerts_engine.sandbox import idempotency
from alerts_engine.sandbox.idempotency import KeyMemory


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_remembered_for_its_time_and_no_longer() -> None:
    """Brevo keeps a key 30 minutes, Resend 24 hours (C-12)."""
    clock = Clock()
    memory: KeyMemory[int] = KeyMemory(60, clock)
    memory.put("key", 1)
    clock.now = 59.9
    assert memory.get("key") == 1
    clock.now = 60
    assert memory.get("key") is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest key makes room for the newest one."""
    monkeypatch.setattr(idempotency, "KEPT", 2)
    memory: KeyMemory[int] = KeyMemory(60)
    for number in range(3):
        memory.put(str(number), number)
    assert [memory.get(str(number)) for number in range(3)] == [None, 1, 2]


def test_expired_keys_leave_the_memory() -> None:
    """A key that ran out is dropped by the next one, so that a long-lived sandbox does not grow."""
    clock = Clock()
    memory: KeyMemory[int] = KeyMemory(60, clock)
    memory.put("old", 1)
    clock.now = 61
    memory.put("new", 2)
    assert list(memory._entries) == ["new"]
