"""The alert as others see it, on the topic `tidemark.alerts`, in `replay --alerts` and in webhooks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import orjson

from tables.errors import InputError

Severity = Literal["critical", "major", "minor"]
Status = Literal["firing", "acknowledged", "resolved"]

#: From the most to the least urgent.
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "major", "minor")

MOST_BYTES: Final = 1 << 20
LATEST_MS: Final = 253_402_300_799_000
"""The end of the year 9999: dates have none after it, and checkpoints no number of more than 64 bits."""
_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One state of one incident; times are event time in milliseconds since the epoch, UTC.

    The mappings are not copied: treat them as read-only.
    """

    alert_id: str
    fingerprint: str
    rule: str
    severity: Severity
    status: Status
    model_id: str
    model_version: str
    labels: Mapping[str, str]
    value: float | None
    threshold: float | None
    """None where nothing is compared: no data, a query that names none."""
    started_at: int
    fired_at: int
    resolved_at: int | None
    summary: str
    causes: tuple[Mapping[str, Any], ...]
    related: Mapping[str, Any]

    def to_json(self) -> bytes:
        """One JSON object without a line end; equal alerts give equal bytes."""
        return orjson.dumps(
            {
                "alert_id": self.alert_id,
                "fingerprint": self.fingerprint,
                "rule": self.rule,
                "severity": self.severity,
                "status": self.status,
                "model_id": self.model_id,
                "model_version": self.model_version,
                "labels": _sorted_json(dict(self.labels)),
                # 1 == 1.0 in Python, but not on the wire.
                "value": None if self.value is None else float(self.value),
                "threshold": None if self.threshold is None else float(self.threshold),
                "started_at": self.started_at,
                "fired_at": self.fired_at,
                "resolved_at": self.resolved_at,
                "summary": self.summary,
                "causes": _sorted_json([dict(cause) for cause in self.causes]),
                "related": _sorted_json(dict(self.related)),
            }
        )

    @classmethod
    def from_json(cls, data: bytes | str) -> Alert:
        """Read what `to_json` wrote; unknown fields are ignored, so that an old reader takes a new writer's.

        Raises InputError where a field is missing or mistyped, or where there is something in it that could not be
        written again.
        """
        if len(data) > MOST_BYTES:
            raise InputError(f"not an alert: expected at most {MOST_BYTES} bytes, got {len(data)}")
        try:
            alert = _DECODER.decode(data)
            for at in (alert.started_at, alert.fired_at, alert.resolved_at or 0):
                if not 0 <= at <= LATEST_MS:
                    raise InputError(f"not an alert: expected milliseconds since the epoch, got {at}")
            # Deep nesting and numbers beyond 64 bits: what takes the alert in must be able to keep it, and pass it on.
            alert.to_json()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InputError(f"not an alert: {error}") from error
        return alert

    def is_at_least(self, severity: Severity) -> bool:
        """Whether this alert is as urgent as `severity`, or more."""
        return SEVERITIES.index(self.severity) <= SEVERITIES.index(severity)


_DECODER: Final = msgspec.json.Decoder(Alert)


def fingerprint_of(rule: str, model_id: str, model_version: str, labels: Mapping[str, str]) -> str:
    """16 hex digits for a condition on a model: the same in every run and every worker."""
    return _hex_hash([rule, model_id, model_version, sorted(labels.items())])


def alert_id_of(fingerprint: str, started_at: int) -> str:
    """16 hex digits for one incident: the same from firing to resolved, others the next time it starts."""
    return _hex_hash([fingerprint, started_at])


def printable(text: str, limit: int = 200) -> str:
    """`text` as one line, safe on a terminal and in a log: ids come from events, so they may hold anything.

    Control characters, escape sequences and direction overrides become a replacement mark; what exceeds
    `limit` characters is cut.
    """
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _hex_hash(parts: list[Any]) -> str:
    # JSON keeps the parts apart: ("ab", "c") and ("a", "bc") must not meet.
    return hashlib.blake2b(orjson.dumps(parts), digest_size=_ID_BYTES).hexdigest()


def _sorted_json(value: Any) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
