"""A real Alertmanager as Debian ships it: processes with a configuration of their own."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from benchmarks.alertmanager.scenario import (
    Action,
    EndSilence,
    Node,
    Push,
    Reload,
    Scenario,
    Sent,
    Setting,
    Silence,
    Stop,
)
from benchmarks.alertmanager.webhooks import Inbox
from deploy.process import free_port
from tables.errors import RunError

BINARY: Final = "prometheus-alertmanager"
READY_S: Final = 30.0
RETRY_S: Final = 0.02


def why_not() -> str | None:
    """Why there is no Alertmanager here."""
    return None if shutil.which(BINARY) else f"{BINARY} is not installed (apt-get install {BINARY})"


async def version() -> str:
    """Of the one that is installed."""
    process = await asyncio.create_subprocess_exec(
        BINARY, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode().split("\n")[0].partition(" (")[0].strip().removeprefix("alertmanager, version ")


class Alertmanager:
    """One scenario's Alertmanager, or cluster of them."""

    def __init__(self, scenario: Scenario, inbox: Inbox, folder: Path) -> None:
        self._scenario = scenario
        self._inbox = inbox
        self._setting = scenario.setting
        self._folder = folder
        self._web = [free_port() for _ in range(scenario.replicas)]
        self._cluster = [free_port() for _ in range(scenario.replicas)]
        self._processes: list[asyncio.subprocess.Process] = []
        self._http = aiohttp.ClientSession()
        self._since: dict[str, datetime] = {}
        self._silences: list[str] = []
        self._minute: datetime | None = None

    async def start(self, minute: datetime | None) -> None:
        """Start; `minute` is when the mute time ends."""
        self._minute = minute
        self._write_config()
        self._processes = [await self._spawn(number) for number in range(self._scenario.replicas)]
        await self._ready()

    async def do(self, action: Action) -> None:
        """Carry out one action; what Alertmanager has nothing for is left out."""
        match action:
            case Push(alerts=alerts):
                await self._push(alerts)
            case Silence():
                await self._silence(action)
            case EndSilence():
                for id_ in self._silences:
                    await self._call("DELETE", f"/api/v2/silence/{id_}")
            case Reload(setting=setting):
                self._setting = setting
                self._write_config()
                await self._call("POST", "/-/reload")
            case Stop(kill=kill):
                await self._end(signal.SIGKILL if kill else signal.SIGTERM)
                await self.start(self._minute)

    async def stop(self) -> None:
        """End all processes; a cluster takes its time to do so in order."""
        await self._end(signal.SIGKILL)
        await self._http.close()

    async def _push(self, alerts: tuple[Sent, ...]) -> None:
        now = datetime.now(UTC)
        body = []
        for sent in alerts:
            name = str(sorted(sent.labels.items()))
            since = now if sent.is_anew else self._since.setdefault(name, now)
            one: dict[str, Any] = {"labels": dict(sent.labels), "annotations": {"summary": sent.summary}}
            if sent.is_over:
                # An alert that was never seen began a moment ago.
                since = min(since, now - timedelta(milliseconds=1))
                one |= {"startsAt": since.isoformat(), "endsAt": now.isoformat()}
                self._since.pop(name, None)
            else:
                one["startsAt"] = since.isoformat()
            body.append(one)
        await self._call("POST", "/api/v2/alerts", body)

    async def _silence(self, silence: Silence) -> None:
        name, _, value = silence.match.partition("=")
        now = datetime.now(UTC)
        told = await self._call(
            "POST",
            "/api/v2/silences",
            {
                "matchers": [{"name": name, "value": value.strip('"'), "isRegex": False, "isEqual": True}],
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(seconds=silence.until - self._inbox.now)).isoformat(),
                "createdBy": "somebody",
                "comment": "work",
            },
        )
        self._silences.append(told["silenceID"])

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        """As Prometheus does, every replica is told."""
        answer: Any = None
        for port in self._web if path == "/api/v2/alerts" else self._web[:1]:
            async with self._http.request(method, f"http://127.0.0.1:{port}{path}", json=body) as response:
                if response.status != 200:
                    raise RunError(f"{method} {path}: {response.status} {await response.text()}")
                answer = await response.json() if response.content_type == "application/json" else None
        return answer

    async def _spawn(self, number: int) -> asyncio.subprocess.Process:
        cluster = f"127.0.0.1:{self._cluster[number]}" if self._scenario.replicas > 1 else ""
        arguments = [
            f"--config.file={self._folder / 'config.yml'}",
            f"--storage.path={self._folder / f'data-{number}'}",
            f"--web.listen-address=127.0.0.1:{self._web[number]}",
            f"--cluster.listen-address={cluster}",
        ]
        if cluster:
            arguments += ["--cluster.settle-timeout=0s", "--cluster.gossip-interval=50ms", "--cluster.peer-timeout=1s"]
            arguments += [f"--cluster.peer=127.0.0.1:{port}" for port in self._cluster if port != self._cluster[number]]
        with (self._folder / f"log-{number}").open("ab") as log:
            return await asyncio.create_subprocess_exec(BINARY, *arguments, stdout=log, stderr=log)

    async def _ready(self) -> None:
        until = time.monotonic() + READY_S
        for number, port in enumerate(self._web):
            while True:
                with suppress(aiohttp.ClientError):
                    async with self._http.get(f"http://127.0.0.1:{port}/-/ready") as response:
                        if response.status == 200:
                            break
                if time.monotonic() > until or self._processes[number].returncode is not None:
                    raise RunError(f"{BINARY} did not start: {(self._folder / f'log-{number}').read_text()[-500:]}")
                await asyncio.sleep(RETRY_S)

    async def _end(self, how: signal.Signals) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(how)
        for process in self._processes:
            await process.wait()

    def _write_config(self) -> None:
        config = config_of(self._setting, self._inbox.url, self._minute)
        (self._folder / "config.yml").write_text(yaml.safe_dump(config))


def config_of(setting: Setting, url: str, minute: datetime | None) -> Mapping[str, Any]:
    """The configuration file. Flapping and escalation are left out: there is nothing like them."""
    config: dict[str, Any] = {
        "global": {"resolve_timeout": _duration(setting.resolve_timeout)},
        "route": _route(setting.route),
        "receivers": [
            {
                "name": name,
                "webhook_configs": [
                    {"url": url + hook, "send_resolved": receiver.send_resolved} for hook in receiver.hooks
                ],
            }
            for name, receiver in setting.receivers.items()
        ],
        "inhibit_rules": [
            {"source_matchers": [rule.source], "target_matchers": [rule.target], "equal": list(rule.equal)}
            for rule in setting.inhibit
        ],
    }
    if minute is not None and setting.mute_until is not None:
        hours = [{"start_time": start, "end_time": end} for start, end in minutes_before(minute)]
        config["time_intervals"] = [{"name": "mute", "time_intervals": [{"times": hours}]}]
    return config


def minutes_before(minute: datetime) -> list[tuple[str, str]]:
    """The two minutes before this one, which may be on both sides of midnight."""
    times = [minute - timedelta(minutes=back) for back in (2, 1, 0)]
    return [
        (f"{start:%H:%M}", "24:00" if f"{end:%H:%M}" == "00:00" else f"{end:%H:%M}") for start, end in pairwise(times)
    ]


def _route(node: Node) -> dict[str, Any]:
    route: dict[str, Any] = {
        "receiver": node.receiver,
        "group_by": list(node.group_by),
        "group_wait": _duration(node.group_wait),
        "group_interval": _duration(node.group_interval),
        "repeat_interval": _duration(node.repeat_interval),
        "routes": [_route(child) for child in node.routes],
    }
    if node.match:
        route |= {"matchers": list(node.match), "continue": node.goes_on}
    if node.mute:
        route["mute_time_intervals"] = ["mute"]
    return route


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
