"""The command `tidemark`: finds the sub-command, runs it, turns what went wrong into one line and a status.

0 done; 1 it ran and failed; 2 wrong usage or configuration; 130 interrupted from the keyboard.
"""

import argparse
import importlib
import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, Protocol, cast

from tables.errors import ConfigError, TidemarkError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS: Mapping[str, str] = {
    "demo": "the whole product on this machine, with a simulated shop and nothing else running",
    "worker": "run one worker process; start more to scale",
    "replay": "feed recorded events through the same agents, without Kafka and Redis",
    "record": "copy topics from Kafka into a recording",
    "simulate": "write the events of a simulated shop as a recording",
    "reference": "build, show and list what the features of models are compared with",
    "rules": "list and check rules, and try them on a recording",
    "alerts": "list, acknowledge and silence alerts",
    "topics": "create, list and check the topics in Kafka",
    "check": "validate a configuration and its rules",
    "doctor": "say what is reachable, the lag, the versions, and what is wrong",
}
"""Each is the module of its name beside this one, imported only when it is asked for."""

QUIET_COMMANDS = frozenset({"replay", "demo", "record", "reference", "rules", "alerts", "topics", "check", "doctor"})
"""They say in their own words what went wrong; what the libraries log about it is for --debug."""

EPILOG = """\
example:
  tidemark demo
  tidemark COMMAND --help

exit status: 0 done, 1 it ran and failed, 2 wrong usage or configuration
"""


class Command(Protocol):
    """What each module of a command offers."""

    def add_parser(self, subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Declare the options."""

    def run(self, args: argparse.Namespace) -> int:
        """Carry it out; the exit status."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage in one line, as a ConfigError."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation that works today is ambiguous once an option is added.
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        # argparse takes only whole negative numbers for values; `--since -1h` is one too.
        self._negative_number_matcher = re.compile(r"-\d.*")
        self._is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Files may stand before, between and after options, but where there are commands below."""
        if self._is_mixing or self._subparsers is not None or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False

    def error(self, message: str) -> NoReturn:
        """Called by argparse for wrong usage."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (that of the process where none is given) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _take_debug(arguments)
    try:
        status = _run(arguments, debug)
        # Here and not at exit, where a reader that has gone could only be complained about.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except TidemarkError as error:
        return _fail(str(error), WRONG_USAGE if isinstance(error, ConfigError) else FAILED, debug)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_gone():
            return FAILED
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"unexpected {said}" + ("" if debug else " (--debug shows where)"), FAILED, debug)


def program_version() -> str:
    """The version of the installed package."""
    try:
        return version("tidemark")
    except PackageNotFoundError:
        return "0 (not installed)"


def _run(arguments: list[str], debug: bool) -> int:
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    command = _load(name) if name in COMMANDS else None
    try:
        args = _parser(name, command).parse_args(arguments)
    except SystemExit:
        # argparse has shown the help or the version; wrong usage is a ConfigError.
        return DONE
    args.debug = debug
    if command is None:
        raise ConfigError(f"expected a command: {', '.join(COMMANDS)} (see tidemark --help)")
    _configure_logging(name, debug)
    return command.run(args)


def _load(name: str) -> Command:
    return cast(Command, importlib.import_module(f"agents.commands.{name}"))


def _parser(name: str, command: Command | None) -> Parser:
    """The parser with all commands, of which only the one that was asked for knows its options."""
    parser = Parser(
        prog="tidemark",
        description="Watches an online shop's models in real time: what broke, which model, and why.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"tidemark {program_version()}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and what the libraries log")
    subparsers: argparse._SubParsersAction[Any] = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command"
    )
    for other, summary in COMMANDS.items():
        if command is not None and other == name:
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(other, help=summary)
    return parser


def _take_debug(arguments: list[str]) -> bool:
    """Remove --debug, which may stand before or after the command, and say whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    found = len(options) < end
    arguments[:end] = options
    return found


def _configure_logging(command: str, debug: bool) -> None:
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    elif command in QUIET_COMMANDS:
        # Without any handler Python prints warnings on its own.
        logging.basicConfig(handlers=[logging.NullHandler()])


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"tidemark: error: {message}\n")
    return status


def _output_is_gone() -> bool:
    """Whether the reader of our standard output has gone away, as after `| head`; it is replaced then."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(output, 0)
    if not poll.poll(0):
        return False
    # Python flushes once more at exit and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


if __name__ == "__main__":
    sys.exit(main())
