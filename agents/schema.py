"""Tells Faust to leave batches alone: what a transport delivers reaches the agent as it is."""

from __future__ import annotations

from typing import Any

from faust import Schema
from faust.types import AppT, EventT, Message


class BatchSchema(Schema[Any, Any]):
    """A schema without keys, models or codecs."""

    def compile(self, app: AppT, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Message, *, propagate: bool = False) -> EventT[Any]:
            return create_event(None, message.value, message.headers, message)

        return decode
