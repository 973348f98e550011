"""What every channel promises to the notifier; one module beside this one for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from alerting.message import Message, Parcel
from tables.errors import ConfigError, RunError


class DeliveryFailed(RunError):
    """One attempt to deliver a parcel failed.

    `retryable` says whether trying again may help, `retry_after_s` how long the other side asked to wait, and
    `throttled` that it is this channel's rate it does not like: all of its parcels have to wait, not just this one.
    The reason holds no secret: it is logged and handed to the dead letters.
    """

    def __init__(
        self, reason: str, *, retryable: bool, retry_after_s: float | None = None, throttled: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.throttled = throttled


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `parcels` in any `per_ms` milliseconds."""

    parcels: int
    per_ms: int

    def __post_init__(self) -> None:
        if self.parcels < 1 or self.per_ms < 1:
            raise ConfigError(f"expected a budget of at least 1 message a millisecond or longer, got {self}")

    @property
    def reserve(self) -> int:
        """How many of them only critical alerts may use: a fifth, and one at least where there are two."""
        return max(self.parcels // 5, min(1, self.parcels - 1))


class Channel(Protocol):
    """A way to tell somebody. The notifier never sends two parcels through one channel at the same time."""

    @property
    def name(self) -> str:
        """What logs, metrics and dead letters call it; the notifier wants it unique."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """What the other side takes; all of them hold. Empty where it says nothing."""

    @property
    def digest_bytes(self) -> int:
        """How many bytes of UTF-8 a digest's title and markdown may have together so as to be one parcel; 0 where
        people are not the readers, and every notification has to come by itself."""

    def prepare(self, message: Message) -> Sequence[Parcel]:
        """The requests that carry `message`, in order; at least one. Nothing is cut off without saying so."""

    async def send(self, parcel: Parcel) -> None:
        """Deliver `parcel` once; return only when the other side has it.

        May be cancelled at any await. Raises DeliveryFailed.
        """

    async def close(self) -> None:
        """Let go of connections; more than once does no harm."""
