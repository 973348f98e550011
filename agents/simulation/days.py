"""One run of a scenario after the other, without a pause between them."""

from collections.abc import Iterator
from itertools import count

from agents.recordings import Line
from agents.simulation.scenarios import Scenario
from agents.simulation.shop import Shop


def endless_slices(
    scenario: Scenario, rate: float, seed: int, minutes: float, *, slice_ms: int = 1000, partitions: int = 4
) -> Iterator[tuple[int, list[Line]]]:
    """Yield (end in ms, the records that arrive) of each slice of event time, run after run, for ever.

    The next run, with the next seed, shows its first item when the one before has shown its last, while the clicks on
    that are still arriving: a shop never closes. `minutes` must be whole slices. Offsets are those of each run.
    Raises ConfigError as Shop does.
    """
    start_ms: int | None = None
    end_ms = 0
    runs: list[Iterator[list[Line]]] = []
    for run in count():
        shop = Shop(scenario, rate, seed + run, minutes, start_ms, partitions=partitions)
        end_ms = end_ms or shop.start_ms
        start_ms = shop.end_ms
        runs.append(shop.slices(slice_ms))
        while end_ms < start_ms:
            arrived = [(each, next(each, None)) for each in runs]
            runs = [each for each, lines in arrived if lines is not None]
            end_ms += slice_ms
            yield end_ms, sorted((line for _, lines in arrived for line in lines or ()), key=_arrival)


def _arrival(line: Line) -> int:
    return line.timestamp or 0
