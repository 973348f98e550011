"""An open connection to the store, whichever kind of Redis it is; every failure is a StoreUnavailable in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from tables.errors import StoreUnavailable
from tables.redis_url import OPERATION_TIMEOUT_S, RedisClient, StoreUrl, connect, disconnect


class RedisConnection:
    """To be shared by the stores of one process; an async context manager, or `open` and `close`."""

    def __init__(self, url: StoreUrl, *, operation_timeout_s: float = OPERATION_TIMEOUT_S) -> None:
        self._url = url
        self._operation_timeout_s = operation_timeout_s
        self._client: RedisClient | None = None

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._url.redacted

    @property
    def client(self) -> Any:
        """The client of redis-py; to be used inside of `answering`. Raises StoreUnavailable before `open`."""
        # Redis and RedisCluster share no typed interface for the calls that both have.
        if self._client is None:
            raise StoreUnavailable(f"store {self.name} is not open")
        return self._client

    async def open(self) -> None:
        """Connect. Raises StoreUnavailable, naming the URL without its password, if Redis does not answer."""
        if self._client is None:
            self._client = connect(self._url, operation_timeout_s=self._operation_timeout_s)
        try:
            await self.ping()
        except StoreUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; it can be opened again."""
        client, self._client = self._client, None
        if client is not None:
            with self.answering():
                await disconnect(client)

    async def ping(self) -> None:
        """Return if Redis answers; else raise StoreUnavailable."""
        with self.answering():
            await self.client.ping()

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | bytes | float]) -> Any:
        """Run a Lua script, which Redis may know already. Raises StoreUnavailable."""
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        with self.answering():
            try:
                return await self.client.execute_command("EVALSHA", digest, len(keys), *keys, *args)
            except NoScriptError:
                return await self.client.execute_command("EVAL", script, len(keys), *keys, *args)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what redis-py raises into StoreUnavailable."""
        try:
            yield
        except (RedisError, RedisClusterException, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreUnavailable(f"store {self.name} is unavailable: {reason}") from error

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
