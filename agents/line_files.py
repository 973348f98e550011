"""Files of lines: plain, gzip (`.gz`) or Zstandard (`.zst`), or `-` for the standard streams.

Everything streams: memory holds one block of lines, however long the file is.
"""

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from tables.errors import InputError, RunError

#: A longer line is cut to one byte more than this, which is how its reader can tell.
MAX_LINE_BYTES = 16 * 2**20

_BLOCK_BYTES = 256 * 2**10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> int: ...


def name_of(path: str) -> str:
    """Return how messages call `path`."""
    return "standard input" if path == "-" else path


def require_readable(path: str) -> None:
    """Raise InputError if `path` is missing, a directory, or not ours to read; nothing is opened.

    A named pipe must not be opened twice, so this asks the file system only.
    """
    if path == "-":
        return
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a directory, expected a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: permission denied")


def read_blocks(path: str) -> Iterator[list[bytes]]:
    """Yield the lines of `path` in blocks, without their line feeds; a line may be empty.

    Raises InputError where the file cannot be read or its compressed data are damaged or end too early; all
    complete lines before that place have been yielded by then.
    """
    rest = b""
    inside_long_line = False
    first = True
    for chunk in _read_chunks(path):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if inside_long_line:
            if not lines:
                rest = b""
                continue
            del lines[0]
            inside_long_line = False
        if len(rest) > MAX_LINE_BYTES:
            lines.append(rest[: MAX_LINE_BYTES + 1])
            rest = b""
            inside_long_line = True
        if lines:
            if first:
                lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
                first = False
            yield lines
    if rest:
        yield [rest.removeprefix(_BYTE_ORDER_MARK) if first else rest]


def open_sink(path: str, resources: ExitStack) -> Sink:
    """Open `path` for writing, replacing what is there; `resources` closes it.

    The same lines always give the same file: no time and no name goes into a gzip header.
    Raises RunError if it cannot be opened.
    """
    if path == "-":
        resources.callback(sys.stdout.buffer.flush)
        return sys.stdout.buffer
    try:
        file = resources.enter_context(open(path, "wb"))  # noqa: SIM115 - the caller's stack closes it
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    if path.endswith(".gz"):
        return resources.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0))
    if path.endswith(".zst"):
        return resources.enter_context(zstandard.ZstdCompressor().stream_writer(file, closefd=False))
    return file


def _read_chunks(path: str) -> Iterator[bytes]:
    require_readable(path)
    try:
        if path == "-":
            yield from _read_stream(sys.stdin.buffer)
            return
        with open(path, "rb") as file:
            if path.endswith(".gz"):
                yield from _read_gzip(file)
            elif path.endswith(".zst"):
                yield from _read_zstd(file)
            else:
                yield from _read_plain(file)
    except EOFError as error:
        raise InputError(f"{path}: the compressed data end too early, as if cut off") from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{path}: the compressed data are damaged: {error}") from error
    except OSError as error:
        raise InputError(f"{name_of(path)}: cannot be read: {error.strerror or error}") from error


def _read_stream(file: BinaryIO) -> Iterator[bytes]:
    """What has no name tells by its first bytes whether it is compressed."""
    assert isinstance(file, io.BufferedReader)
    begin = file.peek(4)
    if begin.startswith(_GZIP):
        yield from _read_gzip(file)
    elif begin.startswith(_ZSTD):
        yield from _read_zstd(file)
    else:
        yield from _read_plain(file)


def _read_plain(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    # read1, not read: what a pipe has sent so far is worth having now.
    read = file.read1  # type: ignore[union-attr]
    while chunk := read(_BLOCK_BYTES):
        yield chunk


def _read_gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        yield from _read_plain(unpacked)


def _read_zstd(file: BinaryIO) -> Iterator[bytes]:
    # zstandard's own stream_reader takes a file that was cut off for one that has ended.
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    started = False
    while packed := file.read(32 * 2**10):
        while packed:
            started = True
            if unpacked := frame.decompress(packed):
                yield unpacked
            packed = b""
            if frame.eof:
                packed = frame.unused_data
                frame = decompressor.decompressobj()
                started = False
    if started:
        raise EOFError
