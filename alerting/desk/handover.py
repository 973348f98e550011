"""Whoever comes on call is told of what fires on and nobody has taken on, not only when it is repeated."""

from __future__ import annotations

from alerting.desk.book import DeskBook
from alerting.desk.decisions import Decision, Reason
from alerting.desk.escalating import Escalating
from alerting.desk.policy import ON_CALL
from alerting.desk.telling import Teller


class Handover:
    """Looks, whenever somebody else may be on call, whether they know."""

    def __init__(self, book: DeskBook, teller: Teller, escalating: Escalating) -> None:
        self._book = book
        self._teller = teller
        self._escalating = escalating

    def arm(self, now_ms: int) -> None:
        """Set the time of the next handover, unless one has been missed."""
        book = self._book
        if book.handover_at is None or book.handover_at > now_ms:
            rotations = book.policy.rotations.values()
            book.handover_at = min((one.next_change(now_ms) for one in rotations), default=None)
        book.edges.set(("handover",), book.handover_at)

    def look(self, now_ms: int) -> list[Decision]:
        """Tell those who are on call now and have not been told."""
        book = self._book
        book.handover_at = None
        decisions = [Decision(Reason.HANDED_OVER)]
        for group in list(book.groups.values()):
            # What waits for its first message goes to whoever is on call then.
            if group.told_at is not None and any(name.startswith(ON_CALL) for name in book.routes[group.route].notify):
                decisions += self._teller.flush(group, now_ms)
        for incident in [one for one in book.incidents.values() if one.is_loud and one.escalations]:
            decisions += self._escalating.hand_over(incident, now_ms)
        self.arm(now_ms)
        return decisions
