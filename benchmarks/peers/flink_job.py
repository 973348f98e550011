"""Runs flink_query.sql in a local Flink, from the start of the topics to their end. Needs Flink's own environment.

`python flink_job.py SETTINGS`, a JSON file with `config` (Flink's options), `names` (for the braces in the query),
`rest_port`, and `running` and `done`, the files that this writes when all tasks run and when the last row is written;
each holds the wall clock, in seconds.
"""

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

QUERY = Path(__file__).with_name("flink_query.sql")
POLL_S = 0.05


def statements(names: dict[str, str]) -> list[str]:
    """The query's statements."""
    text = "\n".join(line for line in QUERY.read_text().splitlines() if not line.startswith("--"))
    return [one.format(**names) for one in text.split(";") if one.strip()]


def say(path: str, at: float) -> None:
    """Leave a time for the benchmark, whole or not at all."""
    partial = Path(f"{path}.partial")
    partial.write_text(repr(at))
    partial.rename(path)


def tell_when_running(rest_port: int, path: str) -> None:
    """Ask Flink until all tasks of the only job run: from then on it reads."""
    while True:
        time.sleep(POLL_S)
        try:
            for job in ask(rest_port, "jobs")["jobs"]:
                vertices = ask(rest_port, f"jobs/{job['id']}")["vertices"]
                if vertices and all(vertex["status"] in ("RUNNING", "FINISHED") for vertex in vertices):
                    say(path, time.time())
                    return
        except (URLError, ConnectionError):
            continue


def ask(rest_port: int, path: str) -> Any:
    """Flink's answer over HTTP."""
    with urlopen(f"http://127.0.0.1:{rest_port}/{path}", timeout=10) as answer:
        return json.load(answer)


def main() -> None:
    """Run the query once, and stay until told to end, so that the benchmark can look at the process."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    config = Configuration()
    for option, value in settings["config"].items():
        config.set_string(option, value)
    builder = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(config)
    tables = TableEnvironment.create(builder.build())
    *prepare, insert = statements(settings["names"])
    for statement in prepare:
        tables.execute_sql(statement)
    watcher = threading.Thread(target=tell_when_running, args=(settings["rest_port"], settings["running"]), daemon=True)
    watcher.start()
    tables.execute_sql(insert).wait()
    say(settings["done"], time.time())
    signal.pause()


if __name__ == "__main__":
    main()
