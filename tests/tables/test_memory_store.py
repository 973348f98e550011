"""The store inside the process keeps every promise that can be put to the test without breaking Redis."""

from __future__ import annotations

import inspect

import pytest

from tables.checkpoint import CheckpointStore
from tables.memory_store import MemoryStore
from tests.tables import test_checkpoint

PROMISES = {
    name: test
    for name, test in vars(test_checkpoint).items()
    if name.startswith("test_") and "redis" not in inspect.signature(test).parameters
}
globals().update(PROMISES)


@pytest.fixture
def store() -> CheckpointStore:
    return MemoryStore()


@pytest.fixture
def other_worker(store: CheckpointStore) -> CheckpointStore:
    """Another worker of the same process."""
    return store


def test_the_promises_are_tested() -> None:
    assert len(PROMISES) >= 15
