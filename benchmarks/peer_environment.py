"""Environments of their own for the frameworks that tidemark is compared with; the project's never gets them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tables.errors import RunError

PYTHON = "3.11"
PEERS = Path(__file__).with_name("peers")
PEER_PACKAGES = {"quixstreams": "quix_job", "bytewax": "bytewax_job", "apache-flink": "flink"}
"""The frameworks themselves -> their locks."""


def peer_python(name: str) -> str:
    """The interpreter of the environment that `benchmarks/peers/NAME.lock` describes, made once for each lock.

    Raises RunError where it cannot be made.
    """
    lock = PEERS / f"{name}.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemark" / "peers"
    folder = cache / f"{name}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    # Not made elsewhere and renamed: an environment's scripts hold its path.
    whole = folder / "whole"
    with (cache / f"{name}.making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not whole.exists():
            _make(name, lock, folder)
            whole.touch()
    return str(folder / "bin" / "python")


def locked_version(name: str, package: str) -> str:
    """The exact version of a package in the lock NAME. Raises RunError where the lock does not hold it."""
    for line in (PEERS / f"{name}.lock").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.removeprefix(f"{package}==").split()[0]
    raise RunError(f"{name}.lock does not name {package}")


def _make(name: str, lock: Path, folder: Path) -> None:
    sys.stderr.write(f"making the environment of {name}, once\n")
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise RunError(f"the environment of {name} needs uv, which `make` installs in .venv")
    shutil.rmtree(folder, ignore_errors=True)
    install = ["pip", "install", "--python", str(folder / "bin" / "python"), "--require-hashes", "-r", str(lock)]
    for arguments in (["venv", "--python", PYTHON, str(folder)], install):
        done = subprocess.run([uv, *arguments, "--quiet"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RunError(f"the environment of {name} cannot be made: {done.stderr.strip()}")
