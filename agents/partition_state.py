"""What an agent keeps for one partition, and how it is handed to a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import msgspec

from agents.transports.batch import Batch


class Outgoing(NamedTuple):
    """A record to be produced."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one checkpoint of one partition consists of."""

    state: Mapping[str, Any]
    """The small part of the state, msgpack-able."""
    rebuild: Mapping[str, int]
    """Topic -> offset from which reading again rebuilds the state without the store."""
    rebuild_state: Mapping[str, Any]
    """What cannot be rebuilt by reading again (small: it is kept in Kafka's commit metadata)."""
    append: Mapping[str, bytes] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    before: tuple[Outgoing, ...] = ()
    """Must be out before the checkpoint is written; repeated after a crash in between."""
    after: tuple[Outgoing, ...] = ()
    """Goes out after the checkpoint, which keeps it for the case of a crash in between."""


class PartitionState(ABC):
    """One partition's state. Plain and synchronous; whoever owns it calls one method at a time."""

    @abstractmethod
    def apply(self, batch: Batch, skip_before: Mapping[str, int]) -> None:
        """Take a batch in. Records before `skip_before[topic]` were counted once and are read again to rebuild."""

    @abstractmethod
    def changes(self, epoch: int, number: int) -> Changes | None:
        """All changes since the last call, as checkpoint `number` of claim `epoch`; None if there are none."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any], chunks: Mapping[str, bytes]) -> None:
        """Continue from a checkpoint; raises ValueError or KeyError where it does not fit this version."""

    @abstractmethod
    def restore_time(self, rebuild_state: Mapping[str, Any]) -> None:
        """Continue from `Changes.rebuild_state`, before the events are read again.

        Until `rebuilt` time stands still: the topics are read again each at its own pace, and what one of them says
        of the time must not close windows for which the other has not been read.
        """

    def inherit(self, former: Self) -> bool:
        """Before the events are read again: take over what the state of the same partition in this very process knew
        when the store was found to have lost it. False: there is nothing that reading again does not give back."""
        return False

    @abstractmethod
    def rebuilt(self) -> None:
        """All that had been counted once has been read again: time goes on."""


class Head(msgspec.Struct, array_like=True):
    """The head of a checkpoint, as it lies in the store."""

    version: int
    positions: dict[str, int]
    """Topic -> offset to go on reading at."""
    rebuild: dict[str, int]
    rebuild_state: dict[str, Any]
    state: dict[str, Any]
    after: list[Outgoing]


class Note(msgspec.Struct, omit_defaults=True):
    """What the commit metadata in Kafka says of a partition: enough to rebuild it without the store."""

    number: int
    rebuild: dict[str, int]
    state: dict[str, Any]
    epoch: int = 0
    """Of the claim; a later one must be greater, even if the store has forgotten it and the clock goes wrong."""


HEAD_VERSION = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode
_note = msgspec.json.Decoder(Note)


def encode_head(positions: Mapping[str, int], changes: Changes) -> bytes:
    """The head of a checkpoint as msgpack."""
    return _encode(
        Head(
            HEAD_VERSION,
            dict(positions),
            dict(changes.rebuild),
            dict(changes.rebuild_state),
            dict(changes.state),
            list(changes.after),
        )
    )


def decode_head(data: bytes) -> Head:
    """The reverse; raises ValueError for another version or damage."""
    head = _decode(data)
    if head.version != HEAD_VERSION:
        raise ValueError(f"expected a checkpoint of version {HEAD_VERSION}, got {head.version}")
    return head


def encode_note(epoch: int, number: int, changes: Changes) -> str:
    """Commit metadata; Kafka takes 4 KiB by default, this stays below 400 bytes."""
    return msgspec.json.encode(Note(number, dict(changes.rebuild), dict(changes.rebuild_state), epoch)).decode()


def newest_note(texts: Iterable[str]) -> Note | None:
    """The note of the latest checkpoint; None where there is none."""
    notes = [note for text in texts if (note := decode_note(text))]
    return max(notes, key=lambda note: (note.epoch, note.number), default=None)


def decode_note(text: str) -> Note | None:
    """The reverse; None for metadata that something else wrote."""
    try:
        return _note.decode(text)
    except msgspec.MsgspecError:
        return None
