"""The numbers of an alert in words: its metric, value and threshold, what stands behind them, when, and why."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeGuard

from alerting.alert import LATEST_MS, Alert, printable
from alerting.rules.expressions import Comparison, Expression, parse_expression, unit_of
from alerting.rules.metrics import LEVEL, METRICS, MOST_DECIMALS, Unit
from alerting.rules.reading import LEVELS
from alerting.texts.phrases import Words, filled, say_duration, side_by_side
from alerting.texts.template_filters import in_zone, say_offset
from tables.errors import ConfigError

_HOLDS: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MOST_NUMBERS: Final = 12
_LATENCIES: Final = ("p50", "p95", "p99", "max")
_COUNTS: Final = ("impressions", "clicks", "requests", "errors")
_TEXT: Final = 120


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> Expression | None:
    try:
        return parse_expression(expression)
    except ConfigError:
        return None


def expression_of(alert: Alert) -> Expression | None:
    """What was judged; None where it is no expression but a query, or where the alert does not say."""
    source = alert.related.get("expression")
    return _parsed(source) if isinstance(source, str) and len(source) <= 1000 else None


def model_text(alert: Alert) -> str:
    """E.g. `recommender-home v3`."""
    version = printable(alert.model_version, 60)
    if version[:1].isdigit():
        version = f"v{version}"
    return " ".join(part for part in (printable(alert.model_id, _TEXT), version) if part)


def feature_of(alert: Alert) -> str:
    """Name of the feature; empty where the metric has none."""
    feature = alert.related.get("feature") or alert.labels.get("feature") or ""
    return printable(str(feature), 60)


def metric_text(alert: Alert, words: Words) -> str:
    """E.g. `CTR`, `PSI of gender`, `CTR drop against 1 d before`; empty where the alert does not say."""
    judged = expression_of(alert)
    if judged is None:
        return ""
    said = words.metric[judged.metric]
    if feature := feature_of(alert):
        said = filled(words.of_feature, words, metric=said, feature=feature)
    if judged.change is not None:
        before = say_duration(judged.change.vs_ms, words)
        said = filled(words.change[judged.change.direction], words, metric=said, before=before)
    return said


def value_text(alert: Alert, words: Words) -> str:
    """E.g. `4.1 %`, with as many digits as tell it from the threshold; empty where there is no value."""
    value, threshold, unit = alert.value, alert.threshold, _unit(alert)
    if value is None or not math.isfinite(value):
        return ""
    if unit is None:
        return _plain(value)
    if unit is LEVEL:
        return _level(value, words)
    decimals = unit.decimals
    if threshold is not None and math.isfinite(threshold):
        decimals = unit.decimals_beside(value, threshold)
    return f"{value * unit.scale:,.{decimals}f}{_suffix(unit, words)}"


def threshold_text(alert: Alert, words: Words) -> str:
    """E.g. `5 %`; empty where there is none."""
    threshold, unit = alert.threshold, _unit(alert)
    if threshold is None or not math.isfinite(threshold):
        return ""
    if unit is None:
        return _plain(threshold)
    if unit is LEVEL:
        return _level(threshold, words)
    return f"{_short(threshold * unit.scale)}{_suffix(unit, words)}"


def condition_text(alert: Alert, words: Words) -> str:
    """E.g. `below 5 %`, and `no longer below 5 %` of a value that is not; of a query `threshold 100`; empty where there
    is no threshold."""
    judged, threshold = expression_of(alert), threshold_text(alert, words)
    if not threshold or alert.threshold is None:
        return ""
    if judged is None:
        return words.threshold.format(threshold=threshold)
    condition = side_by_side(words, words.comparison[judged.comparison], threshold)
    if alert.value is None or _HOLDS[judged.comparison](alert.value, alert.threshold):
        return condition
    return words.no_longer.format(condition=condition)


def is_no_data(alert: Alert) -> bool:
    """Whether it is about rows that do not come, not about a number."""
    return alert.labels.get("no_data") == "true" and alert.value is None


def numbers_of(alert: Alert) -> dict[str, Any]:
    """The counts behind the value, by name; of a query its further columns."""
    related = alert.related
    found = {name: related[name] for name in (*_COUNTS, "latency_ms", "distances", "change") if name in related}
    others = related.get("numbers")
    return found | dict(sorted(others.items())) if isinstance(others, Mapping) else found


def numbers_text(alert: Alert, words: Words) -> str:
    """E.g. `10,000 shown, 412 clicked`; of a change what it was before and is now."""
    numbers = numbers_of(alert)
    judged, change = expression_of(alert), numbers.get("change")
    if judged is not None and isinstance(change, Mapping):
        return _changed(METRICS[judged.metric].unit, change, words)
    said = []
    for name, number in list(numbers.items())[:_MOST_NUMBERS]:
        if name == "latency_ms" and isinstance(number, Mapping):
            said += _latencies(alert, number, words)
        elif name == "distances" and isinstance(number, Mapping):
            said += [_distance(method, number[method], words) for method in METRICS if method in number]
        elif _is_number(number):
            form = words.counts.get(name, words.other_number)
            if number == 1:
                form = words.count_of_one.get(name, form)
            said.append(form.format(name=printable(name, 60), n=_plain(number)))
    return words.separator.join(said)


def window_text(alert: Alert, zone: str, words: Words) -> str:
    """The window that the numbers are of, e.g. `2026-05-01 10:02–10:03 UTC`; without one, when the alert fired."""
    start, end = alert.related.get("window_start"), alert.related.get("window_end")
    if not (_is_time(start) and _is_time(end)):
        return time_text(alert.fired_at if alert.resolved_at is None else alert.resolved_at, zone)
    horizon_s = alert.related.get("horizon_s")
    if _is_number(horizon_s):
        return words.horizon.format(horizon=say_duration(round(horizon_s * 1000), words), end=time_text(end, zone))
    begin, finish = in_zone(start, zone), in_zone(end, zone)
    clock = "%H:%M:%S" if start % 60_000 >= 1000 or end % 60_000 >= 1000 else "%H:%M"
    date = "" if begin.date() == finish.date() else "%Y-%m-%d "
    return f"{begin:%Y-%m-%d {clock}}–{finish:{date}{clock}} {say_offset(finish)}"


def time_text(time_ms: int, zone: str) -> str:
    """E.g. `2026-05-01 18:02 UTC+8`."""
    if not _is_time(time_ms):
        return str(time_ms)
    at = in_zone(time_ms, zone)
    return f"{at:%Y-%m-%d %H:%M} {say_offset(at)}"


def lasted_ms(alert: Alert) -> int:
    """How long the condition has held, as the alert says, or from its times."""
    lasted = alert.related.get("for_ms")
    if isinstance(lasted, int) and not isinstance(lasted, bool) and lasted >= 0:
        return lasted
    return max(0, (alert.fired_at if alert.resolved_at is None else alert.resolved_at) - alert.started_at)


def cause_text(cause: Mapping[str, Any], words: Words) -> str:
    """E.g. `new_user true 20 % -> 50 %, PSI 0.40 (severe)`; the cause's own text where it lacks the parts."""
    before, after, psi = cause.get("reference_share"), cause.get("share"), cause.get("psi")
    has_parts = cause.get("kind") == "drift" and cause.get("feature")
    if not (has_parts and _is_number(before) and _is_number(after) and _is_number(psi)):
        return printable(str(cause.get("text", "")), 300)
    what = " ".join(printable(str(cause[key]), 60) for key in ("feature", "bin") if cause.get(key) not in (None, ""))
    moved = words.share_moved.format(
        what=what,
        before=f"{_short(before * 100, 1)}{words.units.get(' %', ' %')}",
        after=f"{_short(after * 100, 1)}{words.units.get(' %', ' %')}",
        direction=words.share_direction[after > before],
    )
    level = str(cause.get("level", ""))
    return moved + words.cause_score.format(psi=f"{psi:.2f}", level=words.level.get(level, printable(level, 30)))


def _unit(alert: Alert) -> Unit | None:
    judged = expression_of(alert)
    return None if judged is None else unit_of(judged.metric, judged.change)


def _suffix(unit: Unit, words: Words) -> str:
    return words.units.get(unit.shown_as, unit.shown_as)


def _level(place: float, words: Words) -> str:
    return words.level[LEVELS[min(max(int(place), 0), len(LEVELS) - 1)]]


def _changed(unit: Unit, change: Mapping[str, Any], words: Words) -> str:
    decimals = max(unit.decimals, 2) if unit.scale > 1 else unit.decimals
    before, now = (change.get(side) for side in ("reference", "current"))
    suffix = _suffix(unit, words)
    return words.changed.format(
        before=f"{_fixed(before, decimals, unit.scale)}{suffix}",
        now=f"{_fixed(now, decimals, unit.scale)}{suffix}",
        reference_n=_fixed(change.get("reference_n"), 0),
        n=_fixed(change.get("n"), 0),
    )


def _latencies(alert: Alert, latencies: Mapping[str, Any], words: Words) -> list[str]:
    judged = expression_of(alert)
    if judged is None or judged.metric not in _LATENCIES:
        return []
    found = [(name, latencies.get(name)) for name in _LATENCIES]
    unit = words.units.get(" ms", " ms")
    return [f"{words.metric[name].split()[0]} {ms:,.0f}{unit}" for name, ms in found if ms is not None]


def _distance(method: str, found: Mapping[str, Any], words: Words) -> str:
    level = str(found.get("level", ""))
    return words.distance.format(
        method=method.upper(),
        value=_fixed(found.get("value"), 2),
        level=words.level.get(level, printable(level, 30)),
        n=_fixed(found.get("n"), 0),
        reference=_fixed(found.get("reference_n"), 0),
    )


def _fixed(number: object, decimals: int, scale: int = 1) -> str:
    return f"{number * scale:,.{decimals}f}" if _is_number(number) else "?"


def _short(number: float, decimals: int = MOST_DECIMALS) -> str:
    return f"{number:,.{decimals}f}".rstrip("0").rstrip(".")


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else _short(number, 4)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LATEST_MS
