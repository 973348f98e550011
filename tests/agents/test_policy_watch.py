"""Rules and alerting that follow their files: all of it, or nothing."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from pathlib import Path

import pytest

from agents.config import Config, load_config
from agents.metrics import Metrics
from agents.policy_watch import PolicyWatch
from alerting.sql import query

ONE = "rules:\n  - {name: one, expr: ctr < 5%}\n"
TWO = "rules:\n  - {name: two, expr: ctr < 4%}\n"
OPS = "channels:\n  - {type: terminal, name: ops}\n"

_stamps = itertools.count(1)


def write(file: Path, text: str) -> None:
    """Each time at another time, however coarse the file system's clock is."""
    file.write_text(text)
    at = 1_700_000_000 + next(_stamps)
    os.utime(file, (at, at))


class Watched:
    """A watch, and what it has handed over."""

    def __init__(self, file: Path) -> None:
        self.adopted: list[Config] = []
        self.metrics = Metrics()
        self.watch = PolicyWatch(load_config(file, {}), self.adopted.append, self.metrics)

    async def turn(self) -> list[list[str]]:
        """Names of the rules that were handed over in this turn."""
        before = len(self.adopted)
        await self.watch.turn()
        return [[rule.name for rule in config.rules] for config in self.adopted[before:]]

    @property
    def reloaded(self) -> float:
        return float(self.metrics.policy_reloaded._value.get())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tidemark.yaml"
    write(file, ONE + OPS)
    return file


async def test_a_changed_file_is_handed_over_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = await asyncio.to_thread(Watched, file)
    assert await here.turn() == []
    assert here.reloaded == 1
    write(file, TWO + OPS)
    assert await here.turn() == [["two"]]
    assert await here.turn() == []
    assert [record.message for record in caplog.records] == ["reloaded: 1 rules"]


async def test_a_mistake_is_said_once_and_what_was_valid_goes_on_to_hold(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = await asyncio.to_thread(Watched, file)
    # One rule is good: nothing of it is taken over.
    write(file, "rules:\n  - {name: two, expr: ctr < 4%}\n  - {name: bad, expr: ctr <}\n" + OPS)
    assert await here.turn() == await here.turn() == []
    assert here.reloaded == 0
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.startswith(f"not reloaded, the rules from before go on to hold: {file}:3: rules[1].expr: ")
    write(file, TWO + OPS)
    assert await here.turn() == [["two"]]
    assert here.reloaded == 1


async def test_a_mistake_that_is_taken_back_needs_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = await asyncio.to_thread(Watched, file)
    write(file, "rules: [")
    await here.turn()
    write(file, ONE + OPS)
    assert await here.turn() == []
    assert here.reloaded == 1
    assert [record.message for record in caplog.records][1:] == ["the configuration says what it said before"]


async def test_a_file_that_is_gone_for_a_while(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = await asyncio.to_thread(Watched, file)
    await asyncio.to_thread(file.unlink)
    assert await here.turn() == await here.turn() == []
    assert here.reloaded == 0
    assert len(caplog.records) == 1
    write(file, TWO + OPS)
    assert await here.turn() == [["two"]]


async def test_what_is_neither_rule_nor_alerting_needs_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = await asyncio.to_thread(Watched, file)
    write(file, "group: another\n" + ONE + OPS)
    assert await here.turn() == await here.turn() == []
    assert here.reloaded == 1
    (record,) = caplog.records
    assert (record.levelno, record.message.rpartition(": ")[2]) == (logging.WARNING, "the rest needs a restart")


@pytest.mark.parametrize(
    "mistake", ["for: " + "9" * 5000 + "m", "for: 0x" + "f" * 5000, "min_n: 0x" + "f" * 5000, "labels: " + "[" * 3000]
)
async def test_a_file_that_is_hard_to_read_is_a_mistake_like_any_other(
    file: Path, mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = await asyncio.to_thread(Watched, file)
    write(file, f"rules:\n  - name: one\n    expr: ctr < 4%\n    {mistake}\n" + OPS)
    assert await here.turn() == await here.turn() == []
    assert here.reloaded == 0
    (record,) = caplog.records
    assert f"{file}:4: " in record.message


async def test_a_mistake_of_ours_does_not_end_the_watch(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await asyncio.to_thread(Watched, file)
    with monkeypatch.context() as patch:
        patch.setattr(Config, "reload", _broken)
        write(file, TWO + OPS)
        assert await here.turn() == await here.turn() == []
    assert here.reloaded == 0
    (record,) = caplog.records
    assert record.exc_info and record.message.endswith("hold: ZeroDivisionError while reading the files")
    write(file, TWO + OPS)
    assert await here.turn() == [["two"]]


def _broken(config: Config) -> Config:
    raise ZeroDivisionError


async def test_what_could_not_be_judged_is_tried_again(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await asyncio.to_thread(Watched, file)
    with monkeypatch.context() as patch:
        patch.setattr(query, "child_command", lambda: ["/nonexistent"])
        write(file, "rules:\n  - {name: two, sql: 'SELECT model_id, ctr + 0 AS value FROM ctr'}\n" + OPS)
        assert await here.turn() == await here.turn() == []
        assert here.reloaded == 0
        (record,) = caplog.records
        assert "cannot be started" in record.message
    assert await here.turn() == [["two"]]
    assert here.reloaded == 1


async def test_who_is_told_follows_too(file: Path) -> None:
    here = await asyncio.to_thread(Watched, file)
    write(file, ONE + OPS + "alerting:\n  receivers: {team: [ops]}\n  route: {notify: [team]}\n")
    assert await here.turn() == [["one"]]
    assert [*here.adopted[0].alerting_policy.receivers] == ["team"]


@pytest.mark.parametrize("alerting", ["", "alerting:\n  receivers: {team: [new]}\n  route: {notify: [team]}\n"])
async def test_what_would_tell_a_channel_that_is_not_open_is_not_taken_over(
    file: Path, alerting: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = await asyncio.to_thread(Watched, file)
    write(file, TWO + OPS + "  - {type: terminal, name: new}\n" + alerting)
    assert await here.turn() == await here.turn() == []
    assert here.reloaded == 0
    (record,) = caplog.records
    assert record.message.endswith("hold: channel new: a new channel needs a restart")
    write(file, TWO + OPS)
    assert await here.turn() == [["two"]]


async def test_rules_in_a_file_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, rules, others = (tmp_path / name for name in ("tidemark.yaml", "rules.yaml", "others.yaml"))
    write(rules, ONE)
    write(others, TWO)
    write(file, "rules_file: rules.yaml\n" + OPS)
    here = await asyncio.to_thread(Watched, file)
    assert await here.turn() == []
    write(rules, TWO)
    assert await here.turn() == [["two"]]
    rules.unlink()
    assert await here.turn() == []
    assert here.reloaded == 0
    write(rules, ONE)
    assert await here.turn() == [["one"]]
    # Another one takes its place, and is followed from then on.
    caplog.clear()
    write(file, "rules_file: others.yaml\n" + OPS)
    assert await here.turn() == [["two"]]
    assert await here.turn() == []
    write(others, ONE)
    assert await here.turn() == [["one"]]
    write(rules, TWO)
    assert await here.turn() == []
    assert caplog.records == []


async def test_without_files_there_is_nothing_to_follow() -> None:
    metrics = Metrics()
    watch = PolicyWatch(load_config(None, {}), lambda _: pytest.fail("nothing to adopt"), metrics)
    await watch.turn()
    assert metrics.policy_reloaded._value.get() == 1
