"""What people ask of the desk, as records of the topic `tidemark.commands`.

A command goes to every partition, since nobody else knows which of them holds an incident; all but one find nothing to
do. Being records, commands are as durable as the alerts, and in one order with them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from tables.errors import InputError

#: More than any comment of ours has; what is longer was not made by us.
MOST_BYTES: Final = 16_384


class Acknowledge(msgspec.Struct, tag="acknowledge", frozen=True):
    """Somebody looks after an incident."""

    alert_id: str
    by: str
    comment: str = ""


class PutSilence(msgspec.Struct, tag="put_silence", frozen=True):
    """A silence begins, or takes the place of the one with its id."""

    silence: dict[str, Any]
    """As `Silence.to_json` gives it."""


class EndSilence(msgspec.Struct, tag="end_silence", frozen=True):
    """A silence ends now."""

    silence_id: str
    by: str = ""


Command: TypeAlias = Acknowledge | PutSilence | EndSilence

_encode = msgspec.json.Encoder().encode
_decode: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def encode_command(command: Command) -> bytes:
    """One JSON object, `type` says which."""
    return _encode(command)


def decode_command(data: bytes) -> Command:
    """The reverse. Raises InputError for anything else."""
    if len(data) > MOST_BYTES:
        raise InputError(f"not a command: {len(data)} bytes")
    try:
        return _decode.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a command: {error}") from error
