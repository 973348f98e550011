"""Alerts pushed to an Alertmanager: what is posted, and what a real one makes of it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from alerting.channels.alertmanager import AlertmanagerChannel
from alerting.message import Message
from tables.errors import ConfigError
from tests.alerting.channels.receiver import Receiver
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert, message_of
from tests.conftest import IN_CI

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
NOW_S = (TEN_O_CLOCK + 5 * MINUTE) / 1000


async def told(channel: AlertmanagerChannel, message: Message) -> None:
    (parcel,) = channel.prepare(message)
    await channel.send(parcel)


async def test_the_request(receiver: Receiver) -> None:
    over = an_alert(alert_id="over", status="resolved", resolved_at=TEN_O_CLOCK + 3 * MINUTE)
    channel = AlertmanagerChannel(receiver.url + "/", external_url="https://tm.example", now=lambda: NOW_S)
    await told(channel, message_of(an_alert(), over))
    await channel.close()
    (request,) = receiver.received
    assert (request.method, request.path) == ("POST", "/hook/api/v2/alerts")
    firing, resolved = orjson.loads(request.body)
    assert firing["labels"]["alertname"] == "ctr-low"
    assert firing["annotations"]["summary"] == an_alert().summary
    assert (firing["startsAt"], firing["generatorURL"]) == ("2026-05-01T10:00:00.000Z", "https://tm.example")
    # Longer than the interval of repeats, each of which renews it.
    assert firing["endsAt"] == "2026-05-01T15:05:00.000Z"
    assert resolved["endsAt"] == "2026-05-01T10:03:00.000Z"


def test_nothing_ends_before_it_starts() -> None:
    channel = AlertmanagerChannel("http://localhost:9093", resolve_after_s=60, now=lambda: 0.0)
    (sent,) = orjson.loads(channel.prepare(message_of())[0].body)
    assert sent["endsAt"] == sent["startsAt"]


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel am: expected a resolve_after above 0 s, got 0"):
        AlertmanagerChannel("http://localhost:9093", name="am", resolve_after_s=0)


@pytest.fixture
async def alertmanager(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[str]:
    """The URL of a real one. Where it is not installed: skipped on a laptop, failed in CI."""
    if BINARY is None:
        reason = "prometheus-alertmanager is not installed"
        if IN_CI:
            pytest.fail(f"CI must run these tests: {reason}")
        pytest.skip(reason)
    (tmp_path / "am.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")

    process = await asyncio.create_subprocess_exec(
        BINARY,
        f"--config.file={tmp_path / 'am.yml'}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{unused_tcp_port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while not await _ready(session, url):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/-/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def alerts_of(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts") as answer:
        found: list[dict[str, Any]] = await answer.json()
        return found


async def seen_within(url: str, count: int, seconds: float = 10.0) -> list[dict[str, Any]]:
    async with asyncio.timeout(seconds):
        while True:
            found = await alerts_of(url)
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def test_a_real_one_shows_it_and_drops_it_when_it_is_resolved(alertmanager: str) -> None:
    started = int(time.time() * 1000) - 5 * MINUTE
    alert = an_alert(
        started_at=started,
        model_id="首页 <b>",
        labels={"team": "recsys", "a-b": "x"},
        related={"runbook": "https://wiki.example.com/ctr"},
    )
    channel = AlertmanagerChannel(alertmanager)
    await told(channel, message_of(alert))
    await told(channel, message_of(alert, stage="repeat"))
    (found,) = await seen_within(alertmanager, 1)
    assert found["labels"] == {
        "alertname": "ctr-low",
        "severity": "major",
        "model_id": "首页 <b>",
        "model_version": "3",
        "team": "recsys",
        "a_b": "x",
    }
    assert found["annotations"]["summary"] == alert.summary
    assert found["annotations"]["runbook_url"] == "https://wiki.example.com/ctr"
    await told(channel, message_of(an_alert(alert_id="other", model_id="search", started_at=started)))
    assert len(await seen_within(alertmanager, 2)) == 2
    over = an_alert(
        started_at=started,
        model_id="首页 <b>",
        labels={"team": "recsys", "a-b": "x"},
        status="resolved",
        resolved_at=started + 4 * MINUTE,
    )
    await told(channel, message_of(over))
    (left,) = await seen_within(alertmanager, 1)
    assert left["labels"]["model_id"] == "search"
    await channel.close()


async def test_a_real_one_lets_go_of_what_nobody_renews(alertmanager: str) -> None:
    channel = AlertmanagerChannel(alertmanager, resolve_after_s=1.0)
    await told(channel, message_of(an_alert(started_at=int(time.time() * 1000) - MINUTE)))
    await seen_within(alertmanager, 0)
    await channel.close()
