"""Two thousand notifications in ten seconds, and a robot that takes twenty messages a minute."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from alerting.alert import SEVERITIES, Severity
from alerting.channels.base import Budget
from alerting.channels.wecom import CONTENT_BYTES, WeComChannel
from alerting.message import Locale, Parcel
from alerting.notification import Notification
from alerting.sending.notifier import LaneSettings, Notifier
from tables.redis_connection import RedisConnection
from tables.redis_ledger import RedisLedger
from tables.redis_url import parse_store_url
from tests.alerting.channels.receiver import receiving, told
from tests.alerting.sending.lanes import FlyingTime, Notes, bench, note
from tests.alerting.sending.robot_budget import BUDGET, MINUTE_S, first_free, most_in_any_window


def a_storm(rng: random.Random, count: int) -> list[Notification]:
    """Five in a hundred are critical; the names are as wide as alert ids are."""
    severities: list[Severity] = rng.choices(SEVERITIES, weights=(5, 60, 35), k=count)
    return [note(f"{number:016x}", severity, channel="robot") for number, severity in enumerate(severities)]


class Robot(WeComChannel):
    """Writes what the real one would send, and takes its time with it; counts when a message arrives."""

    def __init__(self, time: FlyingTime, rng: random.Random) -> None:
        super().__init__("a-key", name="robot")
        self._time = time
        self._rng = rng
        self.arrived: list[tuple[float, str]] = []

    async def send(self, parcel: Parcel) -> None:
        await self._time.sleep(self._rng.uniform(0, 1))
        self.arrived.append((self._time.now, parcel.body["markdown"]["content"]))
        await self._time.sleep(self._rng.uniform(0, 0.5))


@pytest.mark.parametrize(("locale", "seed"), [("en", 1), ("zh", 2)])
async def test_a_storm_on_a_robot(locale: Locale, seed: int) -> None:
    rng, time = random.Random(seed), FlyingTime()
    robot = Robot(time, rng)
    assert robot.budgets == (Budget(20, 60_000),)
    storm = a_storm(rng, 2000)
    submitted: dict[str, float] = {}
    most_waiting = 0
    async with bench(robot, time=time, settings={"robot": LaneSettings(locale=locale)}, queue_size=2000) as on:

        async def blow() -> None:
            nonlocal most_waiting
            for each in storm:
                submitted[each.alert_ids[0]] = time.now
                assert on.submit(each) == [True]
                most_waiting = max(most_waiting, on.notifier.waiting()["robot"])
                await time.sleep(10 / len(storm))

        blowing = asyncio.ensure_future(blow())
        await time.pass_until(lambda: blowing.done() and not any(on.notifier.waiting().values()))
        assert (on.dead, most_waiting <= 2000) == ([], True)
        assert sorted(on.gate.settled) == [each.alert_ids[0] for each in storm]

    # The budget holds over there, in every window; and no message is too long.
    times = [at for at, _ in robot.arrived]
    assert most_in_any_window(times) <= BUDGET
    assert all(len(text.encode()) <= CONTENT_BYTES for _, text in robot.arrived)

    # Each alert is told exactly once.
    names = {each.alert_ids[0]: each.severity for each in storm}
    told_of = [[name for name in names if name in text] for _, text in robot.arrived]
    assert Counter(name for found in told_of for name in found) == Counter(names.keys())

    # Each critical one at most 5 s after the robot takes one more, with no other than critical ones beside it.
    critical = {name for name, severity in names.items() if severity == "critical"}
    assert len(critical) > 60
    for place, found in enumerate(told_of):
        if critical.isdisjoint(found):
            overtaken = [
                name for name in critical if submitted[name] < times[place] - 1.5 and is_later(told_of, place, name)
            ]
            assert overtaken == []  # but for what was on its way
        else:
            assert critical.issuperset(found)
            for name in found:
                assert times[place] - first_free(submitted[name], times[:place]) <= 5

    # The rest in digests: with room for the critical ones, and in a fraction of the minutes that each alone takes.
    digests = [found for found in told_of if len(found) > 1]
    assert sum(map(len, digests)) > 0.95 * (2000 - len(critical))
    assert len(robot.arrived) < 2000 / 15
    assert times[-1] - times[0] < 10 * MINUTE_S


def is_later(told_of: Sequence[Sequence[str]], place: int, name: str) -> bool:
    return any(name in found for found in told_of[place + 1 :])


async def test_two_workers_and_one_robot_over_http_and_redis(redis_url: str) -> None:
    rng, arrived, gates = random.Random(3), list[tuple[float, str]](), (Notes(partition=0), Notes(partition=1))
    storm = a_storm(rng, 600)

    async def robot(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        arrived.append((time.monotonic(), body["markdown"]["content"]))
        return await told({"errcode": 0, "errmsg": "ok"})(request)

    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        receiver.otherwise = robot
        connection = await stack.enter_async_context(RedisConnection(parse_store_url(redis_url)))
        notifiers = []
        for _ in gates:
            channel = WeComChannel("a-key", name="robot", base_url=receiver.base_url, budgets=[Budget(20, 2000)])
            notifiers.append(Notifier({"robot": channel}, ledger=RedisLedger(connection, "shop")))
            await stack.enter_async_context(notifiers[-1])
        for number, each in enumerate(storm):
            which = number % 2
            assert notifiers[which].submit(each, gates[which])
            if number % 60 == 0:
                await asyncio.sleep(0.02)
        for notifier in notifiers:
            assert await notifier.drain(60)
        assert all(not any(outcome == "dead" for _, outcome in notifier.counts) for notifier in notifiers)

    assert sorted(gates[0].settled + gates[1].settled) == [each.alert_ids[0] for each in storm]
    # A loaded machine delivers late, and then the next ones in less than the 2 s.
    assert most_in_any_window([at for at, _ in arrived], 1.5) <= 20
    counted = Counter(each.alert_ids[0] for each in storm for _, text in arrived if each.alert_ids[0] in text)
    assert counted == Counter(each.alert_ids[0] for each in storm)
    assert len(arrived) < len(storm) / 3
