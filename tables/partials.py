"""What a join partition tells the windows agent: cumulative counts, which replace the ones before and never add."""

from __future__ import annotations

import msgspec


class PartialRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that one partition knows about one window of one model."""

    model_id: str
    model_version: str
    window_start: int
    impressions: int
    clicks: int


class Partial(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The windows of one partition that changed, and how far its event time has come."""

    source: int
    """The partition that speaks."""
    of: int
    """How many partitions there are; before all have spoken nothing is final."""
    epoch: int
    """The speaker's claim; an older one is a zombie's."""
    number: int
    """Of the checkpoint that this follows from."""
    watermark: int
    rows: list[PartialRow]
    part: int = 0
    """Place among the messages that follow from the checkpoint: they may all be sent again, and by two at a time."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Partial)


def encode_partial(partial: Partial) -> bytes:
    """A partial as msgpack."""
    return _encoder.encode(partial)


def decode_partial(data: bytes) -> Partial:
    """The reverse; raises msgspec.MsgspecError for anything else."""
    return _decoder.decode(data)
