"""What the windows agent's rules see besides one window: minutes for SQL rules, causes, rules that are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.metrics import Metrics
from agents.partition_state import Changes
from agents.rule_judge import MOST_ASKED
from agents.transports.batch import Batch, Section
from agents.windows_state import WindowsSetting, WindowsState
from alerting.alert import Alert
from alerting.rules.rule import Rule, parse_rule
from alerting.sql.engine import SqlAnswer, SqlFailure, SqlRow
from alerting.sql.query import SqlQuery
from tables.drift_policy import DriftPolicy
from tables.feature_bins import NumericBins
from tables.feature_counts import pack_counts
from tables.join_policy import JoinPolicy
from tables.partials import INFERENCES, JOIN, FeatureRow, Partial, PartialRow, encode_partial
from tables.reference import FeatureReference, Reference, ReferenceBook
from tests.oracle import MINUTE
from tests.tables.streams import T0

LOW = parse_rule({"name": "low", "expr": "ctr < 5%", "for": "0s", "min_impressions": 1})
GONE = parse_rule({"name": "gone", "expr": "ctr > 90%", "min_impressions": 1, "no_data": "5m"})
TEXT = "SELECT model_id, model_version, ctr AS value FROM ctr WHERE age = 0 AND ctr < 0.05"
FEATURES = tuple(FeatureReference(name, NumericBins((20.0,)), (50, 50, 0, 0)) for name in "abcde")
REFERENCES = (Reference("home", None, FEATURES, 1, "test"),)


def sql(name: str = "many", **changes: Any) -> Rule:
    """As it is read, but for the checking, which starts a process."""
    given = {
        "expression": TEXT,
        "query": SqlQuery(TEXT),
        "metric": "sql",
        "settle_ms": MINUTE,
        "minimum": 0,
        "for_ms": 0,
    }
    return Rule(name=name, **{**given, **changes})


def row(value: float = 0.01, model: str = "home", version: str = "v1") -> SqlRow:
    return SqlRow(model_id=model, model_version=version, feature="", value=value, threshold=None, numbers={"n": 7.0})


@dataclass
class Partition:
    """A windows state, what it is told, and its store."""

    rules: tuple[Rule, ...]
    references: tuple[Reference, ...] = ()
    chunks: dict[str, bytes] = field(default_factory=dict)
    number: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    waits: bool = False

    def __post_init__(self) -> None:
        self.state = self.fresh()

    def fresh(self) -> WindowsState:
        setting = WindowsSetting(
            JoinPolicy(), lambda: self.rules, "partials", "windows", "alerts", "dead", self.metrics, lambda: False,
            references=ReferenceBook(self.references), drift_policy=lambda _: DriftPolicy(horizon_ms=5 * MINUTE),
            waits=self.waits,
        )  # fmt: skip
        return WindowsState(0, setting)

    def hear(self, watermark: int, *rows: PartialRow | FeatureRow, silent_ms: int = 0) -> None:
        """One word of the only join partition; the inferences are silent."""
        self.number += 2
        ctr = [row for row in rows if isinstance(row, PartialRow)]
        features = [row for row in rows if isinstance(row, FeatureRow)]
        words = (
            Partial(0, 1, 7, self.number, T0, idle=True, group=INFERENCES, idle_for_ms=10 * 60 * MINUTE),
            Partial(
                0,
                1,
                7,
                self.number,
                watermark,
                ctr,
                features=features,
                group=JOIN,
                idle=silent_ms > 0,
                idle_for_ms=silent_ms,
            ),
        )
        first = self.number
        section = Section("partials", range(first, first + 2), [*map(encode_partial, words)], first + 2)
        self.state.apply(Batch(0, (section,)), {})

    def minutes(self, begin: int, end: int, clicks: int = 10) -> None:
        """Each heard when it is over, of 100 impressions."""
        for minute in range(begin, end):
            self.hear(T0 + (minute + 1) * MINUTE, PartialRow("home", "v1", T0 + minute * MINUTE, 100, clicks))

    def checkpoint(self) -> Changes:
        changes = self.state.changes(1, 1)
        assert changes is not None
        return changes

    def save(self, changes: Changes) -> Mapping[str, Any]:
        """As the custodian does: some time after the checkpoint was made."""
        for name in changes.drop:
            self.chunks.pop(name, None)
        for name, data in changes.append.items():
            self.chunks[name] = self.chunks.get(name, b"") + data
        state: Mapping[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(changes.state))
        return state

    def restored(self, state: Mapping[str, Any]) -> None:
        self.state = self.fresh()
        self.state.restore(state, dict(self.chunks))

    def asked(self) -> list[int]:
        """Minutes after T0 that are to be asked, answered with nothing."""
        found = []
        while (question := self.state.judge.question()) is not None:
            found.append((question[0] - T0) // MINUTE)
            self.state.answer(question[0], {name: SqlAnswer() for name in question[1]})
        return found


def alerts(changes: Changes) -> list[tuple[str, str, str]]:
    """Rule, status and model of each."""
    told = [orjson.loads(message.value or b"") for message in changes.before if message.topic == "alerts"]
    return [(alert["rule"], alert["status"], alert["model_id"]) for alert in told]


def test_each_minute_is_asked_about_once_when_all_its_rows_are_there() -> None:
    here = Partition((sql(),))
    here.minutes(0, 1)
    assert here.asked() == []  # its clicks may still come
    here.minutes(1, 2)
    assert here.asked() == [0]
    assert here.asked() == []
    here.minutes(2, 7)
    assert here.asked() == [1, 2, 3, 4, 5]
    # A minute without rows is a minute, too.
    here.hear(T0 + 10 * MINUTE)
    assert here.asked() == [6, 7, 8]
    here.minutes(10, 12)
    assert here.asked() == [9, 10]


def test_a_question_holds_the_rows_of_the_lookback_and_no_later_ones() -> None:
    here = Partition((sql(lookback_ms=3 * MINUTE),))
    here.minutes(0, 8)
    sizes = {}
    while (question := here.state.judge.question()) is not None:
        minute, queries, payload = question
        assert [*queries] == ["many"] and payload.minute_ms == minute
        sizes[(minute - T0) // MINUTE] = [msgspec.msgpack.decode(chunk)["ctr"][0][2] for chunk in payload.chunks]
        here.state.answer(minute, {})
    assert sizes == {minute: [T0 + k * MINUTE for k in range(max(0, minute - 2), minute + 1)] for minute in range(7)}


def test_a_rule_that_waits_longer_makes_all_wait() -> None:
    here = Partition((sql(), sql("late", settle_ms=4 * MINUTE)))
    here.minutes(0, 6)
    assert here.asked() == [0, 1]


def test_what_a_query_returns_fires_and_what_it_no_longer_returns_is_resolved() -> None:
    here = Partition((sql(keep_firing_for_ms=0),))
    here.minutes(0, 4)
    for number in range(3):
        here.state.answer(T0 + number * MINUTE, {"many": SqlAnswer((row(),) if number < 2 else ())})
    assert alerts(here.checkpoint()) == [("many", "firing", "home"), ("many", "resolved", "home")]


def test_a_query_can_speak_of_no_model_but_those_that_it_sees() -> None:
    # In another partition, or a replay, the same query would see other models beside this one.
    here = Partition((sql(),))
    here.minutes(0, 3)
    here.state.answer(T0, {"many": SqlAnswer((row(model="all"), row(model="")))})
    assert alerts(here.checkpoint()) == []
    assert here.metrics.decisions.labels("many", "foreign_model")._value.get() == 2
    here.state.answer(T0 + MINUTE, {"many": SqlAnswer((row(), row(model="all")))})
    assert alerts(here.checkpoint()) == [("many", "firing", "home")]


def test_rows_that_queries_do_not_see_are_counted() -> None:
    here = Partition((sql(),))
    here.hear(T0 + 3 * MINUTE, PartialRow("x" * 257, "v1", T0, 100, 10), PartialRow("home", "v1", T0, 100, 10))
    assert here.metrics.sql_rows_left_out._value.get() == 1


def test_a_rule_of_whole_models_hears_all_versions_of_a_minute_together() -> None:
    here = Partition((parse_rule({"name": "few", "expr": "clicks < 30", "per": "model", "for": "1m"}), sql()))
    for minute, clicks in enumerate((20, 5)):
        rows = [PartialRow("home", version, T0 + minute * MINUTE, 100, clicks) for version in ("v1", "v2")]
        here.hear(T0 + (minute + 2) * MINUTE, *rows)
    (fired,) = (orjson.loads(message.value or b"") for message in here.checkpoint().before if message.topic == "alerts")
    assert (fired["model_version"], fired["value"], fired["started_at"]) == ("", 10, T0 + MINUTE)
    question = here.state.judge.question()
    assert question is not None
    # A query adds up by itself.
    assert [row[1] for chunk in question[2].chunks for row in msgspec.msgpack.decode(chunk)["ctr"]] == ["v1", "v2"]


def test_an_answer_to_a_question_that_is_not_open_is_left_out() -> None:
    here = Partition((sql(),))
    here.minutes(0, 4)
    for minute in (T0 + MINUTE, T0 - MINUTE, T0 + 9 * MINUTE):
        here.state.answer(minute, {"many": SqlAnswer((row(),))})
    here.state.answer(T0, {"many": SqlAnswer()})
    here.state.answer(T0, {"many": SqlAnswer((row(),))})
    assert alerts(here.checkpoint()) == []
    assert here.asked() == [1, 2]


def test_a_failure_and_a_null_say_nothing_and_are_counted() -> None:
    here = Partition((sql(), sql("other")))
    here.minutes(0, 3)
    nothing = SqlRow(model_id="home", model_version="v1", feature="", value=None, threshold=None, numbers={})
    failed = SqlAnswer(failure=SqlFailure.TIMEOUT, detail="longer than 2 s")
    here.state.answer(T0, {"many": failed, "other": SqlAnswer((nothing,)), "unknown": SqlAnswer((row(),))})
    assert alerts(here.checkpoint()) == []
    assert here.metrics.sql_answers.labels("many", "timeout")._value.get() == 1
    assert here.metrics.sql_answers.labels("other", "answered")._value.get() == 1
    # A failure is no all-clear.
    here.state.answer(T0 + MINUTE, {"many": SqlAnswer((row(),)), "other": failed})
    assert alerts(here.checkpoint()) == [("many", "firing", "home")]
    here.minutes(3, 8)
    for _ in range(4):
        question = here.state.judge.question()
        assert question is not None
        here.state.answer(question[0], {"many": failed, "other": failed})
    assert alerts(here.checkpoint()) == []


def test_a_checkpoint_between_question_and_answer_loses_nothing_and_asks_nothing_twice() -> None:
    here = Partition((sql(lookback_ms=3 * MINUTE),))
    here.minutes(0, 5)
    question = here.state.judge.question()
    assert question is not None
    changes = here.checkpoint()
    # The answer comes while the custodian still waits for the broker: it is not in this checkpoint.
    here.state.answer(T0, {"many": SqlAnswer((row(),))})
    state = here.save(changes)

    here.restored(state)
    again = here.state.judge.question()
    assert again == question
    here.state.answer(T0, {"many": SqlAnswer((row(),))})
    changes = here.checkpoint()
    assert alerts(changes) == [("many", "firing", "home")]
    here.restored(here.save(changes))
    assert here.asked() == [1, 2, 3]
    here.minutes(5, 7)
    assert here.asked() == [4, 5]


@given(st.lists(st.sampled_from(["hear", "answer", "checkpoint", "crash"]), max_size=30))
def test_whatever_happens_each_minute_is_answered_once_and_on_the_same_rows(steps: list[str]) -> None:
    def answers(*steps: str) -> list[tuple[int, list[bytes]]]:
        here = Partition((sql(lookback_ms=2 * MINUTE),))
        heard, done = 0, list[tuple[int, list[bytes]]]()
        kept: tuple[int, int, Mapping[str, Any] | None] = (0, 0, None)
        for step in (*steps, *["hear"] * 3, *["answer"] * 99):
            match step:
                case "hear":
                    here.minutes(heard, heard + 1, clicks=heard)
                    heard += 1
                case "answer" if (question := here.state.judge.question()) is not None:
                    done.append((question[0], [*question[2].chunks]))
                    here.state.answer(question[0], {})
                case "checkpoint" if (changes := here.state.changes(1, 1)) is not None:
                    kept = heard, len(done), here.save(changes)
                case "crash" if kept[2] is not None:
                    heard = kept[0]
                    del done[kept[1] :]
                    here.restored(kept[2])
        return done

    done = answers(*steps)
    minutes = [minute for minute, _ in done]
    assert minutes == sorted(set(minutes))
    undisturbed = answers(*["hear"] * (len(minutes) - 2))
    assert done == undisturbed


def test_who_is_far_behind_asks_about_the_latest_minutes_only() -> None:
    here = Partition((sql(),))
    here.minutes(0, 300)
    assert here.asked() == [*range(299 - MOST_ASKED, 299)]
    assert here.metrics.sql_answers.labels("many", "too_old")._value.get() == 299 - MOST_ASKED


def test_a_replay_asks_about_every_minute() -> None:
    here = Partition((sql(),), waits=True)
    here.minutes(0, 300)
    assert here.asked() == [*range(299)]
    assert here.metrics.sql_answers.labels("many", "too_old")._value.get() == 0


def test_minutes_without_rows_are_well_and_need_not_be_asked_about() -> None:
    here = Partition((sql(lookback_ms=3 * MINUTE),), waits=True)
    here.minutes(0, 2)
    here.state.answer(T0, {"many": SqlAnswer((row(),))})
    here.hear(T0 + 100_000 * MINUTE)
    assert here.asked() == [1, 2, 3]
    assert alerts(here.checkpoint()) == [("many", "firing", "home"), ("many", "resolved", "home")]
    assert here.metrics.sql_answers.labels("many", "answered")._value.get() == 99_999


# -- when nothing comes any more


def test_when_all_falls_silent_the_whole_minutes_are_judged_and_the_silence_is_told() -> None:
    """No event moves time any more: the speakers' clock does, for the rules alone."""
    here = Partition((LOW, GONE, sql()))
    last = T0 + 4 * MINUTE + 30_000
    here.hear(last, *(PartialRow("home", "v1", T0 + minute * MINUTE, 100, 0) for minute in range(5)))
    assert (here.asked(), alerts(here.checkpoint())) == ([0, 1, 2], [("low", "firing", "home")])

    here.hear(last, silent_ms=29_000)
    assert here.asked() == []
    here.hear(last, silent_ms=30_000)
    assert here.asked() == [3]
    # Minute 4 is not over by what the events say, so it is neither judged nor does it end what fires.
    here.hear(last, silent_ms=5 * MINUTE + 29_000)
    assert (here.asked(), alerts(here.checkpoint())) == ([], [])
    # The last minute judged ended at 4; five minutes later and one more, as its rule waits so long for clicks.
    here.hear(last, silent_ms=5 * MINUTE + 30_000)
    assert alerts(here.checkpoint()) == [("gone", "firing", "home")]
    here.hear(last, silent_ms=3 * 60 * MINUTE)
    assert (here.asked(), alerts(here.checkpoint())) == ([], [])


def test_what_was_stuck_on_its_way_during_a_silence_is_judged_when_it_comes() -> None:
    here = Partition((GONE, sql()))
    here.minutes(0, 4)
    here.hear(T0 + 4 * MINUTE, silent_ms=20 * MINUTE)
    assert (here.asked(), alerts(here.checkpoint())) == ([0, 1, 2, 3], [("gone", "firing", "home")])
    here.minutes(4, 9, clicks=95)
    assert here.asked() == [4, 5, 6, 7]
    assert alerts(here.checkpoint()) == [("gone", "resolved", "home"), ("gone", "firing", "home")]


# -- rules that are replaced


def test_a_rule_that_is_taken_away_resolves_what_it_fired() -> None:
    here = Partition((LOW, sql()))
    here.minutes(0, 4, clicks=0)
    here.state.answer(T0, {"many": SqlAnswer((row(),))})
    assert sorted(alerts(here.checkpoint())) == [("low", "firing", "home"), ("many", "firing", "home")]
    here.rules = ()
    here.state.replace_rules()
    assert sorted(alerts(here.checkpoint())) == [("low", "resolved", "home"), ("many", "resolved", "home")]
    assert here.asked() == []


def test_rules_that_have_changed_before_a_restart_are_resolved_with_it() -> None:
    here = Partition((LOW,))
    here.minutes(0, 4, clicks=0)
    changes = here.checkpoint()
    assert alerts(changes) == [("low", "firing", "home")]
    here.rules = ()
    here.restored(here.save(changes))
    here.hear(T0 + 5 * MINUTE)
    assert alerts(here.checkpoint()) == [("low", "resolved", "home")]


def test_sql_rules_come_and_go_and_come_back() -> None:
    here = Partition((LOW,))
    here.minutes(0, 5)
    assert not here.state.judge.is_asking
    here.rules = (LOW, sql())
    here.state.replace_rules()
    here.minutes(5, 9)
    # From the first minute of which the rows were kept.
    assert here.asked() == [4, 5, 6, 7]
    here.rules = (LOW,)
    here.state.replace_rules()
    here.minutes(9, 30)
    assert here.asked() == []
    here.rules = (LOW, sql())
    here.state.replace_rules()
    here.minutes(30, 33)
    assert here.asked() == [29, 30, 31]


@pytest.mark.parametrize("restarted", [False, True])
def test_without_sql_rules_their_rows_are_dropped_from_the_store(restarted: bool) -> None:
    here = Partition((LOW, sql()))
    here.minutes(0, 5)
    state = here.save(here.checkpoint())
    assert any(name.startswith("sql:") for name in here.chunks)
    here.rules = (LOW,)
    if restarted:
        here.restored(state)
        here.hear(T0 + 5 * MINUTE)
    else:
        here.state.replace_rules()
    here.save(here.checkpoint())
    assert not any(name.startswith("sql:") for name in here.chunks)


@pytest.mark.parametrize("new", ["0s", "5m"])
def test_a_rule_that_waits_otherwise_from_now_on_judges_each_window_once(new: str) -> None:
    seen: list[int] = []
    here = Partition((LOW,))
    object.__setattr__(
        here.state.judge._setting, "tap", lambda _, reading: seen.append(reading.window_start) if reading else None
    )
    here.minutes(0, 8)
    here.rules = (parse_rule({"name": "low", "expr": "ctr < 5%", "for": "0s", "min_impressions": 1, "settle": new}),)
    here.state.replace_rules()
    here.minutes(8, 30)
    assert seen == sorted(set(seen))
    assert seen == [T0 + minute * MINUTE for minute in range(30 if new == "0s" else 25)]


# -- likely causes


def seen(minute: int, name: str, low: int, high: int) -> FeatureRow:
    parts = [np.array([low, high, 0, 0]) if each == name else np.array([50, 50, 0, 0]) for each in "abcde"]
    return FeatureRow("home", "v1", T0 + minute * MINUTE, REFERENCES[0].bins_id, pack_counts(np.concatenate(parts)))


def causes_of(changes: Changes) -> list[list[str]]:
    told = [orjson.loads(message.value or b"") for message in changes.before if message.topic == "alerts"]
    return [[cause["feature"] for cause in alert["causes"]] for alert in told if alert["status"] == "firing"]


@pytest.mark.parametrize(("gap", "causes"), [(0, ["c"]), (2, ["c"]), (4, ["c"]), (5, []), (9, [])])
def test_what_has_shifted_in_the_window_or_shortly_before_is_its_likely_cause(gap: int, causes: list[str]) -> None:
    here = Partition((LOW,), REFERENCES)
    here.hear(T0 + MINUTE, PartialRow("home", "v1", T0, 100, 0 if gap == 0 else 9), seen(0, "c", 500, 10))
    for minute in range(1, gap + 3):
        clicks = 0 if minute >= gap else 9
        here.hear(T0 + (minute + 1) * MINUTE, PartialRow("home", "v1", T0 + minute * MINUTE, 100, clicks))
    assert causes_of(here.checkpoint()) == [causes]


def test_the_three_strongest_of_the_latest_window_are_named_and_survive_a_restart() -> None:
    here = Partition((LOW,), REFERENCES)
    sizes = {"a": 90, "b": 300, "c": 500, "d": 200, "e": 1}
    parts = [np.array([50 + sizes[name], 50, 0, 0]) for name in "abcde"]
    shifted = FeatureRow("home", "v1", T0, REFERENCES[0].bins_id, pack_counts(np.concatenate(parts)))
    here.hear(T0 + MINUTE, PartialRow("home", "v1", T0, 100, 9), shifted)
    here.hear(T0 + 2 * MINUTE, PartialRow("home", "v1", T0 + MINUTE, 100, 9))
    here.restored(here.save(here.checkpoint()))
    here.hear(T0 + 4 * MINUTE, PartialRow("home", "v1", T0 + 2 * MINUTE, 100, 0))
    changes = here.checkpoint()
    assert causes_of(changes) == [["c", "b", "d"]]
    (told,) = [orjson.loads(message.value or b"") for message in changes.before if message.topic == "alerts"]
    assert told["causes"][0]["text"].startswith("c ")
    assert "50 % -> 92 %, PSI" in told["causes"][0]["text"]


# Logs that come minutes after those of other models


def both(here: Partition, minutes: int, behind: int, split: int = 0) -> None:
    """Minutes of a model that is on time, and of one whose clicks are few and whose rows come so many minutes behind;
    `split`: impressions of these that are on time."""
    for minute in range(minutes):
        rows = [PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10)]
        if split:
            rows.append(PartialRow("late", "v1", T0 + minute * MINUTE, split, 0))
        if minute >= behind:
            rows.append(PartialRow("late", "v1", T0 + (minute - behind) * MINUTE, 100, 1))
        here.hear(T0 + (minute + 1) * MINUTE, *rows)


def fired(changes: Changes) -> list[tuple[str, int, int, int]]:
    """Model, impressions, and when it began and fired, in minutes."""
    alerts = [orjson.loads(each.value or b"") for each in changes.before if each.topic == "alerts"]
    return [
        (
            each["model_id"],
            each["related"]["impressions"],
            (each["started_at"] - T0) // MINUTE,
            (each["fired_at"] - T0) // MINUTE,
        )
        for each in alerts
        if each["status"] == "firing"
    ]


SOME = parse_rule({"name": "low", "expr": "ctr < 5%", "for": "0s", "min_impressions": 50, "settle": "30s"})


@pytest.mark.parametrize(("behind", "fires"), [(0, 1), (2, 4), (6, 11)])
def test_a_model_whose_logs_come_late_is_judged_late_and_not_never(behind: int, fires: int) -> None:
    here = Partition((SOME,))
    both(here, 20, behind)
    assert fired(here.checkpoint()) == [("late", 100, 0, fires)]


def test_where_too_little_was_there_in_time_it_is_judged_with_the_rest() -> None:
    here = Partition((SOME,))
    both(here, 20, 2, split=20)
    assert fired(here.checkpoint()) == [("late", 100, 0, 4)]


def test_what_was_judged_is_not_judged_again_whatever_comes_late() -> None:
    seen: list[int] = []
    here = Partition((SOME,))
    object.__setattr__(
        here.state.judge._setting, "tap", lambda _, reading: seen.append(reading.window_start) if reading else None
    )
    for minute in range(20):
        rows = [PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10)]
        # Every third minute comes late, by then later ones have been judged.
        if minute % 3 == 0:
            rows = []
        if minute % 3 == 2:
            rows.append(PartialRow("home", "v1", T0 + (minute - 2) * MINUTE, 100, 1))
        here.hear(T0 + (minute + 1) * MINUTE, *rows)
    assert seen == sorted(set(seen)) and fired(here.checkpoint()) == []


def test_late_looks_are_the_same_after_a_restart() -> None:
    stories = []
    for stop in (None, 5, 8):
        here, told = Partition((SOME,)), []
        for minute in range(20):
            rows = [PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10)]
            rows.append(PartialRow("late", "v1", T0 + minute * MINUTE, 20, 0))
            if minute >= 2:
                rows.append(PartialRow("late", "v1", T0 + (minute - 2) * MINUTE, 100, 1))
            here.hear(T0 + (minute + 1) * MINUTE, *rows)
            if minute == stop:
                changes = here.checkpoint()
                told += fired(changes)
                state = here.save(changes)
                here.state = here.fresh()
                here.state.restore(state, here.chunks)
        stories.append(told + fired(here.checkpoint()))
    assert stories[0] == stories[1] == stories[2] == [("late", 100, 0, 4)]


def test_after_the_store_was_lost_nothing_is_judged_that_had_been() -> None:
    here = Partition((SOME,))
    here.minutes(0, 12)
    here.minutes(12, 14, clicks=1)
    before = here.checkpoint()
    ((_, _, began, _),) = fired(before)
    assert began == 12
    # Time is known from Kafka's note, what fires from the topic of the alerts, and the rows are read again.
    (alert,) = [Alert.from_json(each.value or b"") for each in before.before if each.topic == "alerts"]
    here.state = here.fresh()
    here.state.restore_time(before.rebuild_state)
    here.state.recall([alert])
    for minute in range(14):
        row = PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10 if minute < 12 else 1)
        here.hear(T0 + 14 * MINUTE, row)
    here.state.rebuilt()
    here.minutes(14, 24, clicks=1)
    assert [each for each in here.checkpoint().before if each.topic == "alerts"] == []


def test_a_rule_that_is_new_looks_at_nothing_from_before_not_even_after_a_restart() -> None:
    for restarts in (False, True):
        here = Partition((GONE,))
        for minute in range(10):
            here.hear(T0 + (minute + 1) * MINUTE, PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10))
        # Rows of six minutes ago, of a model that is bad.
        here.rules = (GONE, SOME)
        here.state.replace_rules()
        if restarts:
            state = here.save(here.checkpoint())
            here.state = here.fresh()
            here.state.restore(state, here.chunks)
        for minute in range(10, 16):
            late = PartialRow("late", "v1", T0 + (minute - 6) * MINUTE, 100, 1)
            here.hear(T0 + (minute + 1) * MINUTE, PartialRow("home", "v1", T0 + minute * MINUTE, 100, 10), late)
        assert fired(here.checkpoint()) == []
