"""The machine that the figures belong to, and which of its cores does what."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peer_environment import PEER_PACKAGES, locked_version
from deploy.kafka_jars import KAFKA_VERSION, java_executable
from deploy.redis_server import redis_executable
from tables.errors import BrokerUnavailable, RunError

# A process of its own that becomes the measured one: Python code between fork and exec can deadlock.
_PIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where; None where the system cannot pin a process (macOS)."""

    measured: int | None
    """The one core of the system that is measured."""
    servers: tuple[int, ...]
    """The cores of Kafka, Redis and the benchmark itself."""

    @classmethod
    @cache
    def divide(cls) -> Cores:
        """The first core that this process may use for what is measured, the others for all the rest.

        The first answer holds: once it has claimed the servers' cores, this process may use no others.
        """
        if sys.platform != "linux":
            return cls(None, ())
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], tuple(usable[1:]) or (usable[0],))

    def claim_servers(self) -> None:
        """Move this process, and so every server that it starts from now on, to the servers' cores."""
        if sys.platform == "linux" and self.servers:
            os.sched_setaffinity(0, self.servers)

    def measured_argv(self, argv: list[str]) -> list[str]:
        """The same command, pinned to the measured core; its first part must be an absolute path."""
        return pinned_argv(argv, self.measured)

    @staticmethod
    def for_workers(workers: int) -> list[int | None]:
        """A core for each worker; this process and the servers that it starts move to the others, if there are any.

        None for each where the system cannot pin. Raises RunError where there are fewer cores than workers.
        """
        if (os.cpu_count() or 1) < workers:
            raise RunError(f"{workers} workers need a core each, and this machine has {os.cpu_count()}")
        if sys.platform != "linux":
            return [None] * workers
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < workers:
            raise RunError(f"{workers} workers need a core each, and this process may use {len(usable)}")
        os.sched_setaffinity(0, usable[workers:] or usable)
        return list(usable[:workers])

    def __str__(self) -> str:
        if self.measured is None:
            return "not pinned: this system cannot bind a process to a core"
        shared = " (the same: there is only one)" if self.measured in self.servers else ""
        return f"measured system on core {self.measured}, Kafka and Redis on {_join(self.servers)}{shared}"


def pinned_argv(argv: list[str], core: int | None) -> list[str]:
    """The same command on one core, or as it is for None; its first part must be an absolute path."""
    return argv if core is None else [sys.executable, "-I", "-S", "-c", _PIN, str(core), *argv]


def describe(cores: Cores) -> dict[str, Any]:
    """What a reader must know to compare the figures with others."""
    packages = ("tidemark", "faust-streaming", "aiokafka", "redis", "numpy", "msgspec")
    return {
        "cpu": _cpu_model(),
        "cores": {**asdict(cores), "usable": os.cpu_count()},
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "java": _java_version(),
        "kafka": KAFKA_VERSION,
        "redis": _redis_version(),
        "packages": {name: version(name) for name in packages},
        "peers": {package: locked_version(lock, package) for package, lock in PEER_PACKAGES.items()},
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions(machine: Mapping[str, Any]) -> str:
    """What ran, in one line, of what `describe` says."""
    servers = {name: machine[name.lower()] for name in ("Python", "Java", "Kafka", "Redis")}
    everything = {**servers, **machine["packages"], **machine["peers"]}
    return ", ".join(f"{name} {number}" for name, number in everything.items())


def _java_version() -> str:
    """Of the JVM that runs Kafka and Flink; its first line is such as `openjdk version "17.0.2" 2022-01-18`."""
    try:
        java = java_executable()
    except BrokerUnavailable:
        return "none"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    return said.split('"')[1] if '"' in said else said.strip()


def _redis_version() -> str:
    said = subprocess.run([redis_executable(), "--version"], capture_output=True, text=True, check=True).stdout
    return next((word.removeprefix("v=") for word in said.split() if word.startswith("v=")), said.strip())


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _join(cores: tuple[int, ...]) -> str:
    return ("core " if len(cores) == 1 else "cores ") + ", ".join(map(str, cores))
