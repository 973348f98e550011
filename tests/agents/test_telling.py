"""Which messages go to which partition of the partials topic, and when each of them hears of time."""

from __future__ import annotations

from agents.telling import BYTES_A_MESSAGE, HEARTBEAT_MS, Speaker, Telling, Words, target_of
from tables.partials import JOIN, FeatureRow, Partial, PartialRow, decode_partial
from tables.watermark import UNKNOWN

SPEAKER = Speaker(epoch=7, number=3, sources=4, targets=2)
MODELS = {target: next(f"m{n}" for n in range(99) if target_of(f"m{n}", 2) == target) for target in (0, 1)}


def row(target: int, start: int = 0, impressions: int = 5) -> PartialRow:
    return PartialRow(MODELS[target], "", start, impressions, 0)


class Speaking(Telling):
    """A partition, and what its messages say."""

    def __init__(self) -> None:
        super().__init__(3, JOIN, "partials")

    def say(self, *words: Words, clock: int = 0) -> list[tuple[int | None, Partial]]:
        messages = self.messages(words, SPEAKER, clock)
        said = [(message.partition, decode_partial(message.value or b"")) for message in messages]
        assert [partial.part for _, partial in said] == list(range(len(said)))
        return said


def heard(said: list[tuple[int | None, Partial]]) -> list[tuple[int | None, int, int]]:
    """(target, watermark, rows)."""
    return [(target, partial.watermark, len(partial.rows)) for target, partial in said]


def test_a_moment_without_rows_for_a_target_waits_for_the_last_one() -> None:
    speaking = Speaking()
    speaking.say(Words(5, []))
    said = speaking.say(Words(10, [row(0)]), Words(20, [row(1)]), Words(30, []))
    assert heard(said) == [(0, 10, 1), (1, 20, 1), (0, 30, 0), (1, 30, 0)]


def test_a_minute_that_has_passed_is_told_before_what_was_counted_after_it() -> None:
    speaking = Speaking()
    speaking.say(Words(59_000, []))
    said = speaking.say(Words(60_500, [row(0)]), Words(61_000, [row(1)]))
    assert heard(said) == [(0, 60_500, 1), (0, 61_000, 0), (1, 60_500, 0), (1, 61_000, 1)]


def test_who_has_heard_of_the_time_already_is_not_told_again() -> None:
    speaking = Speaking()
    assert heard(speaking.say(Words(10, [row(0)]))) == [(0, 10, 1), (1, 10, 0)]
    assert heard(speaking.say(Words(10, [row(0)]))) == [(0, 10, 1)]
    assert heard(speaking.say(Words(20, [row(1)]), Words(20, []))) == [(1, 20, 1), (0, 20, 0)]
    assert speaking.say(Words(20, [])) == []


def test_the_watermark_is_repeated_to_all_when_nothing_was_said_for_long() -> None:
    speaking = Speaking()
    assert heard(speaking.say(Words(UNKNOWN, []))) == [(0, UNKNOWN, 0), (1, UNKNOWN, 0)]
    assert speaking.say(Words(UNKNOWN, []), clock=HEARTBEAT_MS - 1) == []
    assert len(speaking.say(Words(UNKNOWN, []), clock=HEARTBEAT_MS)) == 2


def test_only_the_last_of_several_messages_moves_time_on() -> None:
    speaking = Speaking()
    speaking.say(Words(10, []))
    large = [FeatureRow(MODELS[0], str(n), 0, "bins", bytes(BYTES_A_MESSAGE // 3)) for n in range(7)]
    said = [(target, partial.watermark, len(partial.features)) for target, partial in speaking.say(Words(20, large))]
    assert said == [(0, 10, 2), (0, 10, 2), (0, 10, 2), (0, 20, 1), (1, 20, 0)]
