"""A worker that tells of alerts dies at any single step that it takes; the next one says what is left, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from agents.desk_commands import encode_command
from tests.agents.alerts_partition import ALERTS, COMMANDS, acked, at_once, silenced, unsilenced
from tests.agents.stepped_alerts import Died, SteppedAlerts, Surroundings
from tests.alerting.desk.desk_world import MINUTE, PAGE, a_policy, fires, over

ROUNDS = 6
"""Enough to restore, to catch up, and to tell everything."""

HOME, SEARCH, QUIET = fires("a1"), fires("b1", model_id="search"), fires("c1", model_id="quiet")
POLICY = a_policy(at_once(escalation="page"), default_owner="ann", escalations={"page": PAGE})

Phase = Callable[[Surroundings], None]


def alert(*alerts: bytes) -> Phase:
    return lambda around: around.logs[ALERTS].extend(alerts)


def command(*commands: bytes) -> Phase:
    return lambda around: around.logs[COMMANDS].extend(commands)


def pause(around: Surroundings) -> None:
    around.now += 10 * MINUTE


#: What happens, and all that is said of it. Each is told in full before the next one happens.
STORY: tuple[tuple[Phase, set[str]], ...] = (
    (command(encode_command(silenced('model_id="quiet"'))), set()),
    (
        alert(HOME.to_json(), QUIET.to_json(), SEARCH.to_json()),
        {"chat firing a1", "mail firing a1", "chat firing b1", "mail firing b1"},
    ),
    (
        command(encode_command(acked("a1"))),
        {"chat acknowledged a1", "mail acknowledged a1"},
    ),
    (pause, {"pager escalation b1"}),
    # An escalation that a silence has kept quiet begins when it ends.
    (command(encode_command(unsilenced())), {"chat firing c1", "mail firing c1"}),
    (alert(over(SEARCH).to_json()), {"chat resolved b1", "mail resolved b1", "pager resolved b1"}),
    (
        alert(over(HOME).to_json(), over(QUIET).to_json()),
        {"chat resolved a1", "mail resolved a1", "chat resolved c1", "mail resolved c1"},
    ),
)


async def lived(around: Surroundings, *deaths: int, empty_store: bool = False) -> tuple[int, list[int]]:
    """The whole story, with a death at that step of each life; returns the steps, and the phases of the deaths."""
    left = [*deaths]
    worker = SteppedAlerts(around, die_at=left.pop(0) if left else -1)
    phases = []
    for number, (happens, _) in enumerate(STORY):
        happens(around)
        while True:
            try:
                await worker.live(ROUNDS)
                break
            except Died:
                phases.append(number)
                worker.custodian.revoked()
                if empty_store:
                    around.lose_the_store()
                worker = SteppedAlerts(around, die_at=left.pop(0) if left else -1)
    return worker.steps, phases


async def test_undisturbed_everything_is_said_once() -> None:
    around = Surroundings(POLICY)
    worker = SteppedAlerts(around)
    for happens, said in STORY:
        before = Counter(around.told)
        happens(around)
        await worker.live(ROUNDS)
        assert around.told - before == Counter(said)


async def test_death_at_any_step() -> None:
    steps, _ = await lived(Surroundings(POLICY))
    assert steps > 40
    repeats = 0
    for step in range(steps):
        around = Surroundings(POLICY)
        _, phases = await lived(around, step)
        assert len(phases) == 1
        expected = {told for _, said in STORY for told in said}
        assert set(around.told) == expected, f"after death at step {step}"
        assert around.told.total() - len(expected) <= 1, f"after death at step {step}"
        repeats += around.told.total() - len(expected)
    assert repeats > 5  # or no death has come between a message and the note of it


@pytest.mark.parametrize("second", [1, 4, 9, 15, 22])
async def test_death_once_more_while_the_first_is_made_up_for(second: int) -> None:
    steps, _ = await lived(Surroundings(POLICY))
    for step in range(0, steps, 3):
        around = Surroundings(POLICY)
        await lived(around, step, second)
        expected = {told for _, said in STORY for told in said}
        assert set(around.told) == expected, f"after deaths at steps {step} and {second}"
        assert around.told.total() - len(expected) <= 2, f"after deaths at steps {step} and {second}"


async def test_death_at_any_step_and_the_store_is_empty() -> None:
    steps, _ = await lived(Surroundings(POLICY))
    for step in range(steps):
        around = Surroundings(POLICY)
        _, (phase,) = await lived(around, step, empty_store=True)
        # What fired before is taken for told by its routes: to those all that comes later is said.
        later = {told for _, said in STORY[phase + 1 :] for told in said}
        on_chat = {told for told in later if told.startswith("chat") and not told.endswith("firing c1")}
        assert on_chat <= set(around.told), f"after death at step {step}"
        expected = {told for _, said in STORY for told in said}
        repeated = {told: count for told, count in around.told.items() if count > 1}
        assert set(around.told) <= expected and len(repeated) <= 4, f"after death at step {step}"
        assert not any("firing" in told for told in repeated if phase > 1), f"after death at step {step}: {repeated}"
