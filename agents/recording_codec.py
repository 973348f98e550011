"""One line of a recording: a record of a topic as JSON, and back.

    {"topic":"clicks","partition":2,"offset":17,"timestamp":1777629600000,"key":"u1","value":{...}}

A value that is JSON is embedded as it is; any other, and JSON that would not survive the trip byte by byte,
is written as `value_base64`. The same goes for a key that is not UTF-8. `"value": null` is a tombstone (a
record without a value).
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

#: The offset of a decoded line that names none.
MISSING_OFFSET = -1

# Deeper JSON is legal, but readers that recurse (msgspec among them) refuse it somewhere.
_MAX_NESTING = 128


# Structs, not dataclasses: one is made for every record read, and costs a tenth.
class Line(msgspec.Struct, frozen=True, gc=False):
    """One record of a topic; `timestamp` is Kafka's (milliseconds), None where there is none."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None


class _WrittenRow(msgspec.Struct):
    """A line as the encoder sees it; UNSET fields are left out, bytes become base64."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    key_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    value: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    value_base64: bytes | msgspec.UnsetType = msgspec.UNSET


class _ReadRow(msgspec.Struct, gc=False):
    topic: Annotated[str, msgspec.Meta(min_length=1)]
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    timestamp: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    key: str | None = None
    key_base64: bytes | None = None
    value: msgspec.Raw = msgspec.Raw()
    value_base64: bytes | None = None


_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_decode_row = msgspec.json.Decoder(_ReadRow).decode
_encode_rows = msgspec.json.Encoder().encode_lines


def encode_lines(lines: Iterable[Line]) -> bytes:
    """Return the lines as text, a line feed after each; every one decodes to what it was, byte by byte."""
    return _encode_rows([_row_of(line) for line in lines])


def decode_line(text: bytes) -> Line:
    """Read one line back; a missing partition is 0, a missing offset MISSING_OFFSET.

    Raises ValueError, saying what is wrong, where `text` is no record.
    """
    try:
        row = _decode_row(text)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    value = row.value_base64
    if value is None:
        embedded = bytes(row.value)
        if not embedded:
            raise ValueError("neither `value` nor `value_base64`")
        value = None if embedded == b"null" else embedded
    timestamp = row.timestamp
    return Line(
        row.topic,
        row.partition or 0,
        MISSING_OFFSET if row.offset is None else row.offset,
        # Kafka says -1 where a record has none.
        None if timestamp is None or timestamp < 0 else timestamp,
        row.key_base64 if row.key is None else row.key.encode(),
        value,
    )


def _row_of(line: Line) -> _WrittenRow:
    row = _WrittenRow(line.topic, line.partition, line.offset, line.timestamp)
    if line.key is None:
        row.key = None
    else:
        try:
            row.key = line.key.decode()
        except UnicodeDecodeError:
            row.key_base64 = line.key
    if line.value is None:
        row.value = None
    elif _can_embed(line.value):
        row.value = msgspec.Raw(line.value)
    else:
        row.value_base64 = line.value
    return row


def _can_embed(value: bytes) -> bool:
    """Whether `value` inside a line gives a line of valid JSON, from which the same bytes are read back."""
    try:
        _check_json(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return (
        value.strip() == value  # white space around it would be lost in reading
        and b"\n" not in value
        and b"\r" not in value
        and value != b"null"  # would read as a tombstone
        and value.count(b"[") + value.count(b"{") <= _MAX_NESTING
        # The check above skips over strings, whatever their bytes.
        and (value.isascii() or _is_utf8(value))
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
