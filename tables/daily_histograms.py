"""What the features of each model were, day by day: the stuff that a rolling reference is made of.

Keys in Redis, with the hash tag that keeps a model in one slot of a Cluster; names are percent-encoded:

tidemark:{<namespace>:days:<model>}:versions            sorted set: versions by the newest day written, ms
tidemark:{<namespace>:days:<model>}:<version>:<date>    string: msgpack of a reference's id and counts in its bins
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from tables.redis_connection import RedisConnection
from tables.reference import FeatureReference, Reference

DAY_MS = 86_400_000
TTL_S = 32 * 86_400.0
"""A month, and a day at both ends for workers that are late."""

# KEYS: versions, day. ARGV: version, day_ms, value, ttl_ms.
# Versions that only have days that have expired are dropped.
_WRITE = """
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', ARGV[2] - ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class _Stored(msgspec.Struct, array_like=True):
    reference_id: str
    counts: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Day:
    """The features of one model and version in one day (UTC)."""

    model_version: str
    day_ms: int
    """Its beginning."""
    reference_id: str
    """The reference whose bins the rows were counted in."""
    counts: Mapping[str, Sequence[int]]
    """Feature -> rows per bin, unseen, missing."""


class DailyHistograms:
    """The days of a group's models. All methods raise StoreUnavailable where Redis does not answer."""

    def __init__(self, redis: RedisConnection, namespace: str, *, ttl_s: float = TTL_S) -> None:
        """`namespace`: the group. `ttl_s`: how long a day is kept after it was last written."""
        self._redis = redis
        self._namespace = quote(namespace, safe="")
        self._ttl_ms = round(ttl_s * 1000)

    async def write(
        self, model_id: str, model_version: str, day_ms: int, reference_id: str, counts: Mapping[str, Sequence[int]]
    ) -> None:
        """Say what the day that holds `day_ms` was so far; it replaces what was said before, so it can be repeated."""
        begin = day_ms // DAY_MS * DAY_MS
        value = msgspec.msgpack.encode(_Stored(reference_id, {name: list(each) for name, each in counts.items()}))
        keys = [self._versions(model_id), self._day(model_id, model_version, begin)]
        await self._redis.run(_WRITE, keys, [model_version, begin, value, self._ttl_ms])

    async def days(self, model_id: str, model_version: str | None, *, before_ms: int, count: int) -> list[Day]:
        """The days written among the `count` ones before the day that holds `before_ms`, oldest first.

        `model_version` None: those of every version.
        """
        end = before_ms // DAY_MS * DAY_MS
        with self._redis.answering():
            if model_version is None:
                members: list[bytes] = await self._redis.client.zrange(self._versions(model_id), 0, -1)
                versions = sorted(member.decode() for member in members)
            else:
                versions = [model_version]
            wanted = [(day, version) for day in range(end - count * DAY_MS, end, DAY_MS) for version in versions]
            keys = [self._day(model_id, version, day) for day, version in wanted]
            values: list[bytes | None] = await self._redis.client.mget(keys) if keys else []
        stored = ((at, _decode(value)) for at, value in zip(wanted, values, strict=True) if value is not None)
        return [Day(version, day, each.reference_id, each.counts) for (day, version), each in stored]

    def _versions(self, model_id: str) -> str:
        return f"{self._prefix(model_id)}:versions"

    def _day(self, model_id: str, model_version: str, begin_ms: int) -> str:
        date = datetime.fromtimestamp(begin_ms / 1000, UTC)
        return f"{self._prefix(model_id)}:{quote(model_version, safe='')}:{date:%Y-%m-%d}"

    def _prefix(self, model_id: str) -> str:
        return f"tidemark:{{{self._namespace}:days:{quote(model_id, safe='')}}}"


_decode = msgspec.msgpack.Decoder(_Stored).decode


def rolled(
    current: Reference, days: Iterable[Day], *, model_version: str | None, created_at_ms: int, source: str
) -> Reference:
    """The bins of `current` with the counts of these days summed, which must have been counted in the same bins.

    A feature without a single row in them keeps the counts that it has.
    """
    found = list(days)

    def summed(feature: FeatureReference) -> FeatureReference:
        counts = [day.counts[feature.name] for day in found if feature.name in day.counts]
        total = [sum(bin_counts) for bin_counts in zip(*counts, strict=True)]
        return replace(feature, counts=tuple(total)) if any(total) else feature

    features = tuple(map(summed, current.features))
    return Reference(current.model_id, model_version, features, created_at_ms, source)
