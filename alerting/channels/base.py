"""What every channel promises to the notifier; one module beside this one for each kind."""

from __future__ import annotations

from typing import Protocol

from alerting.alert import Alert
from tables.errors import RunError


class DeliveryFailed(RunError):
    """One attempt to deliver an alert failed.

    `retryable` says whether trying again may help, `retry_after_s` how long the other side asked to wait.
    The reason holds no secret: it is logged and handed to the dead letters.
    """

    def __init__(self, reason: str, *, retryable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """A way to tell somebody. The notifier never sends two alerts through one channel at the same time."""

    @property
    def name(self) -> str:
        """What logs, metrics and dead letters call it; the notifier wants it unique."""

    async def send(self, alert: Alert) -> None:
        """Deliver `alert` once; return only when the other side has it.

        May be cancelled at any await. Raises DeliveryFailed.
        """

    async def close(self) -> None:
        """Let go of connections; more than once does no harm."""
