"""References as files."""

from __future__ import annotations

from contextlib import ExitStack

from agents.line_files import name_of, open_sink, read_blocks
from tables.errors import ConfigError, RunError
from tables.reference import Reference


def read_reference(path: str) -> Reference:
    """A reference that `write_reference` has written, compressed or not.

    :raises InputError: the file cannot be read.
    :raises ConfigError: what is in it is no reference, with file and place.
    """
    data = b"\n".join(line for block in read_blocks(path) for line in block)
    try:
        return Reference.from_json(data)
    except ConfigError as error:
        raise ConfigError(f"{name_of(path)}: {error}") from None


def write_reference(path: str, reference: Reference) -> None:
    """Replace the file by this reference; `-` is standard output. Raises RunError."""
    try:
        with ExitStack() as resources:
            open_sink(path, resources).write(reference.to_json())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
