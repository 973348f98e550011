"""Incidents that open, are acknowledged and resolved at random moments, and what two receivers are told of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from alerting.alert import Alert
from tests.agents.alerting_world import an_alert

ESCALATE_S = 8.0
"""From the first step of the policy to the second."""
SLACK_S = 2.0
"""What was on its way when an incident ended may still arrive."""


@dataclass(slots=True)
class Incident:
    """One incident as the outside sees it; times in seconds of the run."""

    alert: Alert
    opens: float
    acks: float | None
    ends: float
    opened_at: float | None = None
    acked_at: float | None = None
    """When an acknowledgement was confirmed."""
    ended_at: float | None = None

    @property
    def lifetime(self) -> str:
        times = ("opened", self.opened_at), ("acknowledged", self.acked_at), ("over", self.ended_at)
        return ", ".join(f"{what} at {at:.1f} s" for what, at in times if at is not None)

    @property
    def over_at(self) -> float:
        """When nobody was to be called any more."""
        return min(at for at in (self.acked_at, self.ended_at, float("inf")) if at is not None)


@dataclass(frozen=True, slots=True)
class Told:
    """One POST that a receiver took."""

    at: float
    receiver: str
    key: str
    alert_id: str
    status: str
    stage: str


@dataclass(slots=True)
class Receivers:
    """Two webhooks that note what they are told."""

    base: str = ""
    told: list[Told] = field(default_factory=list)
    began: float = 0.0
    _runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.base = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.told.append(
            Told(
                time.monotonic() - self.began,
                request.match_info["name"],
                request.headers["Idempotency-Key"],
                body["alert_id"],
                body["status"],
                body["stage"],
            )
        )
        # Long enough for a kill to hit between here and the note that it was sent.
        await asyncio.sleep(0.02)
        return web.Response()


def incidents(rng: random.Random, count: int, over_s: float) -> list[Incident]:
    """`count` incidents that open within `over_s`: some end early, some are acknowledged, some escalate."""
    made = []
    now = time.time_ns() // 1_000_000
    for number in range(count):
        opens = rng.uniform(0.0, over_s)
        acks: float | None = None
        match rng.randrange(4):
            case 0:  # over before anybody else is called
                ends = opens + rng.uniform(1.0, 5.0)
            case 1:  # somebody takes it on at once
                acks, ends = opens + rng.uniform(1.0, 4.0), opens + rng.uniform(15.0, 30.0)
            case 2:  # the second level takes it on
                acks, ends = opens + ESCALATE_S + rng.uniform(2.0, 12.0), opens + rng.uniform(30.0, 45.0)
            case _:  # nobody does
                ends = opens + rng.uniform(30.0, 45.0)
        made.append(Incident(an_alert(f"model-{number}", started_at=now + number), opens, acks, ends))
    return made


def repeats(told: Sequence[Told]) -> int:
    """Messages that a receiver had already."""
    return sum(count - 1 for count in Counter((each.receiver, each.key) for each in told).values())


def mistakes(made: Sequence[Incident], told: Sequence[Told], kills: int, down_s: float) -> list[str]:
    """What went wrong, one line each. `down_s`: how long nobody may have been there after a kill."""
    found = []
    by_alert: dict[str, list[Told]] = {}
    for each in told:
        by_alert.setdefault(each.alert_id, []).append(each)
    for incident in made:
        mine = by_alert.get(incident.alert.alert_id, [])
        name = f"{incident.alert.model_id} ({incident.alert.alert_id}, {incident.lifetime})"
        heard = {(each.receiver, each.status) for each in mine}
        assert incident.opened_at is not None and incident.ended_at is not None
        if incident.over_at > incident.opened_at + down_s and ("first", "firing") not in heard:
            found.append(f"{name}: the first level was never called")
        if incident.over_at > incident.opened_at + ESCALATE_S + down_s and ("second", "firing") not in heard:
            found.append(f"{name}: the second level was never called")
        for receiver in ("first", "second"):
            if (receiver, "firing") in heard and (receiver, "resolved") not in heard:
                found.append(f"{name}: {receiver} was not told that it is over")
            if (receiver, "resolved") in heard and (receiver, "firing") not in heard:
                found.append(f"{name}: {receiver} was told that something is over of which it had not heard")
            if (
                incident.acked_at is not None
                and incident.ended_at > incident.acked_at + down_s
                and (receiver, "firing") in heard
                and (receiver, "acknowledged") not in heard
            ):
                found.append(f"{name}: {receiver} was not told that somebody looks after it")
        found += [
            f"{name}: {each.receiver} was called {each.at - incident.over_at:.1f} s after it was over or acknowledged"
            for each in mine
            if each.status == "firing" and each.at > incident.over_at + SLACK_S
        ]
    repeated = repeats(told)
    if repeated > kills:
        found.append(f"{repeated} messages came twice, with {kills} kills")
    stages = Counter((each.receiver, each.alert_id, each.status, each.stage) for each in told)
    again = sum(count - 1 for count in stages.values())
    if again > repeated:
        found.append(f"{again - repeated} messages were made twice, under other keys")
    return found


async def acknowledge(session: aiohttp.ClientSession, ports: Sequence[int], incident: Incident, began: float) -> None:
    """As a person does: until some worker has confirmed it."""
    while incident.ended_at is None:
        for port in ports:
            url = f"http://127.0.0.1:{port}/api/v1/alerts/{incident.alert.alert_id}/ack"
            try:
                async with session.post(url, json={"by": "alice"}) as answer:
                    body: Any = await answer.json(content_type=None)
                    if answer.status == 200 and body["status"] == "acknowledged":
                        incident.acked_at = time.monotonic() - began
                        return
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                pass
        await asyncio.sleep(0.2)
