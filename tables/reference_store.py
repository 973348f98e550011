"""References in Redis, where all workers of a group find them; one server, Sentinel or Cluster.

Keys, with the hash tag that keeps them in one slot of a Cluster; names are percent-encoded, and `*` is every version:

tidemark:{<namespace>:references}:names                   set: <model>:<version> of every reference
tidemark:{<namespace>:references}:of:<model>:<version>    list: the last references put, as JSON, newest first
tidemark:{<namespace>:references}:bins:<id>               string: its `bins_id`
tidemark:{<namespace>:references}:stamp                   string: digest of all that was ever put

Every key expires when no worker has read or written it for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote, unquote

from tables.errors import ConfigError, StoreError, StoreUnavailable
from tables.redis_connection import RedisConnection
from tables.reference import Reference

TTL_S = 90 * 86_400.0
KEPT_VERSIONS = 5
"""So many references are kept of the same model and version: the one that holds, and those before it."""

_EVERY_VERSION = "*"

# KEYS: list, names, bins, stamp. ARGV: JSON, name, bins_id, how many to keep, ttl_ms.
# The same JSON put again, after an answer that got lost, is there once. The push comes first: a server that is out of
# memory refuses a script at its first write or not at all, and a removal it would not refuse.
_PUT = """
local again = redis.call('LPOS', KEYS[1], ARGV[1])
redis.call('LPUSH', KEYS[1], ARGV[1])
if again then redis.call('LREM', KEYS[1], -1, ARGV[1]) end
redis.call('LTRIM', KEYS[1], 0, ARGV[4] - 1)
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[3])
redis.call('SET', KEYS[4], redis.sha1hex((redis.call('GET', KEYS[4]) or '') .. ARGV[1]))
for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
return 1
"""


class ReferenceStore:
    """The references of a group. Of a model and version the one that was put last holds.

    namespace: the group. clock: monotonic seconds. All methods raise StoreUnavailable where Redis does not answer.
    """

    def __init__(
        self,
        redis: RedisConnection,
        namespace: str,
        *,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._prefix = f"tidemark:{{{quote(namespace, safe='')}:references}}"
        self._ttl_ms = round(ttl_s * 1000)
        self._refresh_s = ttl_s / 4
        self._clock = clock
        self._refresh_at = clock() + self._refresh_s

    async def put(self, reference: Reference) -> None:
        """Let this reference hold for its model and version; putting it again changes nothing but its age."""
        name = _name(reference.model_id, reference.model_version)
        keys = [self._list(name), f"{self._prefix}:names", self._bins(reference.id), f"{self._prefix}:stamp"]
        json = reference.to_json()
        await self._redis.run(_PUT, keys, [json, name, reference.bins_id, KEPT_VERSIONS, self._ttl_ms])

    async def load_all(self) -> list[Reference]:
        """The references that hold, in the order of model and version; all live on.

        :raises StoreError: one of them cannot be read.
        """
        names = await self._names()
        await self._renew((f"{self._prefix}:names", f"{self._prefix}:stamp", *map(self._list, names)))
        self._refresh_at = self._clock() + self._refresh_s
        with self._redis.answering():
            async with self._redis.client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.lindex(self._list(name), 0)
                stored: Sequence[bytes | None] = await pipe.execute()
        found = [_decoded(name, data) for name, data in zip(names, stored, strict=True) if data is not None]
        await self._renew(self._bins(reference.id) for reference in found)
        return found

    async def versions(self, model_id: str) -> list[Reference]:
        """All references of a model that are kept; of each version the newest, which holds, comes first.

        :raises StoreError: one of them cannot be read.
        """
        names = [name for name in await self._names() if _model_of(name) == model_id]
        found: list[Reference] = []
        for name in names:
            with self._redis.answering():
                kept: Sequence[bytes] = await self._redis.client.lrange(self._list(name), 0, -1)
            found += [_decoded(name, data) for data in kept]
        return found

    async def stamp(self) -> str:
        """Another text once a reference has been put, or all are gone; one round trip, to be asked often.

        Now and then it also loads all references, so that those in use live on.
        """
        if self._clock() >= self._refresh_at:
            try:
                await self.load_all()
            except StoreUnavailable:
                raise
            except StoreError:
                pass  # whoever loads them is told
        with self._redis.answering():
            stamp: bytes | None = await self._redis.client.get(f"{self._prefix}:stamp")
        return (stamp or b"").decode()

    async def with_bins_of(self, reference: Reference, ids: Iterable[str]) -> set[str]:
        """Those of these ids whose references have the same features and bins as `reference`."""
        others = sorted(set(ids) - {reference.id})
        if not others:
            return {reference.id}
        with self._redis.answering():
            found: Sequence[bytes | None] = await self._redis.client.mget(list(map(self._bins, others)))
        same = reference.bins_id.encode()
        return {reference.id} | {other for other, bins_id in zip(others, found, strict=True) if bins_id == same}

    async def _renew(self, keys: Iterable[str]) -> None:
        with self._redis.answering():
            async with self._redis.client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.pexpire(key, self._ttl_ms)
                await pipe.execute()

    async def _names(self) -> list[str]:
        with self._redis.answering():
            names: set[bytes] = await self._redis.client.smembers(f"{self._prefix}:names")
        return sorted(name.decode() for name in names)

    def _list(self, name: str) -> str:
        return f"{self._prefix}:of:{name}"

    def _bins(self, reference_id: str) -> str:
        return f"{self._prefix}:bins:{reference_id}"


def _name(model_id: str, model_version: str | None) -> str:
    version = _EVERY_VERSION if model_version is None else quote(model_version, safe="")
    return f"{quote(model_id, safe='')}:{version}"


def _model_of(name: str) -> str:
    return unquote(name.partition(":")[0])


def _decoded(name: str, data: bytes) -> Reference:
    try:
        return Reference.from_json(data)
    except ConfigError as error:
        raise StoreError(f"the store's reference {name} cannot be read: {error}") from error
