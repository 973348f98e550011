"""How often the features of each model fell into which bin, by minute, on one input partition.

The count vectors of all features of a reference lie end to end in one vector, in the order of its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tables.models import Model

PACKED = np.dtype("<u4")
"""A partition counts less than four billion records a minute."""


class FeatureCounts(NamedTuple):
    """Records per bin."""

    bins: str
    """Which bins: `Reference.bins_id`."""
    counts: NDArray[np.int64]
    """Shape (sum of the features' widths,)."""


def pack_counts(counts: NDArray[np.int64]) -> bytes:
    """A count vector as 4 bytes a bin."""
    return np.minimum(counts, np.iinfo(PACKED).max).astype(PACKED).tobytes()


def unpack_counts(data: bytes) -> NDArray[np.int64]:
    """The reverse; raises ValueError for a length that is none."""
    return np.frombuffer(data, PACKED).astype(np.int64)


class FeatureTable:
    """Open minutes of one partition. Memory: 8 bytes a bin, for each open minute and model that has a reference."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[Model, FeatureCounts]] = {}
        self._untold: set[tuple[int, Model]] = set()
        self._unsaved: set[int] = set()
        self._gone: set[int] = set()

    def add(self, start: int, model: Model, found: FeatureCounts) -> None:
        """Count records of one minute; what was counted in other bins is forgotten."""
        minute = self._minutes.setdefault(start, {})
        known = minute.get(model)
        if known is not None and known.bins == found.bins:
            found = FeatureCounts(found.bins, known.counts + found.counts)
        minute[model] = found
        self._untold.add((start, model))
        self._unsaved.add(start)

    def take_untold(self) -> list[tuple[int, Model, FeatureCounts]]:
        """The minutes that changed since the last call, with all that was ever counted in them."""
        untold, self._untold = sorted(self._untold), set()
        return [(start, model, self._minutes[start][model]) for start, model in untold]

    def forget_before(self, first_open: int) -> None:
        """Forget the minutes before it; they must have been told."""
        for start in [start for start in self._minutes if start < first_open]:
            del self._minutes[start]
            self._unsaved.discard(start)
            self._gone.add(start)
        self._untold = {key for key in self._untold if key[0] >= first_open}

    def take_changes(self) -> tuple[dict[str, bytes], set[str]]:
        """Chunks to append and to drop in a checkpoint; a minute that changed is in both, to be replaced as a whole."""
        append = {_chunk(start): _pack(self._minutes[start]) for start in self._unsaved}
        drop = {*append, *map(_chunk, self._gone)}
        self._unsaved, self._gone = set(), set()
        return append, drop

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; other chunks may be among them. Raises ValueError for damage."""
        for name, data in chunks.items():
            if is_feature_chunk(name):
                self._minutes[int(name[1:])] = dict(_unpack(data))
        self._untold = {(start, model) for start, minute in self._minutes.items() for model in minute}


def is_feature_chunk(name: str) -> bool:
    """Whether a chunk of a checkpoint is one of a feature table."""
    return name.startswith("f")


def _chunk(start: int) -> str:
    return f"f{start}"


def _pack(minute: Mapping[Model, FeatureCounts]) -> bytes:
    rows = [(*model, found.bins, pack_counts(found.counts)) for model, found in minute.items()]
    return msgspec.msgpack.encode(rows)


def _unpack(data: bytes) -> Iterable[tuple[Model, FeatureCounts]]:
    for model_id, version, bins, counts in msgspec.msgpack.decode(data):
        yield (model_id, version), FeatureCounts(bins, unpack_counts(counts))
