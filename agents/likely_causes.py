"""The features of a model that had shifted when something fired: its likely causes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from alerting.alert import printable
from alerting.rules.reading import Judged
from tables.drift_windows import Shift
from tables.join_policy import WINDOW_MS
from tables.models import Model

MOST_CAUSES: Final = 3
CAUSES_FOR_MS: Final = 5 * WINDOW_MS
"""A shift that was seen so long ago still explains what fires now."""


class LikelyCauses:
    """What is known of the shifts of each model in the last minutes."""

    def __init__(self) -> None:
        self._known: dict[Model, list[tuple[int, dict[str, Any]]]] = {}

    def note(self, model: Model, window_end: int, shifts: Iterable[Shift]) -> None:
        """What has shifted up to the end of a window; windows of a model come in order."""
        known = [each for each in self._known.get(model, []) if window_end - each[0] < CAUSES_FOR_MS]
        known += [(window_end, _cause(shift)) for shift in shifts]
        if known:
            self._known[model] = known
        else:
            self._known.pop(model, None)

    def of(self, reading: Judged) -> tuple[Mapping[str, Any], ...]:
        """The features that had shifted most, as it was known for the window's end or shortly before."""
        if reading.kind == "drift":
            return ()
        known = self._known.get((reading.model_id, reading.model_version), [])
        ends = [end for end, _ in known if 0 <= reading.window_end - end < CAUSES_FOR_MS]
        found = [cause for end, cause in known if ends and end == max(ends)]
        return tuple(sorted(found, key=lambda cause: (-cause["psi"], cause["feature"]))[:MOST_CAUSES])

    def state(self) -> list[Any]:
        """Plain data, msgpack-able."""
        return [(*model, causes) for model, causes in self._known.items()]

    def restore(self, state: Iterable[Any]) -> None:
        """The reverse."""
        self._known = {
            (model_id, version): [(end, dict(cause)) for end, cause in causes] for model_id, version, causes in state
        }


def _cause(shift: Shift) -> dict[str, Any]:
    """E.g. `new_user true 20 % -> 50 %, PSI 0.40 (severe)`."""
    psi = shift.psi
    what = f"{printable(shift.feature, 60)} {printable(shift.bin, 60)}"
    shares = f"{shift.reference_share * 100:.0f} % -> {shift.share * 100:.0f} %"
    return {
        "kind": "drift",
        "text": f"{what} {shares}, PSI {psi.value:.2f} ({psi.level})",
        "feature": shift.feature,
        "bin": shift.bin,
        "reference_share": round(shift.reference_share, 4),
        "share": round(shift.share, 4),
        "psi": round(psi.value, 4),
        "level": psi.level,
        "n": psi.n,
    }
