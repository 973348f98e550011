"""The ledger of what was sent, asked until it answers: without it nothing is sent, and nothing is lost."""

from __future__ import annotations

import logging
import math
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from alerting.sending.backoff import Backoff
from tables.checkpoint import Lease
from tables.errors import StoreUnavailable
from tables.send_ledger import Limit, SendLedger

logger = logging.getLogger(__name__)

_WITHOUT_END: Final = Backoff(tries=sys.maxsize, budget_s=math.inf, cap_s=10.0)

_T = TypeVar("_T")


class PatientLedger:
    """A SendLedger that never raises StoreUnavailable. `sleep` takes seconds."""

    def __init__(self, ledger: SendLedger, *, rng: random.Random, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._ledger = ledger
        self._rng = rng
        self._sleep = sleep
        self._is_away = False

    async def unsent(self, lease: Lease, keys: Sequence[str]) -> list[str]:
        """See SendLedger.unsent."""
        return await self._answer(partial(self._ledger.unsent, lease, keys))

    async def mark(self, lease: Lease, keys: Sequence[str]) -> None:
        """See SendLedger.mark."""
        await self._answer(partial(self._ledger.mark, lease, keys))

    async def take(self, name: str, limits: Sequence[Limit], *, urgent: bool) -> int:
        """See SendLedger.take."""
        return await self._answer(partial(self._ledger.take, name, limits, urgent=urgent))

    async def _answer(self, question: Callable[[], Awaitable[_T]]) -> _T:
        attempt = 0
        while True:
            try:
                answer = await question()
            except StoreUnavailable as error:
                attempt += 1
                if not self._is_away:
                    self._is_away = True
                    logger.warning("nothing is sent until the ledger answers: %s", error)
                wait = _WITHOUT_END.wait(attempt, 0.0, self._rng.random())
                await self._sleep(0.0 if wait is None else wait)
            else:
                if self._is_away:
                    self._is_away = False
                    logger.info("the ledger answers again")
                return answer
