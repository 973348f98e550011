"""Conditions of rules as people write them: `ctr < 5%`, `p95(latency) > 500ms`, `drop(ctr, vs=1d) > 10%`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, cast, get_args

from alerting.durations import parse_duration, say_duration
from alerting.rules.metrics import DROP, LEVEL, METRICS, RISE, Metric, Unit, written
from alerting.rules.reading import LEVELS
from tables.errors import ConfigError

Comparison = Literal["<", "<=", ">", ">="]
Direction = Literal["drop", "rise"]

MINUTE_MS: Final = 60_000
#: The history of every minute up to here stays in memory.
LONGEST_VS_MS: Final = 7 * 86_400_000
LONGEST_OVER_MS: Final = 86_400_000
DEFAULT_OVER_MS: Final = 10 * MINUTE_MS
LONGEST_EXPRESSION: Final = 500

#: Blanks have one place each, or a long row of them could be shared out in too many ways.
_COMPARED: Final = r"(?P<comparison><=|>=|<|>)\s*(?P<threshold>\S.*)"
_METRIC: Final = r"(?P<metric>[^\s<>=(),]+)\s*(?:(?P<argument>\([^()]*\))\s*)?"
_EXPRESSION: Final = re.compile(_METRIC + _COMPARED)
_CHANGE: Final = re.compile(
    r"(?P<direction>drop|rise)\s*\(\s*" + _METRIC + r"(?P<options>(?:,[^(),]*)*)\)\s*" + _COMPARED
)
_LOOKS_LIKE_CHANGE: Final = re.compile(r"(drop|rise)\s*\(")
_OPTION: Final = re.compile(r"([^\s=]+)\s*=\s*(\S+)")
_OPTIONS: Final = ("vs", "over")
_NAMES: Final = (*METRICS, *get_args(Direction))
_THRESHOLD: Final = re.compile(r"(.*?)(%|[A-Za-z]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The mean over the last `over_ms` against that of the same span `vs_ms` earlier, as a share of the latter."""

    direction: Direction
    vs_ms: int
    over_ms: int = DEFAULT_OVER_MS

    def of(self, current: float, reference: float) -> float:
        """How far `current` has gone in this direction, negative where it went in the other; `reference` is not 0."""
        # 7.2 % after 8 % is the tenth less that a rule speaks of, and not a 10**-17 more.
        gone = round((current - reference) / reference, 12)
        # A change of nothing is 0 %, and not -0 %.
        return (gone if self.direction == "rise" else -gone) + 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One metric, or how it has changed, against one threshold; `feature` is a glob where the metric is of a feature,
    else empty.

    The threshold is what readings hold: a ratio from 0 to 1, milliseconds, a place in LEVELS; of a change a share.
    """

    metric: str
    feature: str
    comparison: Comparison
    threshold: float
    change: Change | None = None


def unit_of(metric: str, change: Change | None) -> Unit:
    """In which unit thresholds and values are: the metric's own, or that of how it changes."""
    if change is None:
        return METRICS[metric].unit
    return DROP if change.direction == "drop" else RISE


def parse_expression(source: str, where: str = "expr") -> Expression:
    """Read `METRIC COMPARISON THRESHOLD` or `drop(METRIC, vs=DURATION) COMPARISON SHARE`, or `rise`.

    Raises ConfigError, which begins with `where`.
    """
    source = source.strip()
    if len(source) > LONGEST_EXPRESSION:
        raise ConfigError(f"{where}: expected at most {LONGEST_EXPRESSION} characters, got {len(source):,}")
    change: Change | None = None
    if _LOOKS_LIKE_CHANGE.match(source):
        match = _CHANGE.fullmatch(source)
        if match is None:
            raise ConfigError(f"{where}: expected a change such as 'drop(ctr, vs=1d) > 10%', got {source!r}")
        change = _parse_change(cast(Direction, match["direction"]), match["options"], where)
    else:
        match = _EXPRESSION.fullmatch(source)
    if match is None:
        raise ConfigError(
            f"{where}: expected a metric, one of < <= > >=, and a number, such as 'ctr < 5%', got {source!r}"
        )
    name, comparison = match["metric"], cast(Comparison, match["comparison"])
    metric = METRICS.get(name)
    if metric is None:
        names = ", ".join(map(written, METRICS))
        raise ConfigError(f"{where}: unknown metric {name!r}; expected {names}{did_you_mean(name, _NAMES)}")
    feature = _parse_argument(name, metric, match["argument"], where)
    if change is not None and metric.unit is LEVEL:
        raise ConfigError(f"{where}: expected a metric with a number for {change.direction}, got {name}: use psi or ks")
    unit = unit_of(name, change)
    threshold = _parse_threshold(match["threshold"], unit, where)
    # A change is below 0 where it goes the other way.
    least = 0 if change is None else None
    if threshold == (least if comparison in ("<", ">=") else unit.greatest):
        outcome = "never" if comparison in ("<", ">") else "always"
        raise ConfigError(f"{where}: expected a condition that can change, got {source!r}, which {outcome} holds")
    return Expression(metric=name, feature=feature, comparison=comparison, threshold=threshold, change=change)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A remark for the end of a message, empty where nothing that is known comes near; case does not count."""
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _parse_change(direction: Direction, options: str, where: str) -> Change:
    found: dict[str, int] = {}
    for option in options.split(",")[1:]:
        match = _OPTION.fullmatch(option.strip())
        if match is None:
            raise ConfigError(f"{where}: expected an option such as vs=1d or over=10m, got {option.strip()!r}")
        name, value = match.groups()
        if name not in _OPTIONS:
            raise ConfigError(
                f"{where}: unknown option {name!r}; expected vs and perhaps over{did_you_mean(name, _OPTIONS)}"
            )
        if name in found:
            raise ConfigError(f"{where}: expected {name} once, got it twice")
        found[name] = parse_duration(value, f"{where}: {name}")
    if "vs" not in found:
        raise ConfigError(f"{where}: expected how long before, such as {direction}(ctr, vs=1d), got no vs")
    vs_ms, over_ms = found["vs"], found.get("over", DEFAULT_OVER_MS)
    if not 10 * MINUTE_MS <= vs_ms <= LONGEST_VS_MS or vs_ms % MINUTE_MS:
        raise ConfigError(f"{where}: vs: expected whole minutes from 10m to 7d, got {say_duration(vs_ms)}")
    if not MINUTE_MS <= over_ms <= min(vs_ms, LONGEST_OVER_MS) or over_ms % MINUTE_MS:
        raise ConfigError(
            f"{where}: over: expected whole minutes from 1m to 1d, and no longer than vs, got {say_duration(over_ms)}"
        )
    return Change(direction=direction, vs_ms=vs_ms, over_ms=over_ms)


def _parse_argument(name: str, metric: Metric, argument: str | None, where: str) -> str:
    given = None if argument is None else argument[1:-1].strip()
    if metric.argument == "FEATURE":
        if given:
            return given
        raise ConfigError(
            f"{where}: expected a feature, such as {name}(gender), or {name}(*) for each, got {name}{argument or ''}"
        )
    if (given or "") != metric.argument or given == "":
        raise ConfigError(f"{where}: expected {written(name)}, got {name}{argument or ''}")
    return ""


def _parse_threshold(text: str, unit: Unit, where: str) -> float:
    if unit is LEVEL:
        if text not in LEVELS:
            raise ConfigError(f"{where}: expected {unit.expected}, got {text!r}{did_you_mean(text, LEVELS)}")
        return LEVELS.index(text)
    match = _THRESHOLD.fullmatch(text)
    assert match is not None  # it takes any text on one line
    number, suffix = match.groups()
    try:
        # Decimal, since 4.1 / 100 in binary is not the nearest number to 0.041.
        exact = Decimal(number.strip()) * unit.suffixes.get(suffix, Decimal("nan"))
    except ArithmeticError:
        raise ConfigError(f"{where}: expected {unit.expected}, got {text!r} for the number") from None
    if not (exact.is_finite() and 0 <= exact <= unit.greatest) or (unit.is_whole and exact % 1):
        raise ConfigError(f"{where}: expected {unit.expected}, got {text}")
    return float(exact)
