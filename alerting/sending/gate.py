"""What the notifier asks, and tells, whoever decided a notification: one gate for each held partition."""

from __future__ import annotations

from typing import Protocol

from alerting.notification import Notification
from tables.checkpoint import Lease


class Gate(Protocol):
    """Stands between the state of a partition and the notifier; called in the event loop, must not block.

    Of every notification that was submitted it hears one thing in the end: `sent`, `failed`, or it said itself (`trim`
    gave None) that there is no need any more. It hears nothing more once it is given up or withdrawn. `submitted` is
    the notification as it was submitted, `here` the same for the channel that stands in, if one does. What it lets be
    said in the place of a notification may be another one, with another key.
    """

    @property
    def lease(self) -> Lease:
        """By which the ledger knows whether the partition has another owner by now."""

    @property
    def given_up(self) -> bool:
        """Whether the partition is somebody else's."""

    def trim(self, submitted: Notification, here: Notification) -> Notification | None:
        """What of `here` is still worth saying: with fewer alerts, or None. Asked immediately before every attempt."""

    def sent(self, submitted: Notification, here: Notification) -> None:
        """It is out, and the ledger knows."""

    def sent_in_part(self, submitted: Notification, here: Notification, alert_id: str) -> None:
        """What it says of one of its alerts is out; the rest is not yet."""

    def failed(self, submitted: Notification, reason: str) -> None:
        """It is with the dead letters."""
