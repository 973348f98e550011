"""Flink's Kafka connector, which PyFlink does not bring along: fetched once with Maven and then cached."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tables.errors import RunError

POM = Path(__file__).with_name("peers") / "flink-pom.xml"
FETCH_S = 900


def flink_jars() -> list[Path]:
    """The jars that `peers/flink-pom.xml` names. Raises RunError where Maven cannot fetch them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemark" / "peers"
    folder = cache / f"flink-jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "flink-jars.making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(folder)
    return sorted(folder.glob("*.jar"))


def _fetch(folder: Path) -> None:
    """Fetch into a folder beside the cache and rename it, so that a cache that exists is whole."""
    sys.stderr.write("fetching Flink's Kafka connector with Maven, once\n")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        # Maven's plugins may leave files beside the pom.
        pom = shutil.copy(POM, temporary)
        jars = Path(temporary) / "jars"
        command = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunError(f"Flink's Kafka connector cannot be fetched: {error}") from error
        if done.returncode != 0:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise RunError(f"Maven cannot fetch Flink's Kafka connector: {said[0] if said else done.returncode}")
        jars.rename(folder)
