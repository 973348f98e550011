"""Keeps a worker's references as the store has them, and tells the store what each day was like."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from agents.config import Config
from tables.daily_histograms import DailyHistograms
from tables.drift_windows import DayCounts
from tables.errors import ConfigError, StoreError, StoreUnavailable
from tables.models import Model
from tables.redis_connection import RedisConnection
from tables.redis_url import parse_store_url
from tables.reference import ReferenceBook
from tables.reference_store import ReferenceStore

log = logging.getLogger("tidemark.references")


class ReferenceWatch:
    """References of the configuration and of the store; of two for the same model the one created later holds."""

    def __init__(self, config: Config, book: ReferenceBook, grown_days: Callable[[], Iterable[DayCounts]]) -> None:
        """`grown_days`: the days whose counts have grown since it was last asked."""
        self._configured = config.drift.references
        self._book = book
        self._grown_days = grown_days
        self._redis = RedisConnection(parse_store_url(config.store))
        self._store = ReferenceStore(self._redis, config.group)
        self._histograms = DailyHistograms(self._redis, config.group)
        self._stamp = ""
        self._to_write: dict[tuple[Model, int], DayCounts] = {}

    async def open(self) -> None:
        """Connect and load. Raises StoreUnavailable."""
        await self._redis.open()
        await self._load()

    async def close(self) -> None:
        """Write what is left to be written, where the store still answers, and disconnect."""
        try:
            await self._write_days()
        except StoreUnavailable as error:
            log.warning("days not written: %s", error)
        await self._redis.close()

    async def turn(self) -> None:
        """Load the references if any has changed, and write the days; what fails is tried again at the next turn."""
        try:
            if await self._store.stamp() != self._stamp:
                await self._load()
            await self._write_days()
        except StoreUnavailable as error:
            log.debug("references not looked at: %s", error)

    async def _load(self) -> None:
        stamp = await self._store.stamp()
        try:
            stored = await self._store.load_all()
        except StoreUnavailable:
            raise
        except (StoreError, ConfigError) as error:
            # The ones in use are better than none.
            log.warning("references not loaded: %s", error)
        else:
            self._book.replace((*self._configured, *stored))
            log.info("references: %s", ", ".join(f"{r.model_id} {r.id}" for r in self._book.references) or "none")
        self._stamp = stamp

    async def _write_days(self) -> None:
        self._to_write.update({(day.model, day.day_ms): day for day in self._grown_days()})
        for key, day in list(self._to_write.items()):
            await self._histograms.write(*day.model, day.day_ms, day.reference.id, day.by_feature())
            del self._to_write[key]
