"""The ledger of what was sent in Redis: one server, Sentinel or Cluster.

Keys, with the hash tag that keeps those of one script in one slot of a Cluster; names are percent-encoded:

tidemark:{<namespace>:<agent>:<partition>}:head           of the checkpoints; its field `epoch` fences
tidemark:{<namespace>:<agent>:<partition>}:sent:<key>     string: this was sent
tidemark:{<namespace>:budget:<channel>}:log               list: when the last were sent, in microseconds

Every key expires by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from tables.checkpoint import Lease
from tables.errors import Fenced
from tables.redis_connection import RedisConnection
from tables.send_ledger import Limit

DEFAULT_KEEP_MS: Final = 7 * 24 * 3_600_000

# KEYS: head, marks. ARGV: epoch. Returns, for each mark, whether it is there.
# A head that is gone, or that went back in time, tells nothing of a newer owner.
_UNSENT = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if epoch > tonumber(ARGV[1]) then return {'fenced', string.format('%.0f', epoch)} end
local found = {'ok'}
for i = 2, #KEYS do found[i] = redis.call('EXISTS', KEYS[i]) end
return found
"""

# KEYS: marks. ARGV: ttl_ms. Doing it twice does no harm.
_MARK = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], '', 'PX', ARGV[1]) end
return 1
"""

# KEYS: log. ARGV: whether urgent (1 or 0), and of each limit its parcels, microseconds and reserve.
# Returns 0, or the milliseconds to wait. A limit of n allows one more once the n-th newest has left its window.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ahead = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0) - now
if ahead > 0 then
  -- The clock was set back, or another server took over: as if the newest had been sent just now.
  for i, at in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    redis.call('LSET', KEYS[1], i - 1, string.format('%.0f', at - ahead))
  end
end

local wait, most, longest = 0, 0, 0
for i = 2, #ARGV, 3 do
  local parcels, span, reserve = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local allowed = ARGV[1] == '1' and parcels or parcels - reserve
  local at = allowed < 1 and now or redis.call('LINDEX', KEYS[1], -allowed)
  if at then wait = math.max(wait, at + span - now) end
  most, longest = math.max(most, parcels), math.max(longest, span)
end
if wait > 0 then return math.ceil(wait / 1000) end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], -most, -1)
redis.call('PEXPIRE', KEYS[1], math.ceil(longest / 1000))
return 0
"""


class RedisLedger:
    """A SendLedger in Redis, beside the checkpoints of the same namespace.

    keep_ms: how long it is remembered what was sent; longer than anything may wait to be sent.
    """

    def __init__(self, connection: RedisConnection, namespace: str, *, keep_ms: int = DEFAULT_KEEP_MS) -> None:
        self._connection = connection
        self._namespace = namespace
        self._keep_ms = keep_ms

    async def unsent(self, lease: Lease, keys: Sequence[str]) -> list[str]:
        """See SendLedger.unsent."""
        head = f"{self._scope(lease)}:head"
        answer: list[Any] = await self._connection.run(_UNSENT, [head, *self._marks(lease, keys)], [lease.epoch])
        outcome, *found = answer
        if outcome == b"fenced":
            what = f"{lease.scope.agent}/{lease.scope.partition}"
            raise Fenced(f"what {what} sends: epoch {lease.epoch} was followed by epoch {int(found[0])}")
        return [key for key, is_there in zip(keys, found, strict=True) if not is_there]

    async def mark(self, lease: Lease, keys: Sequence[str]) -> None:
        """See SendLedger.mark."""
        if keys:
            await self._connection.run(_MARK, self._marks(lease, keys), [self._keep_ms])

    async def take(self, name: str, limits: Sequence[Limit], *, urgent: bool) -> int:
        """See SendLedger.take."""
        if not limits:
            return 0
        args = [part for parcels, per_ms, reserve in limits for part in (parcels, per_ms * 1000, reserve)]
        key = f"tidemark:{{{self._namespace}:budget:{quote(name, safe='')}}}:log"
        return int(await self._connection.run(_TAKE, [key], [int(urgent), *args]))

    def _marks(self, lease: Lease, keys: Sequence[str]) -> list[str]:
        return [f"{self._scope(lease)}:sent:{quote(key, safe='')}" for key in keys]

    def _scope(self, lease: Lease) -> str:
        return f"tidemark:{{{self._namespace}:{lease.scope.agent}:{lease.scope.partition}}}"
