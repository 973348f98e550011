"""What an input partition tells the windows agent: cumulative counts, which replace the ones before and never add."""

from __future__ import annotations

import msgspec

from tables.serving import PackedCounts

JOIN, INFERENCES = 0, 1
"""Groups of partitions that speak: those of impressions and clicks, and those of the inferences."""


class PartialRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one partition knows about one window of one model."""

    model_id: str
    model_version: str
    window_start: int
    impressions: int
    clicks: int


class ServingRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one partition knows about the requests to one model in one window."""

    model_id: str
    model_version: str
    window_start: int
    counts: PackedCounts


class FeatureRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one partition knows about the features of one model in one window."""

    model_id: str
    model_version: str
    window_start: int
    bins: str
    """Which they were counted in: `Reference.bins_id`."""
    counts: bytes
    """Packed as `tables.feature_counts` does it."""


class Partial(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The windows of one partition that changed, and how far its event time has come."""

    source: int
    """The partition that speaks."""
    of: int
    """How many partitions its group has; before all have spoken nothing is final."""
    epoch: int
    """The speaker's claim; an older one is a zombie's."""
    number: int
    """Of the checkpoint that this follows from."""
    watermark: int
    rows: list[PartialRow] = []
    part: int = 0
    """Place among the messages that follow from the checkpoint: they may all be sent again, and by two at a time."""
    group: int = JOIN
    idle: bool = False
    """Whether the partition is silent, and so holds nobody else back."""
    serving: list[ServingRow] = []
    features: list[FeatureRow] = []
    idle_for_ms: int = 0
    """For how long nothing has come in on the partition, by the clock of a live broker; 0 while it is not idle."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Partial)


def encode_partial(partial: Partial) -> bytes:
    """A partial as msgpack."""
    return _encoder.encode(partial)


def decode_partial(data: bytes) -> Partial:
    """The reverse; raises msgspec.MsgspecError for anything else."""
    return _decoder.decode(data)
