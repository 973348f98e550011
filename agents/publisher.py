"""Producing records and knowing that the broker has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import faust
from aiokafka.errors import KafkaError

from agents.partition_state import Outgoing
from tables.errors import BrokerUnavailable


class Publisher:
    """Sends through the app's producer."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send all, in order within a partition, and wait until the broker has them.

        One attempt: raises BrokerUnavailable where any of them is not known to have arrived; sending all again may
        then repeat some.
        """
        if not messages:
            return
        producer = await self._app.maybe_start_producer()
        try:
            await asyncio.gather(*await producer.send_all(messages))
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"sending to {messages[0].topic} failed: {error!r}") from error
