"""What waits to be said: of a group that grows faster than it can be told, no more than has to."""

from __future__ import annotations

from alerting.desk.desk import Reason
from alerting.desk.policy import EscalationPolicy, Receiver, Step
from tests.agents.alerts_partition import Partition, at_once
from tests.alerting.desk.desk_world import a_policy, fires, over


def test_of_calls_that_grow_only_the_last_one_is_kept() -> None:
    here = Partition(a_policy(at_once(group_by=("severity",))))
    here.hear(*(fires(f"{name}1", model_id=name) for name in "abc"))
    changes = here.checkpoint()
    assert [note["alerts"][-1]["alert_id"] for note in changes.state["outbox"]] == ["c1"]
    assert here.ready() == ["firing a1 b1 c1"]
    assert here.metrics.desk_decisions.labels(Reason.COVERED.value)._value.get() == 2


def test_a_call_is_said_where_the_one_before_waits_for_its_turn() -> None:
    here = Partition(a_policy(at_once(group_by=("severity",))))
    here.hear(fires("a1", model_id="a"))
    here.checkpoint()
    (first,) = here.state.take_saved(here.number)
    here.hear(fires("b1", model_id="b"))
    here.checkpoint()
    assert here.ready() == []  # it has its place in the queue already
    said, _ = here.state.trim(first, first)
    assert said is not None and said.alert_ids == ("a1", "b1")
    # From now on it may be on its way: what comes has a place of its own.
    here.hear(fires("c1", model_id="c"))
    here.checkpoint()
    assert here.ready() == ["firing a1 b1 c1"]
    here.state.sent(first, first)
    changes = here.checkpoint()
    assert [len(note["alerts"]) for note in changes.state["outbox"]] == [3]
    # Of what was said the end is told as well.
    here.hear(over(fires("b1", model_id="b")))
    here.checkpoint()
    (end,) = here.state.take_saved(here.number)
    assert here.state.trim(end, end)[1] is Reason.STILL_TRUE


def test_what_is_more_urgent_than_the_call_before_does_not_wait_in_its_place() -> None:
    here = Partition(a_policy(at_once(group_by=("rule",)), inhibition=()))
    here.hear(fires("a1", rule="r"))
    here.checkpoint()
    (first,) = here.state.take_saved(here.number)
    here.hear(fires("b1", rule="r", model_id="b", severity="critical"))
    here.checkpoint()
    (second,) = here.state.take_saved(here.number)
    assert (second.severity, set(second.alert_ids)) == ("critical", {"a1", "b1"})
    assert here.state.trim(first, first) == (None, Reason.COVERED)
    said, _ = here.state.trim(second, second)
    assert said == second


def test_what_an_earlier_owner_may_have_said_gives_its_place_to_nothing() -> None:
    here = Partition(a_policy(at_once(group_by=("severity",))))
    here.hear(fires("a1", model_id="a"))
    here.restored(here.checkpoint())
    assert here.ready() == ["firing a1"]
    here.hear(fires("b1", model_id="b"))
    here.checkpoint()
    assert here.ready() == ["firing a1 b1"]  # else it would be taken for said with the other


def test_a_call_to_somebody_else_covers_nothing() -> None:
    people = {"ann": Receiver(name="ann", channels=("chat",), mention="ann")}
    people["bob"] = Receiver(name="bob", channels=("chat",), mention="bob")
    both = EscalationPolicy(name="both", steps=tuple(Step(do="notify", notify=(name,)) for name in people))
    policy = a_policy(at_once(notify=(), escalation="both"), receivers=people, escalations={"both": both})
    here = Partition(policy)
    here.hear(fires("a1"))
    here.checkpoint()
    assert [note.mentions for note in here.state.take_saved(here.number)] == [("ann",), ("bob",)]


def test_a_call_does_not_cover_an_end_nor_what_somebody_has_acknowledged() -> None:
    here = Partition(a_policy(at_once(group_by=("severity",))))
    here.hear(fires("a1", model_id="a"), fires("b1", model_id="b"))
    here.checkpoint()
    (call,) = here.state.take_saved(here.number)
    here.state.sent(call, call)
    here.hear(over(fires("a1", model_id="a")), fires("c1", model_id="c"))
    here.checkpoint()
    assert here.ready() == ["resolved b1 a1", "firing b1 c1"]
