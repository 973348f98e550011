"""References: what the features of a model looked like when it was known to be well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from tables.errors import ConfigError
from tables.feature_bins import Bins, CategoryBins, NumericBins

FORMAT = 1
INPUTS = ("impressions", "inferences")
MAX_ROWS = 2**53
"""Up to here a float holds every count exactly."""
_ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """Bins of one feature, and the rows of the reference in them; `counts` has bins.width places.

    Raises ConfigError for counts that are negative or too few or too many.
    """

    name: str
    bins: Bins
    counts: tuple[int, ...]
    topics: tuple[str, ...] = ()
    """The inputs whose records carry it, of INPUTS: a record of another one does not lack it. Empty: both."""

    def __post_init__(self) -> None:
        if not set(self.topics) <= set(INPUTS):
            raise ConfigError(f"topics: expected some of {', '.join(INPUTS)}, got {', '.join(self.topics)}")
        if len(self.counts) != self.bins.width:
            raise ConfigError(f"counts: expected {self.bins.width} with unseen and missing, got {len(self.counts)}")
        if min(self.counts) < 0 or self.n > MAX_ROWS:
            raise ConfigError(f"counts: expected 0 or more, and at most 2**53 in all, got {list(self.counts)}")

    @property
    def n(self) -> int:
        """Rows of the reference."""
        return sum(self.counts)

    def is_of(self, topic: str) -> bool:
        """Whether records of this input, of INPUTS, carry it."""
        return not self.topics or topic in self.topics


@dataclass(frozen=True, slots=True)
class Reference:
    """The features of a model, sorted by name; `model_version` None stands for every version.

    Raises ConfigError for a feature that is there twice.
    """

    model_id: str
    model_version: str | None
    features: tuple[FeatureReference, ...]
    created_at_ms: int
    source: str
    """Where the rows came from, for people."""
    id: str = field(init=False, compare=False)
    """Hash of bins, counts, model and version, 12 hex digits: equal for the same data whenever it was built."""
    bins_id: str = field(init=False, compare=False)
    """Hash of the features and their bins: equal for references whose counts can be added up."""

    def __post_init__(self) -> None:
        features = tuple(sorted(self.features, key=lambda feature: feature.name))
        if len({feature.name for feature in features}) != len(features):
            raise ConfigError("features: expected every name once")
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "id", _digest(self._content()))
        object.__setattr__(self, "bins_id", _digest([(feature.name, _shape(feature)) for feature in features]))

    def __hash__(self) -> int:
        return hash(self.id)

    def to_json(self) -> bytes:
        """A file that people can read; the same bytes for the same reference."""
        head = {"format": FORMAT, "id": self.id, "created_at_ms": self.created_at_ms, "source": self.source}
        content = head | self._content()
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, data: bytes | str) -> Reference:
        """What `to_json` has written; an `id` in it that no longer fits (edited by hand) is made anew.

        Raises ConfigError with the place of the mistake.
        """
        try:
            file = _file.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not a reference: {_told(error)}") from None
        if file.format != FORMAT:
            raise ConfigError(f"format: expected {FORMAT}, got {file.format}; build the reference anew")
        features = tuple(_feature(name, raw) for name, raw in file.features.items())
        return cls(file.model_id, file.model_version, features, file.created_at_ms, file.source)

    def _content(self) -> dict[str, Any]:
        return {
            "model_id": self.model_id,
            "model_version": self.model_version,
            "features": {feature.name: _plain(feature) for feature in self.features},
        }


class ReferenceBook:
    """All references; of two for the same model and version the one that was created later holds (or has the
    greater id)."""

    def __init__(self, references: Iterable[Reference] = ()) -> None:
        self.replace(references)

    def replace(self, references: Iterable[Reference]) -> None:
        """From now on these hold and no others."""
        newest = sorted(references, key=lambda reference: (reference.created_at_ms, reference.id))
        self._found = {(reference.model_id, reference.model_version): reference for reference in newest}
        self.widths = {
            reference.bins_id: sum(feature.bins.width for feature in reference.features)
            for reference in self._found.values()
        }
        """Length of all count vectors of a reference together, by the id of its bins."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """Those that hold, in the order of model and version, the one for every version first."""
        order = sorted(self._found, key=lambda key: (key[0], key[1] is not None, key[1] or ""))
        return tuple(self._found[key] for key in order)

    def find(self, model_id: str, model_version: str | None) -> Reference | None:
        """The reference of exactly this version, else the one for every version."""
        return self._found.get((model_id, model_version)) or self._found.get((model_id, None))


class _File(msgspec.Struct):
    format: int
    model_id: str
    model_version: str | None
    created_at_ms: int
    source: str
    features: dict[str, msgspec.Raw]


class _Numeric(msgspec.Struct, tag_field="kind", tag="numeric"):
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    unseen: int
    missing: int
    topics: tuple[str, ...] = ()

    def feature(self, name: str) -> FeatureReference:
        counts = (*self.counts, self.unseen, self.missing)
        return FeatureReference(name, NumericBins(self.edges), counts, self.topics)


class _Category(msgspec.Struct, tag_field="kind", tag="category"):
    categories: tuple[str, ...]
    other: tuple[str, ...]
    counts: tuple[int, ...]
    unseen: int
    missing: int
    topics: tuple[str, ...] = ()

    def feature(self, name: str) -> FeatureReference:
        counts = (*self.counts, self.unseen, self.missing)
        return FeatureReference(name, CategoryBins(self.categories, self.other), counts, self.topics)


_file = msgspec.json.Decoder(_File)
_feature_of_kind: msgspec.json.Decoder[_Numeric | _Category] = msgspec.json.Decoder(_Numeric | _Category)


def _feature(name: str, raw: msgspec.Raw) -> FeatureReference:
    try:
        return _feature_of_kind.decode(raw).feature(name)
    except msgspec.DecodeError as error:
        raise ConfigError(f"features.{name}: {_told(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"features.{name}.{error}") from None


def _told(error: Exception) -> str:
    """What msgspec found wrong, with `a.b[3]` for its `$.a.b[3]`."""
    return str(error).replace("`$.", "`").replace("`$`", "the file")


def _plain(feature: FeatureReference) -> dict[str, Any]:
    *counts, unseen, missing = feature.counts
    return _shape(feature) | {"counts": counts, "unseen": unseen, "missing": missing}


def _shape(feature: FeatureReference) -> dict[str, Any]:
    topics = {"topics": feature.topics} if feature.topics else {}
    bins = feature.bins
    if isinstance(bins, NumericBins):
        return {"kind": "numeric", "edges": bins.edges} | topics
    return {"kind": "category", "categories": bins.categories, "other": bins.other} | topics


def _digest(content: object) -> str:
    return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=_ID_BYTES).hexdigest()
