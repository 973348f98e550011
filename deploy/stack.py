"""The real servers on this machine: `python -m deploy.stack up|down|status|clean`, and a library for tests.

As a library: KafkaCluster, RedisServer, RedisSentinelSet and RedisCluster, each a context manager that
stops what it started, and why_no_kafka(). The command leaves its servers running; FOLDER/stack.json tells
which.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.kafka_cluster import KafkaCluster
from deploy.kafka_jars import why_no_kafka
from deploy.process import ServerProcess
from deploy.redis_server import RedisServer
from deploy.redis_sets import RedisCluster, RedisSentinelSet
from tables.errors import RunError

__all__ = ["KafkaCluster", "RedisCluster", "RedisSentinelSet", "RedisServer", "why_no_kafka"]

STATE = "stack.json"
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A process left running; `created` tells it from a later one that was given the same id."""

    name: str
    pid: int
    created: float

    @classmethod
    def of(cls, process: ServerProcess) -> RunningServer:
        return cls(process.name, process.pid, psutil.Process(process.pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True)
class Stack:
    """One Kafka and one Redis that outlive the command that started them."""

    broker: str
    store: str
    servers: tuple[RunningServer, ...]

    @classmethod
    def start(cls, folder: Path, brokers: int) -> Stack:
        """Start both, keeping the data that the folder has. Raises BrokerUnavailable, StoreUnavailable."""
        store = RedisServer.start(folder / "redis", durable=True, detached=True)
        try:
            kafka = KafkaCluster.start(folder / "kafka", brokers, detached=True)
        except RunError:
            store.stop()
            raise
        processes = [*kafka.brokers, store.process]
        stack = cls(kafka.url, store.url, tuple(RunningServer.of(process) for process in processes))
        stack.save(folder)
        return stack

    def save(self, folder: Path) -> None:
        """Write down what runs."""
        (folder / STATE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Stack | None:
        """The stack that was started in this folder and not stopped since. Raises RunError."""
        path = folder / STATE
        try:
            state = json.loads(path.read_text())
            servers = tuple(RunningServer(**server) for server in state["servers"])
            return cls(state["broker"], state["store"], servers)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read ({error}); stop its servers by hand and remove it") from error

    def stop(self, folder: Path) -> None:
        """Stop all in order, or by force what has not ended after STOP_S seconds."""
        processes = [process for server in self.servers if (process := server.find())]
        for process in processes:
            process.terminate()
        _, alive = psutil.wait_procs(processes, STOP_S)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, STOP_S)
        (folder / STATE).unlink(missing_ok=True)


def up(folder: Path, brokers: int) -> str:
    """Start the stack, or find it running."""
    stack = Stack.load(folder)
    if stack and not all(server.find() for server in stack.servers):
        stack.stop(folder)
        stack = None
    stack = stack or Stack.start(folder, brokers)
    return (
        f"# Kafka and Redis run until `make stack-clean`; logs and data are in {folder}\n"
        f"export TIDEMARK_BROKER={stack.broker}\n"
        f"export TIDEMARK_STORE={stack.store}\n"
    )


def down(folder: Path) -> str:
    """Stop the stack and keep its data."""
    stack = Stack.load(folder)
    if stack is None:
        return "nothing runs\n"
    stack.stop(folder)
    return "stopped: " + ", ".join(server.name for server in stack.servers) + "\n"


def status(folder: Path) -> str:
    """One line a server."""
    stack = Stack.load(folder)
    if stack is None:
        return "nothing runs\n"
    states = [f"{s.name}: {'running' if s.find() else 'gone'}, pid {s.pid}\n" for s in stack.servers]
    return "".join(states) + f"broker {stack.broker}\nstore  {stack.store}\n"


def clean(folder: Path) -> str:
    """Stop the stack and remove its folder. Raises RunError if the folder is not a stack's."""
    said = down(folder)
    if folder.exists():
        strangers = {entry.name for entry in folder.iterdir()} - {"kafka", "redis"}
        if strangers:
            raise RunError(f"{folder} is not removed: it also holds {', '.join(sorted(strangers))}")
        shutil.rmtree(folder)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 it failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description="A real Kafka and Redis.")
    parser.add_argument("command", choices=("up", "down", "status", "clean"))
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="Kafka brokers (default 1)")
    parser.add_argument("--folder", type=Path, default=Path(".stack"), help="data, logs and state (default .stack)")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    # Its complaints about a broker that is not up yet are no news while one is starting.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        if options.command == "up":
            said = up(folder, options.brokers)
        else:
            said = {"down": down, "status": status, "clean": clean}[options.command](folder)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
