"""Records that could not be used, as they are told to `tidemark.dead_letters`."""

from __future__ import annotations

from base64 import b64encode

import orjson

from agents.decoding import BadRecord
from agents.partition_state import Outgoing

VALUE_BYTES = 4096


def reason_code(reason: str) -> str:
    """The part of a reason that is one of a few words, fit for a metric's label."""
    return reason.partition(":")[0]


def dead_letter(topic: str, bad: BadRecord) -> Outgoing:
    """The dead letter for one record; `value` is the first 4 KiB of it in base64."""
    value = None if bad.value is None else b64encode(bad.value[:VALUE_BYTES]).decode()
    body = {
        "topic": bad.topic,
        "partition": bad.partition,
        "offset": bad.offset,
        "reason": bad.reason,
        "value": value,
    }
    return Outgoing(topic, f"{bad.topic}-{bad.partition}-{bad.offset}".encode(), orjson.dumps(body))
