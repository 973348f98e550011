from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from alerting.desk.desk import Desk, Reason
from alerting.desk.policy import EscalationPolicy, Flapping, InhibitRule, Receiver, Step, matching
from alerting.desk.rotations import Rotation
from tables.errors import ConfigError, StoreError
from tests.alerting.desk.desk_world import (
    HOUR,
    MINUTE,
    RECEIVERS,
    SECOND,
    World,
    a_policy,
    a_route,
    a_silence,
    a_span,
    fires,
    over,
    whys,
)

A, B, C = fires("a"), fires("b"), fires("c")


# -- grouping and dedup


def test_alerts_of_one_model_are_told_together() -> None:
    world = World()
    assert world.hear(A) == ["opened", "grouped"]
    world.at(4 * SECOND).hear(B)
    assert world.said() == []
    world.at(10 * SECOND)
    assert world.said() == ["0:10 chat firing a b"]


def test_another_model_is_another_conversation() -> None:
    world = World()
    world.hear(A, fires("b", model_id="other"))
    world.at(10 * SECOND)
    second, first = world.queue  # at the same time by name
    assert world.said() == ["0:10 chat firing b", "0:10 chat firing a"]
    assert first.group_key == '/:{"model_id":"recommender-home"}'
    assert (first.group_labels, first.receiver, first.why) == (
        {"model_id": "recommender-home"},
        "science",
        "first_notification",
    )
    assert second.group_key != first.group_key


def test_a_route_that_waits_for_nothing_tells_in_the_very_observe() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)))
    assert world.hear(A) == ["opened", "first_notification"]
    world.at(SECOND)
    assert world.hear(B) == ["opened", "new_alerts"]
    assert world.hear(over(A)) == ["resolved", "some_resolved"]
    assert world.said() == ["0:00 chat firing a", "0:01 chat firing a b", "0:01 chat resolved b -a"]


def test_the_same_record_again_changes_nothing() -> None:
    world = World()
    world.hear(A)
    assert world.hear(A) == ["duplicate"]
    world.at(MINUTE).hear(over(A))
    assert world.hear(over(A)) == ["duplicate"]
    world.at(6 * MINUTE)
    assert world.hear(over(A)) == ["duplicate"]  # it has been forgotten, but not that it is over
    assert world.said() == ["0:10 chat firing a", "5:10 chat resolved -a"]


def test_an_end_that_overtakes_its_begin() -> None:
    world = World()
    assert world.hear(over(A)) == ["never_opened"]
    assert world.hear(A) == ["out_of_order"]
    assert world.at(HOUR).said() == []
    assert world.desk.incidents() == []


def test_over_before_anybody_was_told() -> None:
    world = World()
    world.hear(A)
    world.at(5 * SECOND)
    assert world.hear(over(A)) == ["resolved"]
    assert world.at(HOUR).said() == []
    assert world.desk.incidents() == []


def test_another_incident_of_a_condition_that_is_open_is_the_same_conversation() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).said()
    again = fires("a2")
    assert world.hear(again) == ["superseded"]
    assert [view.alert.alert_id for view in world.desk.incidents()] == ["a2"]
    assert world.at(2 * MINUTE).hear(over(A)) == ["superseded"]
    assert world.hear(A) == ["out_of_order"]
    world.hear(over(again))
    assert world.at(10 * MINUTE).said() == ["5:10 chat resolved -a2"]


def test_many_incidents_of_one_condition_are_all_remembered_to_be_past() -> None:
    world = World()
    chain = [fires(f"a{number}") for number in range(20)]
    world.hear(*chain)
    assert world.hear(*chain) == ["out_of_order"] * 19 + ["duplicate"]
    assert world.hear(over(chain[0])) == ["duplicate"]


def test_back_before_its_end_was_told() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).hear(over(A))
    assert world.at(2 * MINUTE).hear(fires("a2")) == ["reopened", "grouped"]
    assert world.at(10 * MINUTE).said() == ["0:10 chat firing a"]
    world.hear(over(fires("a2")))
    assert world.at(11 * MINUTE).said() == ["10:10 chat resolved -a2"]


def test_back_after_somebody_had_taken_it_on_is_news() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).ack("a")
    world.hear(over(A))
    world.hear(fires("a2"))
    world.at(6 * MINUTE)
    assert world.said() == ["0:10 chat firing a", "1:00 chat acknowledged -a", "1:10 chat firing a2"]


def test_minor_alerts_are_recorded_only() -> None:
    world = World(a_policy(a_route(notify=())))
    assert world.hear(A) == ["opened", "recorded_only"]
    assert world.at(HOUR).said() == []
    assert [view.status for view in world.desk.incidents()] == ["firing"]


def test_nobody_on_call_is_looked_for_again() -> None:
    start = datetime(2026, 5, 1, 10, 7)  # seven minutes later somebody is
    rotation = Rotation(name="ops", time_zone=ZoneInfo("UTC"), start=start, every_ms=24 * HOUR, people=("ann",))
    world = World(a_policy(a_route(notify=("oncall:ops",), group_wait_ms=0), rotations={"ops": rotation}))
    assert world.hear(A) == ["opened", "nobody", "nothing_new"]
    assert world.at(20 * MINUTE).said() == ["10:00 mail firing a"]


# -- Alertmanager's acceptance tests, in its own intervals: told again after every group interval


AS_THERE = {"group_wait_ms": SECOND, "group_interval_ms": SECOND, "repeat_interval_ms": 1}


def seconds(number: float) -> int:
    return int(number * SECOND)


def test_merge_alerts_the_latest_numbers_are_told() -> None:
    world = World(a_policy(a_route(**AS_THERE | {"repeat_interval_ms": HOUR})))
    world.hear(A)
    world.hear(fires("a2", value=0.03))
    (told,) = world.at(SECOND).queue
    assert [(alert.alert_id, alert.value) for alert in told.alerts] == [("a2", 0.03)]


def test_repeat() -> None:
    world = World(a_policy(a_route(**AS_THERE)))
    world.hear(A)
    assert world.at(seconds(3.5)).said() == ["0:01 chat firing a", "0:02 chat repeat a", "0:03 chat repeat a"]


def test_batching() -> None:
    intervals = {"group_wait_ms": SECOND, "group_interval_ms": SECOND, "repeat_interval_ms": seconds(5)}
    world = World(a_policy(a_route(**intervals)))
    world.at(seconds(1.1)).hear(A)
    world.at(seconds(1.7)).hear(B)
    assert world.at(seconds(2.1)).said() == ["0:02 chat firing a b"]
    world.at(seconds(3.3)).hear(C)
    world.at(seconds(9.2))
    assert world.said() == ["0:04 chat firing a b c"]
    assert world.at(seconds(9.4)).said() == ["0:09 chat repeat a b c"]


def test_resolved() -> None:
    world = World(a_policy(a_route(group_wait_ms=SECOND, group_interval_ms=seconds(10))))
    world.hear(A, B)
    world.at(seconds(2)).hear(over(A), over(B))
    assert world.at(seconds(30)).said() == ["0:01 chat firing a b", "0:11 chat resolved -a -b"]
    assert world.desk.incidents() == []


def test_resolved_filter() -> None:
    world = World(a_policy(a_route(**AS_THERE | {"repeat_interval_ms": HOUR, "notify": ("quiet", "science")})))
    world.hear(A, B)
    world.at(seconds(1.5)).hear(over(B))
    world.at(seconds(3.5)).hear(over(A))
    assert world.at(seconds(9)).said() == [
        "0:01 log firing a b",
        "0:01 chat firing a b",
        "0:02 chat resolved a -b",
        "0:04 chat resolved -a",
    ]


def test_inhibiting() -> None:
    world = World(a_policy(a_route(**AS_THERE)))
    world.hear(A)
    world.at(seconds(1.2)).hear(B)
    assert world.at(seconds(2.2)).said() == ["0:01 chat firing a", "0:02 chat firing a b"]
    down = fires("d", severity="critical")
    assert world.hear(down) == ["opened", "inhibited", "inhibited", "grouped"]
    assert world.at(seconds(3.3)).said() == ["0:03 chat firing d"]
    world.hear(over(down))  # what still fires is told at once
    assert world.said() == ["0:03 chat firing a b -d"]
    assert whys(world.decisions)[-1] == "inhibition_ended"
    assert world.at(seconds(5)).said() == ["0:04 chat repeat a b"]


def test_who_was_told_hears_of_the_end_of_what_is_inhibited() -> None:
    world = World(a_policy(a_route(group_by=("rule",), group_wait_ms=0)))
    world.hear(A, fires("d", severity="critical"), over(A))
    assert world.said() == ["0:00 chat firing a", "0:00 chat firing d", "0:00 chat resolved -a"]


def test_always_inhibiting_a_target_that_comes_and_goes_is_never_told() -> None:
    world = World(a_policy(a_route(**AS_THERE | {"repeat_interval_ms": HOUR})))
    world.hear(fires("d", severity="critical"), A)
    world.at(seconds(2.5)).hear(over(A))
    assert world.at(seconds(9)).said() == ["0:01 chat firing d"]


def test_silencing() -> None:
    world = World(a_policy(a_route(**AS_THERE)))
    world.hear(A, B)
    assert world.at(seconds(1.2)).said() == ["0:01 chat firing a b"]
    assert world.silence(a_silence('rule="a"', end=seconds(3.5))) == ["silence_set", "silenced"]
    assert world.at(seconds(3.4)).said() == ["0:02 chat repeat b", "0:03 chat repeat b"]
    assert world.at(seconds(3.5)).said() == ["0:03 chat firing a b"]
    assert whys(world.decisions)[-1] == "silence_ended"


def test_silence_delete() -> None:
    world = World(a_policy(a_route(**AS_THERE)))
    world.silence(a_silence('rule=~".+"'))
    assert world.hear(A, B) == ["opened", "silenced", "grouped", "opened", "silenced", "grouped"]
    assert world.at(seconds(3)).said() == []
    world.take(world.desk.end_silence("s", world.now))
    assert world.said() == ["0:03 chat firing a b"]  # at once, in one message
    assert world.take(world.desk.end_silence("s", world.now)) == ["silence_unknown"]


def test_reload_tells_nothing_twice() -> None:
    world = World(a_policy(a_route(**AS_THERE | {"repeat_interval_ms": HOUR})))
    world.hear(A)
    world.at(seconds(1.5)).said()
    other = a_policy(a_route(name="/", notify=("both",), group_by=("rule",), repeat_interval_ms=HOUR))
    assert world.take(world.desk.replace_policy(other, world.now)) == ["policy_replaced"]
    assert world.at(MINUTE).said() == ["0:11 pager firing a"]  # which had not been told
    world.hear(over(A))
    assert sorted(world.at(HOUR).said()) == ["5:11 chat resolved -a", "5:11 pager resolved -a"]


def test_a_reload_forgets_neither_repeats_nor_ends() -> None:
    world = World(a_policy(a_route(repeat_interval_ms=HOUR)))
    world.hear(A, B)
    world.at(MINUTE).hear(over(B))
    elsewhere = a_policy(a_route(notify=("operations",), name="/new"))
    world.take(world.desk.replace_policy(elsewhere, world.now))
    assert world.at(2 * MINUTE).said() == ["0:10 chat firing a b", "1:00 chat resolved -b", "1:10 pager firing a"]
    assert whys(world.decisions)[1] == "all_resolved"
    back = a_policy(a_route(notify=("science",), name="/newer", repeat_interval_ms=HOUR))
    world.take(world.desk.replace_policy(back, world.now))
    assert world.at(90 * MINUTE).said() == ["62:00 chat repeat a"]


def test_a_conversation_with_whom_an_escalation_told_outlives_a_reload() -> None:
    world = escalating(notify=("ann",))
    world.hear(OWNED)
    world.take(world.desk.replace_policy(a_policy(a_route(notify=("ann",), name="/new")), world.now))
    world.ack("a")
    assert [(note.stage, note.group_key) for note in world.queue] == [("firing", "a"), ("acknowledged", "a")]


def test_a_reload_that_mutes_and_one_that_unmutes() -> None:
    muted = a_policy(a_route(mute_in=("promotion",)), calendars={"promotion": a_span(0, 60)})
    world = World()
    world.hear(A)
    world.take(world.desk.replace_policy(muted, world.now))
    assert world.at(10 * MINUTE).said() == []
    world.take(world.desk.replace_policy(a_policy(), world.now))
    assert world.said() == ["10:00 chat firing a"]


# -- silences and mute times


def test_what_is_over_at_the_end_of_a_silence_is_said_to_those_who_knew() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).silence(a_silence('rule=~".+"', end=20 * MINUTE))
    world.hear(B)
    world.at(10 * MINUTE).hear(over(A), over(B))
    assert world.at(30 * MINUTE).said() == ["0:10 chat firing a", "20:00 chat resolved -a"]
    assert whys(world.decisions)[-1] == "resolved_while_muted"
    assert world.desk.incidents() == []


def test_a_silence_that_begins_later() -> None:
    world = World()
    world.silence(a_silence('rule="a"', start=MINUTE, end=2 * MINUTE))
    world.hear(A)
    assert world.at(119 * SECOND).said() == ["0:10 chat firing a"]
    assert [view.silenced_by for view in world.desk.incidents()] == ["s"]
    assert world.at(2 * MINUTE).said() == ["2:00 chat firing a"]
    assert world.desk.silences() == []


def test_under_two_silences_until_the_last_one_ends() -> None:
    world = World()
    world.silence(a_silence('rule="a"', end=10 * MINUTE, name="s1"))
    world.silence(a_silence('rule="a"', end=20 * MINUTE, name="s2"))
    world.hear(A)
    assert world.at(30 * MINUTE).said() == ["20:00 chat firing a"]


def test_a_silence_that_is_changed_to_be_about_something_else() -> None:
    world = World()
    world.silence(a_silence('rule="a"'))
    world.hear(A, B)
    world.at(MINUTE).said()
    world.silence(a_silence('rule="b"'))
    assert world.said() == ["1:00 chat firing a"]
    assert [view.silenced_by for view in world.desk.incidents()] == ["", "s"]


def test_who_was_told_by_an_escalation_hears_of_it_again_after_a_silence() -> None:
    world = escalating(notify=("ann",))
    world.hear(OWNED)
    world.at(5 * SECOND).silence(a_silence('rule="a"', end=MINUTE))
    assert world.at(2 * MINUTE).said() == ["0:00 mail firing a", "1:00 mail firing a"]


def test_silences_are_bounded() -> None:
    world = World()
    for number in range(1_000):
        world.silence(a_silence('rule="x"', name=str(number)))
    assert world.silence(a_silence('rule="x"', name="one too many")) == ["too_many_silences"]
    assert world.silence(a_silence('rule="x"', name="7", end=2 * HOUR)) == ["silence_set"]  # replaced
    assert len(world.desk.silences()) == 1_000


def muted_until(minutes: int) -> Any:
    return {"calendars": {"promotion": a_span(0, minutes)}}


def test_at_the_end_of_a_mute_time_what_still_fires_is_told_at_once() -> None:
    world = World(a_policy(a_route(mute_in=("promotion",)), **muted_until(30)))
    world.hear(A, B)
    assert world.at(20 * MINUTE).said() == []
    assert [view.muted_by for view in world.desk.incidents()] == ["promotion", "promotion"]
    world.hear(over(B))
    assert world.at(29 * MINUTE).said() == []
    assert world.at(31 * MINUTE).said() == ["30:00 chat firing a"]
    assert whys(world.decisions) == ["mute_ended"]


def test_told_before_a_mute_time_and_over_within_it() -> None:
    world = World(a_policy(a_route(mute_in=("promotion",)), calendars={"promotion": a_span(5, 30)}))
    world.hear(A, B)
    world.at(10 * MINUTE).hear(over(A))
    assert world.at(40 * MINUTE).said() == ["0:10 chat firing a b", "30:00 chat firing b -a"]


def test_who_was_told_by_an_escalation_hears_of_the_end_after_a_mute_time() -> None:
    route = a_route(notify=(), escalation="page", mute_in=("promotion",))
    world = World(a_policy(route, calendars={"promotion": a_span(5, 30)}))
    world.hear(OWNED)
    world.at(10 * MINUTE).hear(over(OWNED))
    assert world.at(HOUR).said() == ["0:00 mail firing a", "30:00 mail resolved -a"]
    assert whys(world.decisions)[-1] == "resolved_while_muted"


def test_back_before_its_end_could_be_told() -> None:
    route = a_route(notify=(), escalation="page", mute_in=("promotion",))
    world = World(a_policy(route, calendars={"promotion": a_span(5, 30)}))
    world.hear(OWNED)
    world.at(10 * MINUTE).hear(over(OWNED))
    assert world.hear(replace(OWNED, alert_id="a2"))[0] == "reopened"
    assert world.at(35 * MINUTE).said() == ["0:00 mail firing a", "30:00 mail firing a2"]


def test_only_in_working_hours() -> None:
    world = World(a_policy(a_route(active_in=("work",)), calendars={"work": a_span(30, 60)}))
    world.hear(A)
    assert world.at(59 * MINUTE).said() == ["30:00 chat firing a"]


# -- flapping


def test_a_condition_that_comes_and_goes_is_held_open() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)))
    for number in range(1, 6):  # begins at 0, 4, 8, 12, 16 min; over 2 min later each time
        alert = fires(f"a{number}")
        world.hear(alert)
        world.at((4 * number - 2) * MINUTE).hear(over(alert))
        world.at(4 * number * MINUTE)
    assert world.said() == [
        "0:00 chat firing a1",
        "2:00 chat resolved -a1",
        "4:00 chat firing a2",
        "6:00 chat resolved -a2",
        "8:00 chat firing a3",  # the third within half an hour
    ]
    assert [view.is_held for view in world.desk.incidents()] == [True]
    assert world.at(HOUR).said() == ["26:00 chat resolved -a5"]  # ten minutes after it last began
    assert [d.reason for d in world.decisions].count(Reason.FLAPPING_HELD) == 5


def test_what_fires_on_is_not_closed_for_being_quiet() -> None:
    flapping = Flapping(times=2, within_ms=HOUR, quiet_ms=10 * MINUTE)
    world = World(a_policy(a_route(group_wait_ms=0), flapping=flapping))
    world.hear(A, over(A), fires("a2"))
    world.at(30 * MINUTE)
    assert world.hear(over(fires("a2"))) == ["resolved", "all_resolved"]


# -- acknowledgement


def test_an_acknowledgement_stops_repeats_and_is_told_once() -> None:
    world = World(a_policy(a_route(repeat_interval_ms=HOUR)))
    world.hear(A)
    world.at(MINUTE)
    assert world.ack("a") == ["acknowledged", "acknowledged"]
    (published,) = [decision.alert for decision in world.decisions if decision.alert]
    assert (published.status, published.related["acknowledged_by"]) == ("acknowledged", "ann")
    assert world.ack("a") == ["duplicate"]
    assert world.hear(published) == ["duplicate"]  # our own, from the topic
    world.at(5 * HOUR).hear(over(A))
    assert world.at(6 * HOUR).said() == [
        "0:10 chat firing a",
        "1:00 chat acknowledged -a",
        "300:10 chat resolved -a",
    ]
    assert world.ack("a") == ["unknown_alert"]
    assert world.ack("never") == ["unknown_alert"]


def test_an_acknowledgement_of_another_worker() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE)
    acked = replace(A, status="acknowledged", related={"acknowledged_by": "bob"})
    assert world.hear(acked) == ["acknowledged", "acknowledged"]
    (view,) = world.desk.incidents()
    assert (view.status, view.acked_by, view.channels) == ("acknowledged", "bob", ("chat",))
    assert world.said()[-1] == "1:00 chat acknowledged -a"


def test_nobody_is_told_of_an_acknowledgement_of_what_is_silenced_or_muted() -> None:
    world = World(a_policy(a_route(mute_in=("promotion",)), calendars={"promotion": a_span(5, 30)}))
    world.hear(A, B)
    world.at(MINUTE).silence(a_silence('rule="a"', end=2 * MINUTE))
    world.ack("a")
    world.at(10 * MINUTE).ack("b")
    assert world.at(HOUR).said() == ["0:10 chat firing a b"]


def test_the_others_of_a_group_go_on() -> None:
    world = World(a_policy(a_route(repeat_interval_ms=HOUR)))
    world.hear(A, B)
    world.at(MINUTE).ack("a")
    world.said()
    assert world.at(70 * MINUTE).said() == ["60:10 chat repeat b"]


# -- escalation


def escalating(**changes: Any) -> World:
    return World(a_policy(a_route(**{"notify": (), "escalation": "page"} | changes)))


OWNED = fires("a", related={"owner": "ann"})


def test_nobody_answers() -> None:
    world = escalating()
    assert world.hear(OWNED) == ["opened", "escalated"]
    first = world.queue[0]
    assert (first.group_key, first.step, first.round, first.mentions) == ("a", 1, 0, ("ann",))
    world.at(HOUR)
    second = world.queue[1]
    assert (second.step, second.round, second.why) == (3, 0, "not_acknowledged")
    assert world.said() == [
        "0:00 mail firing a",
        "10:00 pager escalation a",
        "20:00 mail escalation a",
        "30:00 pager escalation a",
    ]
    world.hear(over(OWNED))  # to everybody that was told, once
    assert sorted(world.said()) == ["60:00 mail resolved -a", "60:00 pager resolved -a"]


@pytest.mark.parametrize("ends_by", ["ack", "resolved", "record"])
def test_an_escalation_ends(ends_by: str) -> None:
    world = escalating()
    world.hear(OWNED)
    world.at(5 * MINUTE)
    if ends_by == "ack":
        world.ack("a")
    else:
        world.hear(over(OWNED) if ends_by == "resolved" else replace(OWNED, status="acknowledged"))
    world.said()
    assert world.at(HOUR).said() == []


def test_an_escalation_ends_before_its_end_is_sent() -> None:
    world = escalating()
    world.hear(OWNED)
    world.sends = False
    world.hear(over(OWNED))
    assert world.at(30 * MINUTE).said() == ["0:00 mail firing a", "0:00 mail resolved -a"]


def test_time_goes_on_while_silenced_and_its_steps_are_left_out() -> None:
    world = escalating()
    world.hear(OWNED)
    world.at(5 * MINUTE).silence(a_silence('rule="a"', end=15 * MINUTE))
    world.at(25 * MINUTE)
    assert world.said() == ["0:00 mail firing a", "20:00 mail escalation a"]
    (skipped,) = [decision for decision in world.decisions if decision.reason is Reason.ESCALATION_SKIPPED]
    assert skipped.note == "step 3 of page: silenced"


def test_a_running_escalation_keeps_its_policy() -> None:
    world = escalating()
    world.hear(OWNED)
    other = EscalationPolicy(name="page", steps=(Step(do="notify", notify=("science",)),))
    new = a_policy(a_route(notify=(), escalation="page"), escalations={"page": other})
    world.take(world.desk.replace_policy(new, world.now))
    world.restarted(new)
    assert world.at(15 * MINUTE).said() == ["0:00 mail firing a", "10:00 pager escalation a"]


def test_group_and_escalation_do_not_say_the_same_twice() -> None:
    at_once = escalating(notify=("ann",), group_wait_ms=0)
    assert at_once.hear(OWNED) == ["opened", "first_notification", "escalation_skipped"]
    assert at_once.said() == ["0:00 mail firing a"]
    later = escalating(notify=("ann", "science"))
    later.hear(OWNED)
    assert later.at(MINUTE).said() == ["0:00 mail firing a", "0:10 chat firing a"]
    later.hear(over(OWNED))
    assert later.at(HOUR).said() == ["5:10 mail resolved -a", "5:10 chat resolved -a"]


def test_a_step_for_many_incidents_only() -> None:
    flood = Step(do="notify", notify=("operations",), only_if_count=2, only_if_within_ms=MINUTE)
    policies = {"page": EscalationPolicy(name="page", steps=(flood,))}
    world = World(a_policy(a_route(notify=(), escalation="page"), escalations=policies))
    assert world.hear(A) == ["opened", "escalation_skipped"]
    assert world.hear(B)[0] == "opened"
    assert world.said() == ["0:00 pager firing b"]


# -- right before it is sent


def queued(world: World) -> Any:
    return world.desk.trim(world.queue[-1], world.now)


def test_what_is_true_is_sent_as_it_is() -> None:
    world = World(sends=False)
    world.hear(A)
    world.at(MINUTE)
    assert queued(world) == (world.queue[0], Reason.STILL_TRUE)


def test_what_is_over_or_taken_on_or_quiet_is_left_out() -> None:
    world = World(sends=False)
    world.hear(A, B, C, fires("d"), fires("e"))
    world.at(MINUTE).hear(over(A))
    world.ack("b")
    world.desk.put_silence(a_silence('rule="c"'), world.now)
    world.desk.observe(fires("x", severity="critical", model_version="9"), world.now)
    notification = world.queue[0]
    left, why = world.desk.trim(notification, world.now)
    assert left is not None
    assert (left.alert_ids, left.key, left.stage, why) == (("d", "e"), notification.key, "firing", "still_true")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda w: w.hear(over(A)), Reason.ALREADY_RESOLVED),
        (lambda w: w.ack("a"), Reason.ALREADY_ACKNOWLEDGED),
        (lambda w: w.silence(a_silence('rule="a"')), Reason.SILENCED),
        (lambda w: w.hear(fires("d", severity="critical")), Reason.INHIBITED),
        (lambda w: w.at(50 * MINUTE), Reason.MUTED),
    ],
)
def test_why_nothing_is_left(then: Any, reason: Reason) -> None:
    policy = a_policy(a_route(mute_in=("lunch",)), calendars={"lunch": a_span(40, 60)})
    world = World(policy, sends=False)
    world.hear(A)
    (notification,) = world.at(MINUTE).queue
    then(world)
    assert world.desk.trim(notification, world.now) == (None, reason)


def test_the_end_of_what_was_never_said_is_left_out() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A, over(A))
    firing, resolved = world.queue
    assert world.desk.trim(firing, world.now) == (None, Reason.ALREADY_RESOLVED)
    assert world.desk.trim(resolved, world.now) == (None, Reason.NEVER_TOLD)
    assert world.desk.incidents() == []


def test_the_end_of_what_was_said_is_sent() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A)
    world.desk.sent(world.queue[0], world.now)
    world.hear(over(A))
    assert queued(world) == (world.queue[1], Reason.STILL_TRUE)
    assert [view.status for view in world.desk.incidents()] == ["resolved"]
    world.desk.sent(world.queue[1], world.now)
    assert world.desk.incidents() == []


def test_a_partial_end_of_what_was_never_said_leaves_nothing() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A, B, over(A))
    some_resolved = world.queue[-1]
    assert [alert.alert_id for alert in some_resolved.alerts] == ["b", "a"]
    world.desk.sent(replace(some_resolved, alerts=some_resolved.alerts[:1], stage="firing"), world.now)  # b is known
    assert world.desk.trim(some_resolved, world.now) == (None, Reason.NEVER_TOLD)


def test_an_end_that_was_to_be_told_beside_something_else_is_what_is_left() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).hear(B, over(A))
    world.at(4 * MINUTE).sends = False
    (mixed,) = world.at(6 * MINUTE).queue[1:]
    world.ack("b")
    left, _ = world.desk.trim(mixed, world.now)
    assert left is not None
    assert (left.alert_ids, left.stage, left.key) == (("a",), "resolved", mixed.key)


def test_nobody_reports_what_became_of_the_last_notice() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A, over(A))
    assert len(world.desk.incidents()) == 1
    world.at(61 * MINUTE)
    assert world.desk.incidents() == []
    # Should they still be in some queue: what is over does not fire, and rather an end too many than one too few.
    firing, resolved = world.queue
    assert world.desk.trim(firing, world.now) == (None, Reason.ALREADY_RESOLVED)
    assert world.desk.trim(resolved, world.now) == (resolved, Reason.STILL_TRUE)


def test_what_failed_for_good_is_tried_again_and_its_end_not_told() -> None:
    world = World(sends=False)
    world.hear(A)
    (lost,) = world.at(10 * SECOND).queue
    world.desk.failed(lost, world.now)
    _, again = world.at(6 * MINUTE).queue
    assert world.said() == ["0:10 chat firing a", "5:10 chat firing a"]
    world.desk.failed(again, world.now)
    world.hear(over(A))
    assert world.at(HOUR).said() == []


def test_what_stood_in_hears_of_the_end() -> None:
    world = World(sends=False)
    world.hear(A)
    (first,) = world.at(10 * SECOND).queue
    stand_in = first.on("mail")
    assert world.desk.trim(stand_in, world.now) == (stand_in, Reason.STILL_TRUE)
    world.desk.sent(stand_in, world.now)
    world.hear(over(A))
    assert world.at(HOUR).said() == ["0:10 chat firing a", "0:10 mail resolved -a"]


def test_the_end_by_way_of_a_stand_in() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False)
    world.hear(A)
    world.desk.sent(world.queue[0], world.now)
    world.hear(over(A))
    stand_in = world.queue[1].on("mail").on("log")
    assert world.desk.trim(stand_in, world.now) == (stand_in, Reason.STILL_TRUE)
    world.desk.sent(stand_in, world.now)
    assert world.desk.incidents() == []


# -- bounds


def test_the_least_important_is_evicted_first() -> None:
    world = World(limit=3)
    world.hear(fires("a", severity="minor"), B, fires("c", severity="critical", model_id="x"))
    assert "evicted" in world.hear(fires("d", model_id="y"))
    assert sorted(view.alert.alert_id for view in world.desk.incidents()) == ["b", "c", "d"]
    world.hear(fires("e", severity="critical", model_id="z"))
    assert sorted(view.alert.alert_id for view in world.desk.incidents()) == ["c", "d", "e"]
    assert "evicted" in world.hear(fires("f", severity="minor", model_id="z"))
    assert sorted(view.alert.alert_id for view in world.desk.incidents()) == ["c", "d", "e"]


def test_an_evicted_inhibitor_keeps_nobody_quiet() -> None:
    world = World(a_policy(a_route(group_wait_ms=0, group_by=("rule",))), limit=2)
    world.hear(fires("d", severity="critical"), fires("e", severity="critical", model_id="x"))
    world.hear(fires("f", severity="critical", model_id="y"))
    assert world.hear(over(fires("f")))[0] == "resolved"
    assert world.hear(A) == ["opened", "first_notification"]


def test_whom_an_evicted_inhibitor_kept_quiet_is_told() -> None:
    backwards = InhibitRule(source=matching('severity="major"'), target=matching('severity="critical"'))
    world = World(a_policy(a_route(group_wait_ms=0, group_by=("rule",)), inhibition=(backwards,)), limit=2)
    assert world.hear(A, fires("c", severity="critical"))[-2:] == ["inhibited", "nothing_new"]
    world.hear(fires("d", severity="critical"))
    assert world.said() == ["0:00 chat firing a", "0:00 chat firing c", "0:00 chat firing d"]


def test_an_evicted_incident_is_no_longer_of_its_group() -> None:
    world = World(limit=2)
    world.hear(fires("a", severity="minor"), B)
    world.at(MINUTE).hear(C)
    world.at(6 * MINUTE).hear(over(B), over(C))
    world.at(HOUR)
    assert whys(world.decisions) == ["first_notification", "new_alerts", "all_resolved"]


def test_of_what_is_over_the_oldest_end_is_evicted_first_even_by_another_worker() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)), sends=False, limit=3)
    world.hear(A, B)
    world.at(SECOND).hear(over(B))
    world.at(2 * SECOND).hear(over(A))
    state = world.desk.state()
    world.desk = Desk(world.policy, limit=2)
    world.desk.restore(state, world.now)
    world.hear(C)
    assert sorted(view.alert.alert_id for view in world.desk.incidents()) == ["a", "c"]


def test_a_limit_of_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="limit: expected at least 1"):
        Desk(a_policy(), limit=0)


def test_what_nobody_watches_any_more_is_closed() -> None:
    world = World(a_policy(a_route(repeat_interval_ms=100 * HOUR), stale_after_ms=24 * HOUR))
    world.hear(A)
    world.at(20 * HOUR).hear(A)  # a sign of life
    assert world.at(43 * HOUR).said() == ["0:10 chat firing a"]
    assert world.at(45 * HOUR).said() == ["2640:10 chat resolved -a"]
    assert Reason.STALE in [decision.reason for decision in world.decisions]
    assert world.desk.incidents() == []


def test_nothing_is_left_behind_by_many_incidents() -> None:
    world = World(a_policy(a_route(group_wait_ms=0), escalations={}))
    for number in range(50):
        alert = fires(f"a{number}", fingerprint=str(number), model_id=str(number))
        world.hear(alert, over(alert))
    world.at(3 * HOUR)
    state = world.desk.state()
    assert (state["incidents"], state["groups"]) == ([], [])
    assert world.desk.next_due() is None


# -- restarts


def test_a_restart_does_not_forget_the_inhibitor() -> None:
    world = World()
    world.hear(fires("d", severity="critical"), A)
    world.at(5 * SECOND).restarted()
    assert world.at(MINUTE).said() == ["0:10 chat firing d"]
    world.hear(B)
    assert world.at(10 * MINUTE).said() == []


def test_a_silence_that_ended_while_nobody_was_there() -> None:
    world = World()
    world.silence(a_silence('rule="a"', end=MINUTE))
    world.hear(A)
    state = world.desk.state()
    world.now += 30 * MINUTE
    world.desk = Desk(world.policy)
    world.desk.restore(state, world.now)
    assert world.at(31 * MINUTE).said() == ["30:00 chat firing a"]


def test_a_restart_under_other_routes() -> None:
    world = World()
    world.hear(A)
    world.at(MINUTE).said()
    world.restarted(a_policy(a_route(name="/new", notify=("both",))))
    assert world.at(2 * MINUTE).said() == ["1:10 pager firing a"]


def test_a_rebuild_says_nothing_but_knows_who_was_told() -> None:
    world = World(a_policy(a_route(escalation="page", repeat_interval_ms=HOUR)))
    world.hear(OWNED, B, over(B), told=True)
    assert world.said() == []
    world.at(10 * MINUTE)
    assert world.said() == ["10:00 pager escalation a"]
    world.hear(over(OWNED))
    assert sorted(world.at(HOUR).said()) == ["10:00 pager resolved -a", "10:10 chat resolved -a"]


def test_a_rebuild_neither_flaps_nor_uninhibits() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)))
    for number in range(3):
        world.hear(fires(f"b{number}"), over(fires(f"b{number}")), told=True)
    down = fires("d", severity="critical")
    world.hear(A, down, over(down), told=True)
    world.hear(fires("b3"), told=True)
    assert world.hear(over(fires("b3"))) == ["resolved", "some_resolved"]
    assert world.said() == ["0:00 chat resolved a -b3"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: {**state, "version": 0},
        lambda state: {},
        lambda state: {**state, "incidents": [{}]},
        lambda state: {**state, "groups": [["key"]]},
        lambda state: {**state, "silences": [{"id": 1}]},
    ],
)
def test_a_state_that_cannot_be_read_changes_nothing(spoil: Any) -> None:
    world = World()
    world.hear(A)
    before = world.desk.state()
    with pytest.raises(StoreError):
        world.desk.restore(spoil(before), world.now)
    assert world.desk.state() == before
    assert world.at(MINUTE).said() == ["0:10 chat firing a"]


def test_the_state_is_plain_data() -> None:
    world = World(a_policy(a_route(escalation="page")))
    world.hear(OWNED, B)
    world.at(MINUTE).ack("b")
    world.silence(a_silence('rule="x"'))
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(world.desk.state()))
    other = Desk(world.policy)
    other.restore(plain, world.now)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(other.state())) == plain


def test_keys_are_never_those_of_something_else() -> None:
    world = World(a_policy(a_route(group_wait_ms=0)))
    for number in range(3):  # the group is gone and back each time
        world.hear(fires(f"a{number}", fingerprint=str(number)), over(fires(f"a{number}", fingerprint=str(number))))
        world.restarted()
    keys = [notification.key for notification in world.queue]
    assert len(set(keys)) == len(keys) == 6


def test_a_receiver_of_one_person_mentions_them() -> None:
    receivers = {**RECEIVERS, "bob": Receiver(name="bob", channels=("chat",), mention="bob")}
    world = World(a_policy(a_route(notify=("bob",), group_wait_ms=0), receivers=receivers))
    world.hear(A)
    assert world.queue[0].mentions == ("bob",)


def two_owners(**of_alice: Any) -> World:
    """Whose alerts come to one channel."""
    receivers = {
        "alice": Receiver(name="alice", channels=("chat",), mention="alice", **of_alice),
        "bob": Receiver(name="bob", channels=("chat",), mention="bob"),
    }
    world = World(a_policy(a_route(notify=("owner",)), receivers=receivers))
    world.hear(fires("a", related={"owner": "alice"}), fires("b", related={"owner": "bob"}))
    return world.at(MINUTE)


def test_all_whose_alerts_a_group_tells_are_mentioned() -> None:
    assert two_owners().queue[0].mentions == ("alice", "bob")


def test_who_wants_no_ends_does_not_decide_for_others() -> None:
    world = two_owners(send_resolved=False)
    world.hear(over(A), over(B))
    assert world.at(HOUR).said() == ["0:10 chat firing a b", "5:10 chat resolved -b"]


def test_routes_that_go_on_tell_on_their_own() -> None:
    world = World(
        a_policy(
            a_route(name="/0", matchers=matching('severity="major"'), goes_on=True, group_wait_ms=0),
            a_route(name="/1", notify=("operations",)),
        )
    )
    world.hear(A)
    world.at(MINUTE).hear(over(A))
    assert world.at(HOUR).said() == [
        "0:00 chat firing a",
        "0:10 pager firing a",
        "1:00 chat resolved -a",
        "5:10 pager resolved -a",
    ]


def test_every_reason_is_explained() -> None:
    for reason in Reason:
        assert f"{reason.value}:" in (Reason.__doc__ or "") or f"{reason.value}," in (Reason.__doc__ or "")
