"""The jars of a Kafka broker and the Java that runs them: found, or fetched once into a cache."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tables.errors import BrokerUnavailable

KAFKA_VERSION = "4.1.0"
MINIMUM_JAVA = 17
POM = Path(__file__).with_name("kafka") / "pom.xml"
FETCH_S = 900


def why_no_kafka() -> str | None:
    """One line that says why no broker can run on this machine, or None where one can."""
    java = _java()
    if java is None:
        return f"no java on the PATH; Kafka {KAFKA_VERSION} needs Java {MINIMUM_JAVA} or newer"
    version = _java_version(java)
    if version < MINIMUM_JAVA:
        return f"Kafka {KAFKA_VERSION} needs Java {MINIMUM_JAVA} or newer; {java} is version {version}"
    if not _folder().is_dir() and shutil.which("mvn") is None:
        return f"Kafka {KAFKA_VERSION} is not cached in {_folder()}, and there is no mvn to fetch it"
    return None


def java_executable() -> str:
    """The java of JAVA_HOME, or else of the PATH. Raises BrokerUnavailable."""
    java = _java()
    if java is None:
        raise BrokerUnavailable(str(why_no_kafka()))
    return java


def kafka_classpath() -> str:
    """The class path of a broker; fetches the jars with Maven (some 45 MB) where they are not cached yet.

    Raises BrokerUnavailable.
    """
    folder = _folder()
    if not folder.is_dir():
        reason = why_no_kafka()
        if reason is not None:
            raise BrokerUnavailable(reason)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                _fetch(folder)
    return f"{folder}/*"


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tidemark" / f"kafka-{KAFKA_VERSION}"


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (java := Path(home) / "bin" / "java").exists():
        return str(java)
    return shutil.which("java")


@functools.cache
def _java_version(java: str) -> int:
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else 0


def _fetch(folder: Path) -> None:
    """Fetch into a folder beside the cache and rename it, so that a cache that exists is whole."""
    sys.stderr.write(f"fetching Kafka {KAFKA_VERSION} with Maven, once\n")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        # Maven's plugins may leave files beside the pom.
        pom = shutil.copy(POM, temporary)
        jars = Path(temporary) / "jars"
        command = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailable(f"Maven did not fetch Kafka within {FETCH_S} s") from error
        if done.returncode != 0:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise BrokerUnavailable(f"Maven cannot fetch Kafka: {said[0] if said else done.returncode}")
        jars.rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
