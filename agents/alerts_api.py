"""Alerts and silences over HTTP: the API of the contract, and the pages behind the signed links in messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web

from agents.desk_commands import MOST_BYTES, Acknowledge, Command, EndSilence, PutSilence, encode_command
from agents.desk_view import DeskView
from agents.other_sites import OtherSites
from agents.partition_state import Outgoing
from agents.posted_silence import NOBODY, silence_of
from agents.problem import Problem
from agents.publisher import Publisher
from agents.request_reading import check_keys, read_object, text_of
from alerting.alert import SEVERITIES, printable
from alerting.desk.desk import IncidentView
from alerting.desk.silences import Silence
from alerting.desk.suppression import MOST_SILENCES
from tables.errors import BrokerUnavailable, ConfigError, StoreError

SEEN_WITHIN_S: Final = 5.0
"""A command is in the checkpoints after a round of the alerts agent; whoever asked is told so."""
LOOK_EVERY_S: Final = 0.1

T = TypeVar("T")


class AlertsApi:
    """GET /api/v1/alerts and /alerts/{id}, POST /api/v1/alerts/{id}/ack, GET, POST and DELETE /api/v1/silences."""

    def __init__(
        self,
        view: DeskView,
        publisher: Publisher,
        topic: str,
        partitions: Callable[[], int],
        now_ms: Callable[[], int],
        other_sites: OtherSites,
    ) -> None:
        """`topic`: of the commands; `partitions`: how many it has."""
        self._view = view
        self._publisher = publisher
        self._topic = topic
        self._partitions = partitions
        self._now_ms = now_ms
        self._other_sites = other_sites

    def routes(self) -> list[web.RouteDef]:
        """To be served."""
        return [
            web.get("/api/v1/alerts", self._list),
            web.get("/api/v1/alerts/{id}", self._show),
            web.post("/api/v1/alerts/{id}/ack", self._ack),
            web.get("/api/v1/silences", self._list_silences),
            web.post("/api/v1/silences", self._post_silence),
            web.delete("/api/v1/silences", self._delete_silence),
            web.delete("/api/v1/silences/{id}", self._delete_silence),
        ]

    # -- what is done, for the routes here and for signed links

    async def incidents(self, alert_ids: Sequence[str]) -> list[IncidentView]:
        """Those of these alerts that are known by any id that they have had, in this order. Raises Problem."""
        known = await self._asking(self._view.by_id())
        found = [known[name] for name in alert_ids if name in known]
        return list({each.alert.alert_id: each for each in found}.values())

    async def acknowledge(self, alert_ids: Sequence[str], by: str, comment: str = "") -> list[IncidentView]:
        """Acknowledge what fires of these, and return all of them that are known once that is written down.

        Raises Problem.
        """
        known = await self._known(alert_ids)
        waiting = [each.alert.alert_id for each in known if each.status == "firing"]
        if not waiting:
            return known

        async def are_acknowledged() -> list[IncidentView] | None:
            now = await self._view.by_id()
            # One that is over meanwhile is no longer held, and needs nobody any more.
            if any(name in now and now[name].status == "firing" for name in waiting):
                return None
            return [now.get(each.alert.alert_id, each) for each in known]

        commands = [Acknowledge(name, by, comment) for name in waiting]
        return await self._carried_out(commands, are_acknowledged, "the acknowledgement")

    async def silence(self, silences: Sequence[Silence]) -> list[Silence]:
        """Put silences, and return them once that is written down; one that is there already stays as it is.

        Raises Problem.
        """
        if any(each.ends_at <= self._now_ms() for each in silences):
            raise Problem(400, "bad silence", "ends_at: expected a time to come, got one that has passed")
        there = {each.id for each in await self._asking(self._view.silences())}
        commands = [PutSilence(each.to_json()) for each in silences if each.id not in there]
        if any(len(encode_command(command)) > MOST_BYTES for command in commands):
            raise Problem(413, "too large", f"expected a silence of at most {MOST_BYTES} bytes with all its matchers")
        if commands and len(there) + len(commands) > MOST_SILENCES:
            raise Problem(409, "too many silences", f"expected at most {MOST_SILENCES} at a time: end some first")
        names = [each.id for each in silences]

        async def are_there() -> list[Silence] | None:
            now = {each.id: each for each in await self._view.silences()}
            return [now[name] for name in names] if now.keys() >= set(names) else None

        return await self._carried_out(commands, are_there, f"silence {', '.join(names)}", silence_ids=names)

    # -- the routes

    async def _list(self, request: web.Request) -> web.Response:
        check_keys(request.query, ("status", "severity", "model_id"), "query")
        status, severity = request.query.get("status"), request.query.get("severity")
        if status not in (None, "firing", "acknowledged", "resolved"):
            raise Problem(400, "bad status", f"expected firing, acknowledged or resolved, got {printable(status, 40)}")
        if severity is not None and severity not in SEVERITIES:
            raise Problem(400, "bad severity", f"expected {', '.join(SEVERITIES)}, got {printable(severity, 40)}")
        model = request.query.get("model_id")
        found = [
            incident_json(each)
            for each in await self._asking(self._view.incidents())
            if (status is None or each.status == status)
            and (severity is None or each.alert.severity == severity)
            and (model is None or each.alert.model_id == model)
        ]
        return _json({"alerts": found})

    async def _show(self, request: web.Request) -> web.Response:
        (incident,) = await self._known([request.match_info["id"]])
        return _json(incident_json(incident))

    async def _ack(self, request: web.Request) -> web.Response:
        self._other_sites.refuse(request)
        body = await read_object(request)
        # A key too many is no reason to go on calling people.
        by, comment = text_of(body, "by", NOBODY), text_of(body, "comment", "")
        (incident,) = await self.acknowledge([request.match_info["id"]], by, comment)
        return _json(incident_json(incident))

    async def _list_silences(self, _: web.Request) -> web.Response:
        return _json({"silences": [each.to_json() for each in await self._asking(self._view.silences())]})

    async def _post_silence(self, request: web.Request) -> web.Response:
        self._other_sites.refuse(request)
        body = await read_object(request)
        try:
            silence = silence_of(body, self._now_ms())
        except ConfigError as error:
            raise Problem(400, "bad silence", str(error)) from error
        (put,) = await self.silence([silence])
        return _json(put.to_json(), status=201)

    async def _delete_silence(self, request: web.Request) -> web.Response:
        self._other_sites.refuse(request)
        silence_id = request.match_info.get("id") or request.query.get("id", "")
        if not silence_id:
            raise Problem(400, "no id", "expected DELETE /api/v1/silences/{id}")
        if all(each.id != silence_id for each in await self._asking(self._view.silences())):
            raise Problem(404, "no such silence", f"no silence has the id {printable(silence_id, 40)}")

        async def is_gone() -> bool | None:
            return True if all(each.id != silence_id for each in await self._view.silences()) else None

        await self._carried_out([EndSilence(silence_id)], is_gone, f"the end of silence {printable(silence_id, 40)}")
        return web.Response(status=204)

    # -- inside

    async def _known(self, alert_ids: Sequence[str]) -> list[IncidentView]:
        if found := await self.incidents(alert_ids):
            return found
        raise Problem(404, "no such alert", f"no open alert has the id {printable(', '.join(alert_ids), 40)}")

    def _count_partitions(self) -> int:
        try:
            return self._partitions()
        except BrokerUnavailable as error:
            raise Problem(503, "broker unavailable", str(error)) from error

    async def _asking(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except BrokerUnavailable as error:
            raise Problem(503, "broker unavailable", str(error)) from error
        except StoreError as error:
            raise Problem(503, "store unavailable", str(error)) from error

    async def _carried_out(
        self, commands: Sequence[Command], look: Callable[[], Awaitable[T | None]], what: str, **members: object
    ) -> T:
        """Send commands, and return what `look` finds, as soon as it does. Raises Problem: a late one has `members`."""
        partitions = range(self._count_partitions())
        records = [Outgoing(self._topic, None, encode_command(each), one) for each in commands for one in partitions]
        try:
            async with asyncio.timeout(SEEN_WITHIN_S):
                await self._asking(self._publisher.publish(records))
                while True:
                    # The command is on its way: that the store does not answer now takes nothing back.
                    with contextlib.suppress(BrokerUnavailable, StoreError):
                        if (found := await look()) is not None:
                            return found
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            said = f"not confirmed within {SEEN_WITHIN_S:g} s; {what} may still be carried out: look again in a moment"
            raise Problem(504, "not confirmed yet", said, members=members) from None


def incident_json(incident: IncidentView) -> dict[str, Any]:
    """An alert as the contract has it, and beside it what the desk knows."""
    body: dict[str, Any] = orjson.loads(incident.alert.to_json())
    return {
        **body,
        "status": incident.status,
        "acknowledged_by": incident.acked_by,
        "acknowledged_at": incident.acked_at,
        "comment": incident.comment,
        "silenced_by": incident.silenced_by,
        "inhibited_by": incident.inhibited_by,
        "muted_by": incident.muted_by,
        "flapping": incident.is_held,
        "escalation": incident.escalation,
        "next_step": incident.step,
        "next_step_at": incident.next_step_at,
        "channels": incident.channels,
    }


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
