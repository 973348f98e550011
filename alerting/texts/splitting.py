"""Texts in pieces of so many bytes: what limits a message counts bytes of UTF-8, people read characters."""

from __future__ import annotations

import unicodedata
from typing import Final

ELLIPSIS: Final = "…"
#: What takes a sequence together is looked for over so many characters; beyond, it is no text but an attack.
_LONGEST_SEQUENCE: Final = 16
_JOINER: Final = "\N{ZERO WIDTH JOINER}"
#: Bytes of the longest character.
_LEAST: Final = 4


def split_bytes(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` bytes of UTF-8, which joined are `text`; one at least, empty only where `text` is.

    They end with a line where a line end is within reach, else between two characters, such that accents and emoji
    of several characters stay whole. Raises ValueError for a limit below 4, the longest character.
    """
    _check(limit)
    data = text.encode()
    pieces, start = [], 0
    while len(data) - start > limit:
        line_end = data.rfind(b"\n", start, start + limit) + 1
        end = line_end if line_end > start else _boundary(data, start, start + limit)
        pieces.append(data[start:end].decode())
        start = end
    return [*pieces, data[start:].decode()]


def cut_bytes(text: str, limit: int) -> str:
    """`text` if it has at most `limit` bytes of UTF-8, else as much of its beginning as fits before an ellipsis.

    Raises ValueError for a limit below 4.
    """
    _check(limit)
    data = text.encode()
    if len(data) <= limit:
        return text
    return data[: _boundary(data, 0, limit - len(ELLIPSIS.encode()))].decode() + ELLIPSIS


def _check(limit: int) -> None:
    if limit < _LEAST:
        raise ValueError(f"expected a limit of at least {_LEAST} bytes, got {limit}")


def _boundary(data: bytes, start: int, end: int) -> int:
    """The last place up to `end` < len(data) between two characters, after `start` unless none fits."""
    while data[end] & 0xC0 == 0x80:
        end -= 1
    whole, first = end, data[start:end].decode()[-_LONGEST_SEQUENCE:]
    after = data[end : end + _LEAST].decode(errors="ignore")[:1]
    for char in reversed(first):
        if not _goes_on(char, after):
            return end
        end -= len(char.encode())
        after = char
    # All of it is one sequence: cut where it has to be.
    return whole


def _goes_on(before: str, char: str) -> bool:
    return (
        _JOINER in (before, char)
        or unicodedata.category(char) in ("Mn", "Me", "Mc")
        or "\N{EMOJI MODIFIER FITZPATRICK TYPE-1-2}" <= char <= "\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
    )
