"""Runs the scenarios on both systems, all at one time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from benchmarks.alertmanager.am import Alertmanager
from benchmarks.alertmanager.judging import TOLERANCE, problems_of
from benchmarks.alertmanager.ours import Tidemark
from benchmarks.alertmanager.scenario import Action, Scenario
from benchmarks.alertmanager.webhooks import Inbox, webhooks

SYSTEMS: Final = ("alertmanager", "tidemark")

_STARTING_S: Final = 4.0


class System(Protocol):
    """One of the two, for one scenario."""

    async def start(self, minute: datetime | None) -> None:
        """Be ready when this returns."""

    async def do(self, action: Action) -> None:
        """Carry out an action."""

    async def stop(self) -> None:
        """Leave nothing behind."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one system did in one scenario."""

    scenario: str
    system: str
    problems: tuple[str, ...]
    heard: tuple[str, ...]
    tries: int = 1

    @property
    def passed(self) -> bool:
        """Whether everything was told that was to be told, and nothing else."""
        return not self.problems


def is_expected(outcome: Outcome, scenario: Scenario) -> bool:
    """Whether it passed, or is Alertmanager's and not asked to."""
    return outcome.passed or (outcome.system == "alertmanager" and not scenario.is_parity)


async def run_all(
    scenarios: Sequence[Scenario], done: Callable[[Outcome], None] = lambda _: None, tries: int = 3
) -> list[Outcome]:
    """Every scenario on both systems; `done` hears of each outcome as it comes.

    What fails and should not is tried again, with less beside it: on a busy machine either may be late. Raises RunError
    when a system does not start.
    """
    runs = [(scenario, system) for scenario in scenarios for system in SYSTEMS]
    outcomes: dict[tuple[str, str], Outcome] = {}
    for number in range(1, tries + 1):
        for outcome in await _run_once(runs, done):
            outcomes[outcome.scenario, outcome.system] = replace(outcome, tries=number)
        runs = [run for run in runs if not is_expected(outcomes[run[0].name, run[1]], run[0])]
        if not runs:
            break
    return list(outcomes.values())


async def _run_once(runs: Sequence[tuple[Scenario, str]], done: Callable[[Outcome], None]) -> list[Outcome]:
    at_once = sum(scenario.setting.mute_until is None for scenario, _ in runs)
    # Processes that start make the others late.
    all_started = asyncio.Barrier(max(1, at_once))
    tasks: list[asyncio.Task[Outcome]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="tidemark-alertmanager-") as name:
            async with webhooks() as server, asyncio.TaskGroup() as group:
                for number, (scenario, system) in enumerate(runs):
                    folder = Path(name) / str(number)
                    folder.mkdir()
                    inbox = server.inbox(scenario.outages)
                    run = _Run(scenario, system, inbox, _make(scenario, system, inbox, folder), done)
                    tasks.append(group.create_task(run.run(all_started)))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


@dataclass(frozen=True, slots=True)
class _Run:
    """One scenario on one system."""

    scenario: Scenario
    name: str
    inbox: Inbox
    system: System
    done: Callable[[Outcome], None]

    async def run(self, all_started: asyncio.Barrier) -> Outcome:
        try:
            if self.scenario.setting.mute_until is None:
                await self.system.start(None)
                await all_started.wait()
            else:
                await self._start_for_a_minute(self.scenario.setting.mute_until)
            await self._play()
        finally:
            await self.system.stop()
        heard = self.inbox.heard
        problems = problems_of(self.scenario, heard)
        outcome = Outcome(self.scenario.name, self.name, tuple(problems), tuple(map(str, heard)))
        self.done(outcome)
        return outcome

    async def _start_for_a_minute(self, mute_until: float) -> None:
        """Begin so that the mute time ends at the next full minute before which there is time enough."""
        soonest = datetime.now(UTC) + timedelta(seconds=mute_until + _STARTING_S)
        minute = soonest.replace(second=0, microsecond=0) + timedelta(minutes=1)
        begins = minute.timestamp() - mute_until
        await asyncio.sleep(begins - _STARTING_S - time.time())
        await self.system.start(minute)
        await asyncio.sleep(begins - time.time())

    async def _play(self) -> None:
        self.inbox.begin()
        for action in self.scenario.actions:
            await asyncio.sleep(action.at - self.inbox.now)
            await self.system.do(action)
        await asyncio.sleep(self.scenario.ends + TOLERANCE - self.inbox.now)


def _make(scenario: Scenario, system: str, inbox: Inbox, folder: Path) -> System:
    return Alertmanager(scenario, inbox, folder) if system == "alertmanager" else Tidemark(scenario, inbox)
