"""`tidemark demo` as it is typed: the story is told, and nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agents.commands.main import main
from tests.agents.commands.processes import TIDEMARK, Running, environment, until

QUICK = [*TIDEMARK, "demo", "--rate", "25", "--speed", "120"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where temporary files go; its path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="tm-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def start(command: list[str], folder: Path, **changes: str) -> Running:
    (folder / "tmp").mkdir(exist_ok=True)
    return Running(command, folder, environment(TMPDIR=str(folder / "tmp"), **changes))


def nothing_is_left(folder: Path, children: list[psutil.Process]) -> bool:
    return until(20, lambda: not any(child.is_running() for child in children) and not any((folder / "tmp").iterdir()))


def ended_within(seconds: float, process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(seconds)
    finally:
        process.kill()


def test_the_whole_story(folder: Path) -> None:
    with start([*QUICK, "--seed", "3"], folder) as demo:
        assert demo.is_ready()
        status, metrics = demo.get("/metrics")
        assert status == 200 and "tidemark_events_consumed_total" in metrics
        children = psutil.Process(demo.process.pid).children(recursive=True)
        assert any("redis-server" in child.name() for child in children)
        # A quarter of a minute, but for machines that are slower than that.
        assert until(90, lambda: "10:19 UTC  P95" in demo.said)
        assert demo.end(signal.SIGINT) == 0
    minutes = re.findall(r"^(\d\d:\d\d) UTC  CTR: .*?recommender-home v3 (\S+) %", demo.said, re.MULTILINE)
    rates = {minute: float(rate) for minute, rate in minutes}
    assert rates["09:55"] == pytest.approx(8, abs=0.6)
    assert rates["10:02"] == pytest.approx(4, abs=0.6)
    assert rates["10:11"] == pytest.approx(8, abs=0.6)
    (firing,) = (line for line in demo.said.splitlines() if "FIRING" in line)
    (resolved,) = (line for line in demo.said.splitlines() if "RESOLVED" in line)
    assert re.search(
        r"FIRING major  CTR of recommender-home v3 is [34]\.\d %, below 5 % .*[\d,]+ shown, \d+ clicked", firing
    )
    assert "CTR of recommender-home v3 is" in resolved
    assert re.search(r"alerts: 1 fired, 1 resolved(, \d+ minor ones recorded)?$", demo.said)
    drift = re.findall(r"^(\d\d:\d\d) UTC  drift: (.*)", demo.said, re.MULTILINE)
    assert {minute for minute, models in drift if "recommender-home v3 severe new_user" in models} >= {"10:05", "10:08"}
    assert not any("recommender-home" in models for minute, models in drift if minute < "10:00")
    latencies = re.findall(r"^(\d\d:\d\d) UTC  P95: .*?recommender-home v3 (\S+) ms", demo.said, re.MULTILINE)
    assert len(latencies) > 15 and all(30 < float(latency) < 300 for _, latency in latencies)
    # What comes after the promotion has begun, but is too young to be shown by the minute.
    for part in (
        r"^slowest minute: search-ranking v7 at 10:1\d, P95 ([5-9]\d\d|1,\d{3}) ms$",
        r"^severe drift: gender of ",
        r"^severe drift: new_user of recommender-home v3 at 10:\d\d, PSI 0\.[3-6]\d; and of \d more$",
    ):
        assert re.search(part, demo.said, re.MULTILINE), part
    assert nothing_is_left(folder, children)


def test_it_stops_by_itself(folder: Path) -> None:
    with start([*QUICK, "--seconds", "2"], folder) as demo:
        assert demo.process.wait(60) == 0
    assert re.search(r"^[\d,]+ events in \d+ s, ", demo.said, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(number: int, folder: Path) -> None:
    with start(QUICK, folder) as demo:
        assert demo.is_ready()
        children = psutil.Process(demo.process.pid).children(recursive=True)
        assert children
        assert demo.end(number) == 0
    assert "Traceback" not in demo.said
    assert nothing_is_left(folder, children)


def test_a_kill_leaves_no_server_behind(folder: Path) -> None:
    with start(QUICK, folder) as demo:
        assert demo.is_ready()
        children = psutil.Process(demo.process.pid).children(recursive=True)
        demo.end(signal.SIGKILL)
    assert nothing_is_left(folder, children)


def test_a_port_that_was_asked_for_and_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start([*QUICK, "--web-port", str(port)], folder) as demo:
            assert demo.process.wait(60) == 1
        (line,) = demo.said.splitlines()
        assert line.startswith(f"tidemark: error: cannot listen on 127.0.0.1:{port}: Address already in use")
        assert nothing_is_left(folder, [])


def test_a_reader_that_goes_away_ends_it(folder: Path) -> None:
    (folder / "tmp").mkdir()
    env = environment(TMPDIR=str(folder / "tmp"))
    with subprocess.Popen([*QUICK], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        assert demo.stdout.readline().startswith(b"A simulated shop")
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.stdout.close()
        assert demo.wait(60) == 1
        assert demo.stderr.read() == b""
    assert nothing_is_left(folder, children)


def test_on_a_terminal_it_draws(folder: Path) -> None:
    (folder / "tmp").mkdir()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = environment(TMPDIR=str(folder / "tmp"), TERM="xterm-256color")
    demo = subprocess.Popen(QUICK, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    parts = ("120 times as fast as life", "recommender-home v3", "alerts", "/metrics", "Ctrl-C ends")
    shown, ended = b"", False
    try:
        while data := os.read(ours, 65_536):
            shown += data
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
            if not ended and all(part in text for part in parts) and text.count(parts[0]) > 5:
                demo.send_signal(signal.SIGINT)
                ended = True
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(ours)
        status = ended_within(60, demo)
    assert status == 0
    assert re.search(r"alerts: \d+ fired, \d+ resolved(, \d+ minor ones recorded)?\s*$", text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--speed", "0"], "argument --speed: expected a number above 0, got '0'"),
        (["--seconds", "soon"], "argument --seconds: expected a number above 0, got 'soon'"),
        (["--rate", "1e9"], "rate must be a number above 0, at most 100,000"),
        (["--seed", "-1"], "seed must be an integer from 0"),
        (["--web-port", "0"], "--web-port: expected a port"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_alerts_are_the_same_bytes_every_time(folder: Path) -> None:
    """The case study: what fires, with its numbers and its causes, in two runs at another pace."""

    def alerts_of(speed: str, seconds: str) -> list[str]:
        with start([*TIDEMARK, "demo", "--speed", speed, "--seconds", seconds], folder) as demo:
            assert demo.process.wait(200) == 0
        lines = demo.said.splitlines()
        begin = [place for place, line in enumerate(lines) if "FIRING" in line or "RESOLVED" in line]
        return [line for place in begin for line in lines[place : place + 4] if not re.match(r"\d\d:\d\d UTC", line)]

    first, second = alerts_of("30", "50"), alerts_of("20", "70")
    fired = next(place for place, line in enumerate(first) if "FIRING" in line)
    assert "CTR of recommender-home v3 is 4.0 %, below 5 %" in first[fired]
    assert any("new_user true 20 % -> 49 %" in line for line in first)
    shared = min(len(first), len(second))
    assert shared >= 6
    assert first[:shared] == second[:shared]
