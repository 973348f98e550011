"""Keeps a log readable while the same goes wrong a thousand times, each time in slightly other words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

AGAIN_AFTER_S: Final = 60.0


class SaidOnce:
    """Whether something is worth a line: the first time, and later when it reads otherwise, once a minute at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._said: dict[str, tuple[str, float]] = {}

    def is_news(self, what: str, text: str) -> bool:
        """Whether to say `text` of `what`; True counts as said."""
        said, at = self._said.get(what, (None, 0.0))
        if said is not None and (said == text or self._clock() - at < AGAIN_AFTER_S):
            return False
        self._said[what] = text, self._clock()
        return True

    def is_over(self) -> bool:
        """All is well; whether anything had been said."""
        had, self._said = bool(self._said), {}
        return had
