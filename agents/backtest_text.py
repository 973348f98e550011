"""What a backtest found, in lines of text: rule by rule, model by model, and as a timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from agents.backtest import Backtest, Firing, Series, Track
from agents.rule_words import condition_of, counted, value_of
from agents.timeline import DAY_MS, SEVERITY_STYLES, Bar, draw
from alerting.alert import printable
from alerting.durations import say_duration
from alerting.rules.decisions import Reason
from alerting.rules.expressions import did_you_mean
from alerting.rules.rule import Rule

MOST_QUIET: Final = 10
"""Models of a rule that never fired for them."""
MOST_FIRINGS: Final = 20
"""Of a rule and model."""
MOST_BARS: Final = 60
_ID: Final = 60

Tracks = list[tuple[Rule, Series, Track]]


def report(found: Backtest) -> Iterator[Text]:
    """For each rule and model: how often it fired, when and how long, the worst value, what was judged and what not."""
    tracks = found.tracks()
    for rule in found.rules:
        of_rule = [entry for entry in tracks if entry[0] is rule]
        line = Text(rule.name, "bold")
        line.append(f"  {rule.severity}", SEVERITY_STYLES[rule.severity])
        line.append(f"  {condition_of(rule)}, for {say_duration(rule.for_ms)}")
        yield line
        for reason, minutes in sorted(found.unanswered.get(rule.name, Counter()).items()):
            yield Text(f"  had no answer for {counted(minutes, 'minute')}: {_said(reason)}", "red")
        if rule.name in found.last_words:
            yield Text(f"  {printable(found.last_words[rule.name], 400)}", "red")
        if found.asked[rule.name]:
            yield Text(f"  returned nothing for {counted(found.asked[rule.name], 'minute')}")
        if not of_rule:
            if rule.kind != "sql":
                yield Text(f"  judged nothing: {_lacking(rule, found)}", "dim")
            continue
        yield from _models(rule, of_rule, found)
    if found.unseen:
        yield Text(f"not seen by queries, for want of room or for long names: {counted(found.unseen, 'row')}", "red")
    if found.dropped:
        yield Text(f"too many series: {counted(found.dropped, 'window')} of further ones not shown", "red")


def timeline(found: Backtest, width: int, *, plain: bool) -> list[Text]:
    """A bar for each series that was ever pending or firing."""
    loud = loud_tracks(found)
    if not loud:
        return [Text("no rule was pending or firing at any time", "dim")]
    bars = [
        Bar(
            label=label_of(series),
            severity=rule.severity,
            judged=track.judged,
            pending=track.pending,
            firing=track.firing_spans(found.end_ms),
        )
        for rule, series, track in loud[:MOST_BARS]
    ]
    lines = draw(bars, found.begin_ms, found.end_ms, width, plain=plain)
    if len(loud) > MOST_BARS:
        lines.append(Text(f"and {len(loud) - MOST_BARS} more", "dim"))
    return lines


def loud_tracks(found: Backtest) -> Tracks:
    """The series that were ever pending or firing."""
    return [entry for entry in found.tracks() if not entry[2].is_quiet]


def label_of(series: Series) -> str:
    """E.g. `psi-high recommender-home v3 gender`."""
    return " ".join(part for part in (series.rule, model_of(series), feature_of(series)) if part)


def model_of(series: Series) -> str:
    """Its model and version."""
    return " ".join(printable(part, _ID) for part in (series.model_id, series.model_version) if part) or '""'


def feature_of(series: Series) -> str:
    """Its feature, and whether it is about data that did not come."""
    return " ".join(part for part in (printable(series.feature, _ID), "(no data)" if series.silent else "") if part)


def between(begin_ms: int, end_ms: int) -> str:
    """E.g. `2026-05-01 09:57 to 10:06 UTC`."""
    same_day = begin_ms // DAY_MS == end_ms // DAY_MS
    return f"{clock(begin_ms, with_year=True)} to {clock(end_ms, with_date=not same_day)} UTC"


def clock(at_ms: int, *, with_date: bool = False, with_year: bool = False) -> str:
    """The time in UTC, with seconds where there are some."""
    date = "%Y-%m-%d " if with_year else "%m-%d " if with_date else ""
    seconds = ":%S" if at_ms % 60_000 >= 1000 else ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(f"{date}%H:%M{seconds}")


def told_firing(rule: Rule, firing: Firing, found: Backtest) -> str:
    """E.g. `10:03 to 10:07 (4 min), began 10:00, worst 3.9 %`."""
    dated = found.begin_ms // DAY_MS != found.end_ms // DAY_MS
    end_ms = max(found.end_ms, firing.fired_at) if firing.resolved_at is None else firing.resolved_at
    until = "the end" if firing.resolved_at is None else clock(end_ms, with_date=dated)
    said = f"{clock(firing.fired_at, with_date=dated)} to {until} ({say_duration(end_ms - firing.fired_at)})"
    said += f", began {clock(firing.started_at, with_date=dated)}"
    return said + (f", worst {worst}" if (worst := value_of(rule, firing.worst)) else "")


def told_judged(windows: int, left_out: Counter[Reason]) -> str:
    """E.g. `9 windows judged, 3 left out (too few impressions)`."""
    said = f"{counted(windows, 'window')} judged" if windows else "nothing judged"
    if len(left_out) == 1:
        said += f", {left_out.total():,} left out ({_said(next(iter(left_out)))})"
    elif left_out:
        reasons = ", ".join(f"{_said(reason)} {count:,}" for reason, count in sorted(left_out.items()))
        said += f", {left_out.total():,} left out ({reasons})"
    return said


def often(times: int) -> str:
    """E.g. `once`, `3 times`."""
    return "once" if times == 1 else counted(times, "time")


def _models(rule: Rule, tracks: Tracks, found: Backtest) -> Iterator[Text]:
    """The models for which the rule fired, then some of the others."""
    models: dict[str, Tracks] = {}
    for entry in tracks:
        models.setdefault(model_of(entry[1]), []).append(entry)
    quiet = [model for model, entries in models.items() if not any(track.firings for _, _, track in entries)]
    for model, entries in models.items():
        if model not in quiet:
            yield from _model(rule, model, entries, found)
    for model in quiet[:MOST_QUIET]:
        yield from _model(rule, model, models[model], found)
    if len(quiet) > MOST_QUIET:
        yield Text(f"  and {len(quiet) - MOST_QUIET:,} more models for which it never fired", "dim")


def _model(rule: Rule, model: str, tracks: Tracks, found: Backtest) -> Iterator[Text]:
    left_out: Counter[Reason] = Counter()
    for _, _, track in tracks:
        left_out.update(track.left_out)
    firings = sorted(
        ((firing, series) for _, series, track in tracks for firing in track.firings),
        key=lambda item: (item[0].fired_at, item[1]),
    )
    line = Text(f"  {model}: ")
    line.append(f"fired {often(len(firings))}" if firings else "never fired", "bold" if firings else "")
    worst, feature = _worst(rule, tracks)
    line.append(f", worst {worst}{feature}" if worst else "")
    line.append(f", {told_judged(sum(track.windows for _, _, track in tracks), left_out)}")
    yield line
    for firing, series in firings[:MOST_FIRINGS]:
        name = feature_of(series)
        yield Text(f"    {told_firing(rule, firing, found)}" + (f", {name}" if name else ""))
    if len(firings) > MOST_FIRINGS:
        yield Text(f"    and {len(firings) - MOST_FIRINGS:,} more", "dim")


def _lacking(rule: Rule, found: Backtest) -> str:
    if features := found.other_features.get(rule.name):
        return f"no window has the feature {printable(rule.feature, _ID)}{did_you_mean(rule.feature, features)}"
    return "no windows of its kind, or of the models that it is about"


def _worst(rule: Rule, tracks: Tracks) -> tuple[str, str]:
    """In words, and of which feature."""
    known = [(track.worst, series) for _, series, track in tracks if track.worst is not None]
    if not known:
        return "", ""
    pick = min if rule.comparison in ("<", "<=") else max
    value, series = pick(known)
    return value_of(rule, value), f" ({printable(series.feature, _ID)})" if series.feature else ""


def _said(reason: str) -> str:
    return reason.replace("_", " ")
