"""The alerts agent: when it hands out what its desks have decided, and what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from agents.alerts_agent import REST_S, PartitionGate
from agents.desk_commands import encode_command
from alerting.desk.desk import Reason
from alerting.notification import Notification
from alerting.sending.gate import Gate
from tests.agents.alerts_partition import ALERTS, COMMANDS, DEAD, acked, at_once
from tests.agents.stepped_alerts import SteppedAlerts, Surroundings
from tests.alerting.desk.desk_world import a_policy, fires, over

POLICY = a_policy(at_once())


class Recorded(SteppedAlerts):
    """Sends nothing; what it was handed is looked at."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.submitted: list[tuple[Notification, Gate]] = []
        self.withdrawn: list[Gate] = []
        self.asked = 0
        self.answers = True

    def submit(self, notification: Notification, gate: Gate) -> bool:
        self.submitted.append((notification, gate))
        return True

    def withdraw(self, gate: Gate) -> None:
        self.withdrawn.append(gate)

    async def end_offsets(self, partitions: Collection[TP]) -> dict[TP, int]:
        self.asked += 1
        if not self.answers:
            raise KafkaConnectionError("no node")
        return await super().end_offsets(partitions)

    @property
    def stages(self) -> list[str]:
        return [f"{note.stage} {' '.join(note.alert_ids)}" for note, _ in self.submitted]


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(POLICY)


async def test_nothing_is_handed_out_before_all_is_read_that_came_before(around: Surroundings) -> None:
    around.logs[ALERTS] += [fires("a1").to_json(), fires("b1", model_id="search").to_json()]
    worker = Recorded(around)
    worker.answers = False
    await worker.live(3)
    assert worker.stages == []
    assert not worker.custodian.held[0].state.caught_up
    worker.answers = True
    await worker.live(1)
    assert worker.stages == ["firing a1", "firing b1"]
    await worker.live(3)
    assert (len(worker.submitted), worker.asked) == (2, 4)  # three in vain, and never again


async def test_a_steady_stream_of_alerts_does_not_keep_it_from_catching_up(around: Surroundings) -> None:
    class Behind(Recorded):
        def _deliver(self) -> None:
            super()._deliver()
            number = len(around.logs[ALERTS])
            around.logs[ALERTS].append(fires(f"a{number}", fingerprint=f"f{number}", model_id=f"m{number}").to_json())

    worker = Behind(around)
    await worker.live(4)
    assert worker.custodian.held[0].state.caught_up
    assert len(worker.submitted) >= 2


async def test_an_alert_that_is_over_before_all_is_read_is_never_said(around: Surroundings) -> None:
    around.logs[ALERTS] += [fires("a1").to_json()]
    first = Recorded(around)
    await first.live(2)
    first.custodian.revoked()  # and it dies before it could say it
    around.logs[ALERTS].append(over(fires("a1")).to_json())
    around.logs[COMMANDS].append(encode_command(acked("zzz")))
    second = Recorded(around)
    await second.live(2)
    assert second.stages == ["firing a1", "resolved a1"]
    assert [gate.trim(note, note) for note, gate in second.submitted] == [None, None]
    changes = second.custodian.held[0].state.changes(1, 99)
    assert changes is not None and changes.state["outbox"] == []  # nor is it said by the next owner
    for reason in (Reason.ALREADY_RESOLVED, Reason.NEVER_TOLD):
        assert second.agent._metrics.desk_decisions.labels(reason.value)._value.get() == 1


async def test_the_gate_passes_on_what_became_of_a_notification(around: Surroundings) -> None:
    around.logs[ALERTS] += [fires(f"{name}1", model_id=name).to_json() for name in "ab"]
    worker = Recorded(around)
    await worker.live(2)
    (a, gate), (b, same) = worker.submitted
    assert isinstance(gate, PartitionGate) and gate is same
    held = worker.custodian.held[0]
    assert gate.lease is held.lease and not gate.given_up
    assert gate.trim(a, a) == a
    assert worker.agent._metrics.desk_decisions.labels(Reason.STILL_TRUE.value)._value.get() == 0
    gate.sent(a, a)
    gate.failed(b, "rejected: 400")
    changes = held.state.changes(1, 99)
    assert changes is not None and changes.state["outbox"] == []
    assert len(changes.before) == 1  # the dead letter


async def test_a_partition_that_is_given_up_takes_back_what_it_has_handed_out(around: Surroundings) -> None:
    around.logs[ALERTS].append(fires("a1").to_json())
    worker = Recorded(around)
    await worker.live(2)
    ((_, gate),) = worker.submitted
    worker.agent.revoked()
    assert gate.given_up
    assert worker.withdrawn == [gate]
    worker.agent.revoked()
    assert worker.withdrawn == [gate]


async def test_a_fenced_owner_takes_back_what_it_has_handed_out_and_begins_anew(around: Surroundings) -> None:
    around.logs[ALERTS].append(fires("a1").to_json())
    worker = Recorded(around)
    await worker.live(2)
    ((_, gate),) = worker.submitted
    await around.store.claim(worker.custodian.held[0].lease.scope, around.now + 60_000)
    around.logs[ALERTS].append(fires("b1", model_id="search").to_json())
    await worker.live(1)
    assert gate.given_up and worker.withdrawn == [gate]
    around.now += 120_000
    await worker.live(2)
    assert worker.stages == ["firing a1", "firing a1", "firing b1"]
    assert worker.submitted[1][1] is not gate


@pytest.mark.parametrize(("severity", "said"), [("critical", 1), ("major", 1), ("minor", 0)])
async def test_what_is_below_the_severity_of_its_channel_is_not_said_there(
    around: Surroundings, severity: str, said: int
) -> None:
    alert = fires("a1", severity=severity)
    around.logs[ALERTS].append(alert.to_json())
    worker = Recorded(around)
    worker.agent._min_severity_of = {"chat": "major", "pager": "critical"}
    await worker.live(2)
    assert len(worker.submitted) == said
    below = worker.agent._metrics.notifications.labels("chat", "below_severity")
    assert below._value.get() == 1 - said
    for note, gate in worker.submitted:
        gate.sent(note, note)
    around.logs[ALERTS].append(replace(over(alert)).to_json())
    await worker.live(2)
    for note, gate in worker.submitted[said:]:
        gate.sent(note, note)
    assert len(worker.submitted) == 2 * said
    # Nothing is kept of it once it is over.
    assert worker.custodian.held[0].state.desk.incidents() == []


async def test_it_rests_after_a_round_unless_it_is_in_a_hurry(around: Surroundings) -> None:
    worker = Recorded(around)
    await worker.live(1)
    around.logs[ALERTS].append(fires("a1").to_json())
    worker._deliver()
    worker.agent._rest_until = float("inf")
    await worker.agent.round()
    assert worker.submitted == []
    await worker.agent.round(at_once=True)
    assert worker.stages == ["firing a1"]


async def test_it_does_not_rest_for_as_long_as_a_store_was_away(around: Surroundings) -> None:
    class Slow(Recorded):
        async def save(self, *args: Any, **options: Any) -> Any:
            await asyncio.sleep(0.5)
            return await super().save(*args, **options)

    worker = Slow(around)
    around.logs[ALERTS].append(fires("a1").to_json())
    await worker.live(1)
    assert 0.5 < worker.agent._rest_until - time.monotonic() <= REST_S


async def test_a_channel_hears_only_of_what_is_urgent_enough_though_it_comes_with_other_alerts() -> None:
    around = Surroundings(a_policy(at_once(group_by=("model_id",)), inhibition=()))
    worker = Recorded(around)
    worker.agent._min_severity_of = {"chat": "critical"}
    around.logs[ALERTS] += [fires("a1").to_json(), fires("b1", severity="critical").to_json()]
    await worker.live(2)
    (note, gate) = worker.submitted[-1]
    assert note.alert_ids == ("a1", "b1")
    rest = gate.trim(note, note)
    assert rest is not None and rest.alert_ids == ("b1",)
    around.logs[ALERTS].append(over(fires("b1", severity="critical")).to_json())
    await worker.live(1)
    assert gate.trim(note, note) is None  # nothing of it that this channel wants
    assert note not in worker.custodian.held[0].state._outbox


async def test_a_store_that_is_emptied_takes_nothing_with_it_that_was_still_to_be_said(around: Surroundings) -> None:
    worker = SteppedAlerts(around)
    await worker.live(3)
    around.logs[ALERTS] += [fires(f"{name}1", model_id=name).to_json() for name in "abc"]
    worker.is_held_up = True
    await worker.live(2)
    around.lose_the_store()
    around.logs[ALERTS].append(fires("d1", model_id="d").to_json())
    await worker.live(3)
    worker.is_held_up = False
    await worker.live(20)
    assert around.told == {f"chat firing {name}1": 1 for name in "abcd"}
    assert around.logs[DEAD] == []
