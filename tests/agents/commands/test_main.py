"""The command line as a whole: help, exit statuses, and one line for whatever goes wrong."""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.commands import main as command_line
from agents.commands.main import COMMANDS, QUIET_COMMANDS, main
from tables.errors import BrokerUnavailable, ConfigError

ROOT = Path(command_line.__file__).parents[2]

Act = Callable[[argparse.Namespace], int]


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], None]:
    """Lets `tidemark check` do something else."""

    class Stub:
        def __init__(self, what: Act) -> None:
            self.run = what

        def add_parser(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
            parser = subparsers.add_parser("check")
            parser.add_argument("words", nargs="*")
            parser.add_argument("--since")

    def install(what: Act) -> None:
        monkeypatch.setattr(command_line, "_load", lambda name: Stub(what))

    return install


def test_the_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("demo", "worker", "replay", "record", "simulate", "topics", "check", "doctor", "reference"):
        assert re.search(rf"^    {command}( |$)", shown, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: tidemark {command} ")
    assert f"tidemark {command}" in shown[shown.index("example") :]


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tidemark ")


def test_the_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = (
        "import sys; from agents.commands.main import main; main(['--help']);"
        "sys.exit(','.join({'numpy', 'faust', 'aiokafka', 'redis', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "\n"  # the message of sys.exit: no module


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a command: demo, worker, "),
        (["wrok"], "invalid choice: 'wrok'"),
        (["--wrong"], "--wrong"),
        (["topics"], "required: ACTION (see tidemark topics --help)"),
        (["topics", "delete"], "invalid choice: 'delete'"),
        (["record", "--out", "f"], "required: --topic (see tidemark record --help)"),
        (["check"], "required: CONFIG (see tidemark check --help)"),
        (["check", "a", "b"], "unrecognized arguments: b"),
        (["check", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["topics", "list", "--broker", "http://x"], "--broker: expected kafka://"),
        (["topics", "list", "--brok", "kafka://x"], "unrecognized arguments: --brok"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tidemark: error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1 and captured.err.endswith("\n")


def raising(error: BaseException) -> Act:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def keeping(seen: list[argparse.Namespace]) -> Act:
    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("f.yaml:3: web.port: no"), 2, "tidemark: error: f.yaml:3: web.port: no\n"),
        (BrokerUnavailable("no broker answers"), 1, "tidemark: error: no broker answers\n"),
        (
            ZeroDivisionError("by\nzero"),
            1,
            "tidemark: error: unexpected ZeroDivisionError: by zero (--debug shows where)\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_kind_of_failure_has_its_status_and_no_traceback(
    act: Callable[[Act], None],
    error: BaseException,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    act(raising(error))
    assert main(["check"]) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("arguments", [["--debug", "check"], ["check", "--debug"], ["check", "x", "--debug"]])
def test_debug_before_or_after_the_command_shows_the_traceback(
    act: Callable[[Act], None], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    act(raising(ZeroDivisionError("by zero")))
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("tidemark: error: unexpected ZeroDivisionError: by zero\n")


def test_what_follows_two_dashes_is_no_option(act: Callable[[Act], None]) -> None:
    seen: list[argparse.Namespace] = []
    act(keeping(seen))
    assert main(["check", "--", "--debug"]) == 0
    assert (seen[0].words, seen[0].debug) == (["--debug"], False)


def test_a_time_before_now_is_a_value_and_no_option(act: Callable[[Act], None]) -> None:
    seen: list[argparse.Namespace] = []
    act(keeping(seen))
    assert main(["check", "--since", "-1h30m"]) == 0
    assert seen[0].since == "-1h30m"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_news(unbuffered: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("group: shop\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "agents.commands.main", "check", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "TIDEMARK_HASH_KEY": "0123456789abcdef"},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


SHORT_COMMANDS = {
    "topics": ["topics", "list"],
    "record": ["record", "--topic", "clicks", "--out", "never.jsonl"],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("command", SHORT_COMMANDS)
def test_the_libraries_logs_are_not_shown(command: str, tmp_path: Path) -> None:
    with socket.socket() as closed:
        # Bound but not listening: connections are refused for as long as the test runs.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        arguments = [*SHORT_COMMANDS[command], "--broker", f"kafka://127.0.0.1:{port}"]
        done = subprocess.run(
            [sys.executable, "-m", "agents.commands.main", *arguments],
            cwd=ROOT,
            env={**os.environ, "TIDEMARK_STORE": f"redis://127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            timeout=30,
        )
    said = "" if command == "doctor" else f"tidemark: error: no broker answers at kafka://127.0.0.1:{port}\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert not (ROOT / "never.jsonl").exists()


def test_quiet_commands_are_commands() -> None:
    assert set(COMMANDS) >= QUIET_COMMANDS
