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
    memory.put(("account", "key"), 1)
    clock.now = 59.9
    assert memory.get(("account", "key")) == 1
    clock.now = 60
    assert memory.get(("account", "key")) is None


def test_keys_of_two_accounts_are_strangers() -> None:
    """A key belongs to the account that used it (C-12)."""
    memory: KeyMemory[int] = KeyMemory(60)
    memory.put(("one", "key"), 1)
    assert memory.get(("other", "key")) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest key makes room for the newest one."""
    monkeypatch.setattr(idempotency, "KEPT", 2)
    memory: KeyMemory[int] = KeyMemory(60)
    for number in range(3):
        memory.put(("account", str(number)), number)
    assert [memory.get(("account", str(number))) for number in range(3)] == [None, 1, 2]


def test_expired_keys_leave_the_memory() -> None:
    """A key that ran out is dropped by the next one, so that a long-lived sandbox does not grow."""
    clock = Clock()
    memory: KeyMemory[int] = KeyMemory(60, clock)
    memory.put(("account", "old"), 1)
    clock.now = 61
    memory.put(("account", "new"), 2)
    assert list(memory._entries) == [("account", "new")]
