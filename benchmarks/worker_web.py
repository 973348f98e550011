"""What a worker says of itself over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from deploy.process import HOST

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerWeb:
    """The web server of a worker on this host."""

    port: int

    def is_listening(self) -> bool:
        """Whether it answers HTTP."""
        return self._get("/livez") is not None

    def is_ready(self) -> bool:
        """What /readyz says."""
        return self._get("/readyz") is not None

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all label values that are not named; 0 where the worker does not answer."""
        text = self._get("/metrics") or ""
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=ANSWER_S) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
