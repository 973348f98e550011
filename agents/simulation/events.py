"""The JSON of the shop's events, put together from prepared pieces."""

import re
from collections.abc import Iterator

import numpy as np

from agents.simulation.scenarios import GENDERS, Scenario
from agents.simulation.serving import Answers
from agents.simulation.traffic import OK, STATUSES, Requests, Variant
from agents.simulation.visitors import DEVICES, ages_of, item_features, user_ids

_HOUR_MS = 3_600_000
#: Ways in which `break_event` can break one.
BREAKAGES = 6
_EVENT_TIME = re.compile(rb'"event_time":(\d+),')


class EventTexts:
    """Writes events; ids count up from the start of a run and carry its seed."""

    def __init__(self, scenario: Scenario, variants: tuple[Variant, ...], seed: int) -> None:
        self._run = f"{seed:x}"
        self._variants = variants
        self._item_features = [item_features(item) for item in range(scenario.items)]
        self._requests = 0
        self._impressions = 0
        self._clicks = 0

    def describe_requests(self, requests: Requests) -> tuple[list[bytes], list[str], list[str]]:
        """Return user ids, the fields that request and impressions share, and the visitors' features."""
        ids = user_ids(requests.user)
        heads = []
        features = []
        rows = zip(
            ids,
            requests.variant.tolist(),
            requests.gender.tolist(),
            ages_of(requests.user).tolist(),
            requests.new.tolist(),
            (requests.time // _HOUR_MS % 24).tolist(),
            strict=True,
        )
        for user_id, variant_index, gender, age, new, hour in rows:
            variant = self._variants[variant_index]
            heads.append(
                f'"request_id":"{self._run}-r{self._requests:x}","user_id":"{user_id.decode()}",'
                f'"model_id":"{variant.model_id}","model_version":"{variant.version}"'
            )
            features.append(
                f'"gender":"{GENDERS[gender]}","age":{age},"new_user":{"true" if new else "false"},"hour":{hour}'
            )
            self._requests += 1
        return ids, heads, features

    def inferences(
        self, requests: Requests, answers: Answers, heads: list[str], features: list[str]
    ) -> Iterator[bytes]:
        """Yield an inference event for every request."""
        shows_items = np.array([variant.shows_items for variant in self._variants])[requests.variant]
        # A click probability for those that rank items, a price for the others.
        predictions = np.where(shows_items, requests.prediction / 10_000, requests.prediction / 10)
        rows = zip(
            heads,
            requests.time.tolist(),
            answers.latency_tenths.tolist(),
            answers.status.tolist(),
            features,
            answers.device.tolist(),
            answers.affinity.tolist(),
            answers.score.tolist(),
            predictions.tolist(),
            strict=True,
        )
        # Producers differ in how they say that they do not know: the field is missing, or null.
        for head, time, tenths, status, visitor, device, affinity, score, prediction in rows:
            latency = "" if tenths < 0 else f'"latency_ms":{tenths / 10},'
            used = "" if device < 0 else f',"device":"{DEVICES[device]}"'
            liking = "null" if affinity < 0 else affinity / 1000
            predicted = f',"prediction":{prediction}' if status == OK else ""
            yield (
                f'{{{head},"event_time":{time},{latency}"status":"{STATUSES[status]}",'
                f'"features":{{{visitor}{used},"affinity":{liking},"score":{score / 1000}}}{predicted}}}'
            ).encode()

    def impression(self, head: str, features: str, time: int, item: int, position: int) -> bytes:
        """Return an impression event; `time` in milliseconds, `position` from 1."""
        self._impressions += 1
        return (
            f'{{"event_id":"{self._run}-i{self._impressions:x}",{head},"event_time":{time},'
            f'"item_id":"i{item:05d}","position":{position},'
            f'"features":{{{features},{self._item_features[item]}}}}}'
        ).encode()

    def click(self, user_id: bytes, time: int, item: int) -> bytes:
        """Return a click event; `time` in milliseconds."""
        self._clicks += 1
        return (
            f'{{"event_id":"{self._run}-c{self._clicks:x}","user_id":"{user_id.decode()}",'
            f'"event_time":{time},"item_id":"i{item:05d}"}}'
        ).encode()


def break_event(value: bytes, breakage: int) -> bytes:
    """Return `value` as a faulty producer might send it; `breakage` is below BREAKAGES."""
    match breakage:
        case 0:
            return value[: len(value) // 2]
        case 1:
            return _EVENT_TIME.sub(b"", value)
        case 2:
            return _EVENT_TIME.sub(rb'"event_time":[\1],', value)
        case 3:
            return _EVENT_TIME.sub(rb'"event_time":NaN,', value)
        case 4:
            return b"<html><body>502 Bad Gateway</body></html>"
        case _:
            return b"\xff\xfe" + value
