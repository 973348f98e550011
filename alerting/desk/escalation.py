"""One incident's way through its escalation policy: step after step until somebody takes it or all is well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from alerting.desk.calendars import Calendar
from alerting.desk.policy import ON_CALL, EscalationPolicy, Step
from tables.errors import ConfigError, StoreError

MOST_REPEATS: Final = 5
MOST_POLICIES: Final = 10
"""That one incident may go through by `next`."""

_STATE: Final = 2


class StepReason(StrEnum):
    """Why a step is handed out, or why it was left out."""

    DUE = "due"
    OUTSIDE_HOURS = "outside_hours"
    """`only_in` does not cover the time."""
    TOO_FEW = "too_few"
    """Fewer than `only_if_count` incidents began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDue:
    """A step of which the time has come; somebody is to be told where the reason is `due`."""

    reason: StepReason
    policy: str
    step: int
    """Its number in the policy, from 1."""
    round: int
    """How often the policy has begun, from 1."""
    waited: bool
    """Whether somebody has had time to answer: a wait lies before it."""
    is_again: bool = False
    """It was handed out before, and is for those who were not told then."""
    notify: tuple[str, ...]
    """Receivers, `owner` and `oncall:ROTATION`, to be looked up now; empty for a step that tells nobody."""

    @property
    def is_done(self) -> bool:
        """Whether it is to be carried out, and not left out."""
        return self.reason is StepReason.DUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the conditions of steps ask for."""

    calendars: Mapping[str, Calendar]
    count: Callable[[str, int], int]
    """How many incidents began under a policy within so many milliseconds up to now, this one included."""


@dataclass(frozen=True, slots=True)
class _Again:
    """A step to be handed out again: it found nobody, or somebody else is on call now."""

    round: int
    waited: bool
    at: int


class Escalation:
    """The run of a policy as it was when the incident began: what is changed in the file later does not touch it.

    A `wait` counts from when the step before it was due, so that late ticks do not add up. Where more than half of it
    is over by then, as after an outage, it counts from now: nothing comes in a burst, and whoever was told has at least
    half the wait to answer. Every step is handed out once a round, in order, however late.
    """

    def __init__(self, policy: str, snapshot: Mapping[str, EscalationPolicy], now: int) -> None:
        self._snapshot = snapshot
        self._policy = policy
        self._index = 0
        self._round = 1
        self._due_at = now
        self._waited = False
        self._reached: dict[tuple[str, int], _Again] = {}
        self._left_out = False
        self._again: dict[tuple[str, int], _Again] = {}

    @classmethod
    def begin(cls, policy: EscalationPolicy, policies: Mapping[str, EscalationPolicy], now: int) -> Escalation:
        """Start at the first step, due `now`; `policies` are those that `next` may name.

        Raises ConfigError where they form a circle or one is missing.
        """
        return cls(policy.name, {one.name: one for one in chain_of(policy, policies)}, now)

    @property
    def policy(self) -> str:
        """The policy that it is in."""
        return self._policy

    @property
    def step(self) -> int:
        """The number of the step that comes next, from 1."""
        return self._index + 1

    @property
    def round(self) -> int:
        """How often the policy has begun, from 1."""
        return self._round

    @property
    def next_due(self) -> int | None:
        """When there is something to do; None: it has come to its end."""
        due = [self._due_at] if self._index < len(self._steps) else []
        return min([*due, *(again.at for again in self._again.values())], default=None)

    # -- what became of a step

    def was_told(self, due: StepDue) -> None:
        """A step has reached somebody."""
        self._reached[due.policy, due.step] = _Again(due.round, due.waited, 0)
        self._left_out = False

    def hand_over(self, now: int) -> None:
        """Somebody else may be on call: the steps that have told whoever was are handed out again."""
        for (name, number), reached in self._reached.items():
            if any(one.startswith(ON_CALL) for one in self._snapshot[name].steps[number - 1].notify):
                self._again[name, number] = replace(reached, at=now)

    def was_left_out(self) -> None:
        """A step found the incident kept quiet."""
        self._left_out = True

    @property
    def is_left_out(self) -> bool:
        """Whether it has found the incident kept quiet since it last reached somebody."""
        return self._left_out

    def found_nobody(self, due: StepDue, again_at: int) -> None:
        """A step had nobody to tell: it is handed out again then, while the others go on."""
        self._again[due.policy, due.step] = _Again(due.round, due.waited, again_at)

    def resume(self, now: int) -> bool:
        """The incident is no longer kept quiet. Where that was so until the last step, or nobody was reached before, it
        begins anew, and returns True."""
        was_left_out, self._left_out = self._left_out, False
        if not was_left_out or (self._reached and self.next_due is not None):
            return False
        self._policy, self._index, self._round, self._due_at = next(iter(self._snapshot)), 0, 1, now
        self._waited, self._again = False, {}
        return True

    # -- time

    def advance(self, now: int, around: Surroundings) -> list[StepDue]:
        """Every step that has come due, and those that were left out, in order."""
        found = self._advance_again(now, around)
        while self._index < len(self._steps) and self._due_at <= now:
            step = self._steps[self._index]
            reason = self._reason(self._policy, step, now, around)
            if reason is not StepReason.DUE or step.do == "notify":
                found.append(
                    StepDue(
                        reason=reason,
                        policy=self._policy,
                        step=self.step,
                        round=self._round,
                        waited=self._waited,
                        notify=step.notify,
                    )
                )
            self._index += 1
            if reason is StepReason.DUE:
                self._follow(step, now)
        return found

    def state(self) -> dict[str, Any]:
        """As plain data, with the policies."""
        return {
            "version": _STATE,
            "policy": self._policy,
            "policies": {name: [_plain(step) for step in policy.steps] for name, policy in self._snapshot.items()},
            "index": self._index,
            "round": self._round,
            "due_at": self._due_at,
            "waited": self._waited,
            "reached": [[*place, *astuple(reached)] for place, reached in self._reached.items()],
            "left_out": self._left_out,
            "again": [[*place, *astuple(again)] for place, again in self._again.items()],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Escalation:
        """Go on where `state` was taken; raises StoreError for that of another version."""
        if state.get("version") != _STATE:
            raise StoreError(f"expected the state of an escalation in version {_STATE}, got {state.get('version')!r}")
        snapshot = {
            name: EscalationPolicy(name=name, steps=tuple(_step(step) for step in steps))
            for name, steps in state["policies"].items()
        }
        escalation = cls(state["policy"], snapshot, state["due_at"])
        escalation._index, escalation._round = state["index"], state["round"]
        escalation._waited, escalation._left_out = state["waited"], state["left_out"]
        escalation._reached = {(name, step): _Again(*reached) for name, step, *reached in state["reached"]}
        escalation._again = {(name, step): _Again(*again) for name, step, *again in state["again"]}
        return escalation

    @property
    def _steps(self) -> tuple[Step, ...]:
        return self._snapshot[self._policy].steps

    def _advance_again(self, now: int, around: Surroundings) -> list[StepDue]:
        found = []
        for (name, number), again in list(self._again.items()):
            if again.at <= now:
                del self._again[name, number]
                step = self._snapshot[name].steps[number - 1]
                found.append(
                    StepDue(
                        reason=self._reason(name, step, now, around),
                        policy=name,
                        step=number,
                        round=again.round,
                        waited=again.waited,
                        is_again=True,
                        notify=step.notify,
                    )
                )
        return found

    def _reason(self, policy: str, step: Step, now: int, around: Surroundings) -> StepReason:
        # A calendar that is no longer in the file keeps nobody from being told.
        calendar = around.calendars.get(step.only_in)
        if calendar is not None and not calendar.covers(now):
            return StepReason.OUTSIDE_HOURS
        if step.only_if_count and around.count(policy, step.only_if_within_ms) < step.only_if_count:
            return StepReason.TOO_FEW
        return StepReason.DUE

    def _follow(self, step: Step, now: int) -> None:
        if step.do == "wait":
            since = self._due_at if 2 * (now - self._due_at) <= step.wait_ms else now
            self._due_at, self._waited = since + step.wait_ms, True
        elif step.do == "repeat" and self._round <= step.repeat:
            self._index, self._round = 0, self._round + 1
        elif step.do == "next":
            self._policy, self._index, self._round = step.next, 0, 1


def chain_of(policy: EscalationPolicy, policies: Mapping[str, EscalationPolicy]) -> list[EscalationPolicy]:
    """The policy and all that its `next` steps lead to.

    Raises ConfigError for a circle, a name that is missing, more than MOST_POLICIES, and a repetition without a wait,
    which would tell everybody several times at once.
    """
    found: list[EscalationPolicy] = []

    def visit(one: EscalationPolicy, path: tuple[str, ...]) -> None:
        if one.name in path:
            raise ConfigError(f"expected policies that end, got a circle: {' -> '.join((*path, one.name))}")
        if one in found:
            return
        found.append(one)
        if len(found) > MOST_POLICIES:
            raise ConfigError(f"expected at most {MOST_POLICIES} policies by next, got more after {policy.name}")
        for number, step in enumerate(one.steps, 1):
            where = f"step {number} of {one.name}"
            if step.do == "next":
                if step.next not in policies:
                    raise ConfigError(f"{where}: expected a known policy, got {step.next!r}")
                visit(policies[step.next], (*path, one.name))
            elif step.do == "repeat":
                _check_repeat(step, one.steps[: number - 1], where)

    visit(policy, ())
    return found


def _check_repeat(step: Step, before: tuple[Step, ...], where: str) -> None:
    if not 1 <= step.repeat <= MOST_REPEATS:
        raise ConfigError(f"{where}: expected 1 to {MOST_REPEATS}, got {step.repeat}")
    if not any(one.do == "wait" and not (one.only_in or one.only_if_count) for one in before):
        raise ConfigError(f"{where}: expected a wait without a condition before it, got none")


@lru_cache(maxsize=1_000)  # of thousands of incidents most run the same few
def _plain(step: Step) -> dict[str, Any]:
    # Without what is as by default: every open incident carries its policies.
    return {name: value for name, value in asdict(step).items() if value}


def _step(state: Mapping[str, Any]) -> Step:
    return Step(**{**state, "notify": tuple(state.get("notify", ()))})
