"""Failing on demand: what to do instead of answering as the provider would, and for which destination."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from alerts_engine.sandbox.model import Answer, Provider, RefusedError, weight

if TYPE_CHECKING:
    from alerts_engine.sandbox.rules import ProviderRules

ANYONE = "*"
MOST_FAULTS, MOST_BYTES = 100_000, 64 * 1024 * 1024
"""That can be set at a time."""
_LARGEST_ANSWER = 64 * 1024 * 1024
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FaultError(ValueError):
    """The description of a fault cannot be used; names the fields."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong for calls to one destination. All times are seconds.

    A call that the provider would refuse anyway is refused, and spends no fault. Otherwise, in this order:
    the message is kept (``accept``), the answer waits (``delay``), then there is none (``hang``, ``reset``)
    or one made from the other fields. With nothing but ``accept`` and ``delay`` it is the provider's own;
    with ``truncate`` half of that, or of a 500 when the message is not accepted.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    destination: str = ANYONE
    """Exactly as the call names it, or ``*``; an exact one goes first."""
    _: KW_ONLY
    provider: Provider | None = None
    """``None``: any."""
    when_asked: bool = False
    """It happens to questions about earlier messages, and not to messages; ``accept`` says nothing then."""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    """By default 429 with a retry-after, 302 with a redirect, 400 with a code or a migration, 200 with a body
    or a size, else 500."""
    code: str | int | None = None
    """The provider's error code or name (Telegram: the description); by default the status's usual one."""
    body: str | bytes | None = None
    """Sent instead of the provider's error body."""
    content_type: str = "application/json"
    delay: _Seconds = 0.0
    """Wait this long before answering. Without ``accept`` the message is taken after the wait, if at all."""
    hang: bool = False
    """Never answer, until the client leaves or the sandbox stops."""
    reset: bool = False
    """Drop the TCP connection."""
    accept: bool = False
    """Accepted, and only the answer is lost or wrong."""
    retry_after: int | _Seconds | None = None
    """Seconds, in the provider's own form."""
    retry_after_date: str | None = None
    """The text of a ``Retry-After`` header, meant for its HTTP-date form."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How many calls it applies to; ``None``: all."""
    migrate_to_chat_id: int | None = None
    """Telegram: the group has become a supergroup with this id."""
    redirect_to: str | None = None
    """The ``Location`` of a redirect."""
    truncate: bool = False
    """Cut the answer in the middle: it announces more than it sends, and the connection closes."""
    size: Annotated[int, Field(ge=0, le=_LARGEST_ANSWER)] | None = None
    """Send a body of this many bytes."""

    def __post_init__(self) -> None:
        if not (self.changes_answer or self.delay or self.hang or self.reset or self.truncate):
            raise FaultError("a fault must say what goes wrong")

    @classmethod
    def from_json(cls, text: bytes) -> Fault:
        """Read a fault from a JSON object; raises ``FaultError``, which names the fields that are wrong."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            problems = (
                f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg'].removeprefix('Value error, ')}"
                for one in error.errors()
            )
            raise FaultError("; ".join(problems)) from error

    def as_json(self) -> dict[str, object]:
        """The fields that differ from their defaults, and the destination."""
        shown = {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}
        if isinstance(self.body, bytes):
            shown["body"] = self.body.decode(errors="replace")
        return {"destination": self.destination, **shown}

    @property
    def changes_answer(self) -> bool:
        """Whether it has an answer of its own."""
        return any(getattr(self, name) is not None for name in _ANSWER_FIELDS)

    def answer(self, rules: ProviderRules) -> Answer:
        """Its own answer, in the provider's form as far as the fault leaves it to that."""
        status = self.status or self._default_status()
        answer = rules.refuse(self._error(rules, status))
        headers = dict(answer.headers)
        if self.retry_after_date is not None:
            headers["Retry-After"] = self.retry_after_date
        if self.redirect_to is not None:
            headers["Location"] = self.redirect_to
        is_error = status >= 400  # noqa: PLR2004 - where HTTP's errors begin
        body = self._own_body()
        usual_body = answer.body if is_error else b"{}"
        return Answer(status, usual_body if body is None else body, self.content_type, headers)

    def _error(self, rules: ProviderRules, status: int) -> RefusedError:
        error = rules.usual_error(status, self.code)
        error.retry_after = self.retry_after
        error.migrate_to_chat_id = self.migrate_to_chat_id
        return error

    def _own_body(self) -> bytes | None:
        if self.size is not None:
            return b"x" * self.size
        return self.body.encode() if isinstance(self.body, str) else self.body

    def _default_status(self) -> int:
        if self.retry_after is not None or self.retry_after_date is not None:
            return 429
        if self.redirect_to is not None:
            return 302
        if self.code is not None or self.migrate_to_chat_id is not None:
            return 400
        return 500 if self.body is None and self.size is None else 200


_ADAPTER = TypeAdapter(Fault)
_DEFAULTS = {field.name: field.default for field in fields(Fault)}
_ANSWER_FIELDS = (
    "status", "code", "body", "retry_after", "retry_after_date", "migrate_to_chat_id", "redirect_to", "size",
)  # fmt: skip


class Faults:
    """The faults that are set; a look-up costs the same however many there are for other destinations."""

    def __init__(self) -> None:
        self._by_destination: dict[str, list[tuple[int, Fault]]] = {}
        self._added = 0
        self._set = 0
        self._bytes = 0

    def add(self, fault: Fault) -> None:
        """Apply it from the next call on, after those that were set earlier for the same destination.

        Raises ``FaultError`` when there are too many.
        """
        if self._set == MOST_FAULTS or self._bytes + _weight(fault) > MOST_BYTES:
            raise FaultError("too many faults are set: lift them first")
        self._added += 1
        self._set += 1
        self._bytes += _weight(fault)
        self._by_destination.setdefault(fault.destination, []).append((self._added, fault))

    def clear(self) -> None:
        """Let everything work again; calls that hang go on hanging."""
        self._by_destination.clear()
        self._set = self._bytes = 0

    @property
    def list(self) -> tuple[Fault, ...]:
        """In the order they were added; ``times`` is what is left of it."""
        armed = sorted(chain.from_iterable(self._by_destination.values()), key=itemgetter(0))
        return tuple(fault for _, fault in armed)

    def take(self, provider: Provider, destination: str, *, when_asked: bool = False) -> Fault | None:
        """The fault for a call, spending one of its times."""
        if not self._by_destination:
            return None
        return self._take(provider, destination, when_asked) or self._take(provider, ANYONE, when_asked)

    def _take(self, provider: Provider, key: str, when_asked: bool) -> Fault | None:
        armed = self._by_destination.get(key, [])
        for index, (number, fault) in enumerate(armed):
            if fault.provider not in (None, provider) or fault.when_asked != when_asked:
                continue
            if fault.times == 1:
                del armed[index]
                self._set -= 1
                self._bytes -= _weight(fault)
                if not armed:
                    del self._by_destination[key]
            elif fault.times is not None:
                armed[index] = (number, replace(fault, times=fault.times - 1))
            return fault
        return None


def _weight(fault: Fault) -> int:
    return weight(fault.destination, fault.body, str(fault.code), fault.content_type, fault.redirect_to)
