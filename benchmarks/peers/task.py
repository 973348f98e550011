"""What a peer is told, and how it says what it came to: the standard library only, as peers have packages of their own.

The job: read both topics from the start, and write rows as JSON to the topic `rows` (`model_id`, `model_version`,
`window_start`, `impressions`, `clicks`, `final`). Of several rows of one window the last one counts.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

MINUTE_MS = 60_000
WITHIN_MS = 600_000


class Task:
    """One run, as `benchmarks.same_job` describes it in the environment."""

    def __init__(self) -> None:
        self.bootstrap = os.environ["PEER_BOOTSTRAP"]
        self.group = os.environ["PEER_GROUP"]
        self.folder = os.environ["PEER_FOLDER"]
        self.impressions = os.environ["PEER_IMPRESSIONS"]
        self.clicks = os.environ["PEER_CLICKS"]
        self.rows = os.environ["PEER_ROWS"]
        self.records = int(os.environ["PEER_RECORDS"])
        self.seen = 0
        self._result = Path(os.environ["PEER_RESULT"])

    def see(self) -> None:
        """One more record has been read; the first one starts the clock."""
        if not self.seen:
            self._first_at, self._began, self._cpu = time.time(), time.monotonic(), time.process_time()
        self.seen += 1

    @property
    def is_read(self) -> bool:
        """Whether every record has been read."""
        return self.seen >= self.records

    def done(self) -> None:
        """All rows are in Kafka: leave the figures, as `benchmarks.child_result` reads them."""
        said = {
            "first_at": self._first_at,
            "records": self.seen,
            "seconds": time.monotonic() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
        }
        partial = self._result.with_suffix(".partial")
        partial.write_text(json.dumps(said))
        partial.rename(self._result)


def row(model_id: str, model_version: str, window_start: int, impressions: int, clicks: int) -> dict[str, object]:
    """A window as it is written."""
    return {
        "model_id": model_id,
        "model_version": model_version,
        "window_start": window_start,
        "impressions": impressions,
        "clicks": clicks,
        "final": True,
    }
