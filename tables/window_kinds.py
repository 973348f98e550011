"""What is merged over the partitions beside the features: impressions and clicks, and how models are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from tables.serving import PackedCounts, ServingCounts
from tables.window_merge import Kind


class CtrCounts(NamedTuple):
    """Distinct pairs shown, and those of them that were clicked."""

    impressions: int
    clicks: int

    @property
    def ctr(self) -> float | None:
        """Clicked over shown pairs; None where nothing was shown."""
        return self.clicks / self.impressions if self.impressions else None


def _ctr_total(values: Iterable[CtrCounts]) -> CtrCounts:
    shown, clicked = zip(*values, strict=True)
    return CtrCounts(sum(shown), sum(clicked))


def _serving_total(values: Iterable[PackedCounts]) -> PackedCounts:
    found = list(values)
    return found[0] if len(found) == 1 else ServingCounts.restore(found).pack()


CTR: Kind[CtrCounts] = Kind("ctr", total=_ctr_total, pack=tuple, unpack=lambda packed: CtrCounts(*packed))

SERVING: Kind[PackedCounts] = Kind(
    "serving",
    total=_serving_total,
    pack=lambda counts: counts,
    unpack=lambda packed: msgspec.convert(packed, PackedCounts),
)
