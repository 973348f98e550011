"""Small numbers for (model_id, model_version), so that a row needs 16 bits for both."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from tables.errors import ConfigError

Model = tuple[str, str]


class ModelIndex:
    """A bounded dictionary; a number is given again once no live row uses it."""

    __slots__ = ("_free", "_limit", "_numbers", "_ranks", "names")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.names: list[Model | None] = []
        self._numbers: dict[Model, int] = {}
        self._free: list[int] = []
        self._ranks: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, model: Model) -> int:
        """The number of `model`, given now if it is new; -1 where the dictionary is full."""
        known = self._numbers.get(model)
        if known is not None:
            return known
        if len(self._numbers) >= self._limit:
            return -1
        self._ranks = None
        if self._free:
            number = self._free.pop()
            self.names[number] = model
        else:
            number = len(self.names)
            self.names.append(model)
        self._numbers[model] = number
        return number

    def name(self, number: int) -> Model:
        """The model behind a number that is in use."""
        model = self.names[number]
        if model is None:
            raise LookupError(f"model number {number} is not in use")
        return model

    def keep_only(self, used: Collection[int]) -> None:
        """Free every number that no live row uses."""
        for number, model in enumerate(self.names):
            if model is not None and number not in used:
                del self._numbers[model]
                self.names[number] = None
                self._free.append(number)
                self._ranks = None

    def ranks(self) -> NDArray[np.int64]:
        """Rank of each number in the order of (model_id, model_version), by code points; shape (len(names),)."""
        if self._ranks is None:
            order = sorted(self._numbers.values(), key=self.name)
            ranks = np.full(len(self.names), -1, np.int64)
            ranks[order] = np.arange(len(order))
            self._ranks = ranks
        return self._ranks

    def state(self) -> list[Model | None]:
        """What a checkpoint keeps."""
        return list(self.names)

    def restore(self, names: list[Model | None]) -> None:
        """Continue from `state`; raises ConfigError where it needs more numbers than are allowed now."""
        if len(names) > self._limit:
            raise ConfigError(f"join.max_models: expected at least {len(names)}, which the checkpoint holds")
        self.names = [None if name is None else (name[0], name[1]) for name in names]
        self._numbers = {name: number for number, name in enumerate(self.names) if name is not None}
        self._free = [number for number, name in enumerate(self.names) if name is None]
        self._ranks = None
