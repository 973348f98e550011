"""The machine that the figures belong to, and which of its cores does what."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.kafka_jars import KAFKA_VERSION

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
        if self.measured is None:
            return argv
        return [sys.executable, "-I", "-S", "-c", _PIN, str(self.measured), *argv]

    def __str__(self) -> str:
        if self.measured is None:
            return "not pinned: this system cannot bind a process to a core"
        shared = " (the same: there is only one)" if self.measured in self.servers else ""
        return f"measured system on core {self.measured}, Kafka and Redis on {_join(self.servers)}{shared}"


def describe(cores: Cores) -> dict[str, Any]:
    """What a reader must know to compare the figures with others."""
    packages = ("tidemark", "faust-streaming", "aiokafka", "redis", "numpy", "msgspec")
    return {
        "cpu": _cpu_model(),
        "cores": {**asdict(cores), "usable": os.cpu_count()},
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "packages": {name: version(name) for name in packages},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _join(cores: tuple[int, ...]) -> str:
    return ("core " if len(cores) == 1 else "cores ") + ", ".join(map(str, cores))
