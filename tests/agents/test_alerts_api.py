"""What the API answers when something is not as usual; the usual is in test_alerting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agents import alerts_api, request_reading
from agents.desk_view import DeskView
from agents.partition_state import Outgoing
from tables.errors import StoreError, StoreUnavailable
from tests.agents.alerting_world import World, an_alert, eventually, over, world

pytestmark = pytest.mark.allow_blocking  # aiohttp's and Faust's own, while they start


async def listed(here: World, alert_id: str) -> bool:
    _, answer = await here.ask("GET", "/api/v1/alerts")
    return alert_id in [each["alert_id"] for each in answer["alerts"]]


@pytest.mark.parametrize("error", [StoreUnavailable("store: no answer"), StoreError("of another version")])
async def test_while_the_store_is_away_nothing_is_known_and_that_is_said(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    async def away(_: DeskView) -> list[object]:
        raise error

    async with world(tmp_path, redis_url) as here:
        monkeypatch.setattr(DeskView, "_desks", away)
        for method, asked in (
            ("GET", "/api/v1/alerts"),
            ("GET", "/api/v1/silences"),
            ("POST", "/api/v1/alerts/a1/ack"),
            ("DELETE", "/api/v1/silences/s1"),
        ):
            async with here.http.request(method, here.url + asked) as answer:
                problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["status"], problem["title"]) == (503, 503, "store unavailable"), asked
            assert problem["detail"] == str(error)


async def test_what_nobody_has_carried_out_yet_is_not_confirmed(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_api, "SEEN_WITHIN_S", 0.3)
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        assert here.app.alerting is not None
        # It lives on, and writes nothing down any more.
        monkeypatch.setattr(here.app.alerting.agent.custodian, "take", lambda message: None)
        status, problem = await here.ask("POST", f"/api/v1/alerts/{alert.alert_id}/ack")
        assert (status, problem["title"]) == (504, "not confirmed yet")
        status, problem = await here.ask("POST", "/api/v1/silences", json={"matchers": ['x="1"']})
        assert status == 504
        (silence_id,) = problem["silence_ids"]
        assert problem["detail"] == (
            f"not confirmed within 0.3 s; silence {silence_id} may still be carried out: look again in a moment"
        )


async def test_what_the_broker_takes_late_is_not_refused_before(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_api, "SEEN_WITHIN_S", 0.3)
    async with world(tmp_path, redis_url) as here:
        publish, back, sending = here.app.publisher.publish, asyncio.Event(), list[asyncio.Task[None]]()

        async def late(messages: Sequence[Outgoing]) -> None:
            await back.wait()
            await publish(messages)

        async def send(messages: Sequence[Outgoing]) -> None:
            sending.append(asyncio.create_task(late(messages)))
            await asyncio.shield(sending[-1])  # who no longer waits for a record takes none back

        monkeypatch.setattr(here.app.publisher, "publish", send)
        status, problem = await here.ask("POST", "/api/v1/silences", json={"matchers": ['x="1"']})
        assert (status, problem["title"]) == (504, "not confirmed yet")
        back.set()

        async def silenced() -> bool:
            _, answer = await here.ask("GET", "/api/v1/silences")
            return [each["id"] for each in answer["silences"]] == list(problem["silence_ids"])

        await eventually(silenced)


async def test_a_store_that_is_away_while_a_command_is_carried_out_does_not_refuse_it(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_api, "SEEN_WITHIN_S", 0.3)
    async with world(tmp_path, redis_url) as here:
        publish = here.app.publisher.publish

        async def away(_: DeskView) -> list[object]:
            raise StoreUnavailable("store: no answer")

        async def then_away(messages: Sequence[Outgoing]) -> None:
            await publish(messages)
            monkeypatch.setattr(DeskView, "_desks", away)

        monkeypatch.setattr(here.app.publisher, "publish", then_away)
        status, problem = await here.ask("POST", "/api/v1/silences", json={"matchers": ['x="1"']})
        assert (status, problem["title"]) == (504, "not confirmed yet")


async def test_who_comes_second_is_told_who_was_first(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        ack = f"/api/v1/alerts/{alert.alert_id}/ack"
        said = {"by": "alice", "comment": "rolling back", "a key of another tool": 7}
        status, first = await here.ask("POST", ack, json=said)
        assert (status, first["acknowledged_by"], first["comment"]) == (200, "alice", "rolling back")
        status, second = await here.ask("POST", ack, json={"by": "bob"})
        assert (status, second["acknowledged_by"]) == (200, "alice")


async def test_one_alert_is_shown_for_as_long_as_it_is_open(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        status, shown = await here.ask("GET", f"/api/v1/alerts/{alert.alert_id}")
        assert (status, [shown]) == (200, (await here.ask("GET", "/api/v1/alerts"))[1]["alerts"])
        here.put(over(alert))

        async def gone() -> bool:
            status, problem = await here.ask("GET", f"/api/v1/alerts/{alert.alert_id}")
            said = f"no open alert has the id {alert.alert_id}"
            return (status, problem.get("title"), problem.get("detail")) == (404, "no such alert", said)

        await eventually(gone)


async def test_a_body_that_is_too_large_or_comes_in_parts(tmp_path: Path, redis_url: str) -> None:
    async def slowly(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part
            await asyncio.sleep(0.05)

    async with world(tmp_path, redis_url) as here:
        for data in (b" " * (request_reading.BODY_BYTES + 1), slowly(*[b" " * 40_000] * 2)):
            status, problem = await here.ask("POST", "/api/v1/silences", data=data)
            assert (status, problem["title"]) == (413, "too large")
        parts = slowly(b'{"matchers": ["mod', b'el_id=\\"home\\""]', b', "created_by": "ann"}')
        status, silence = await here.ask("POST", "/api/v1/silences", data=parts)
        assert (status, silence["created_by"]) == (201, "ann")


@pytest.mark.parametrize("starts_at", [-1, 2**62, 2**64 - 1])
async def test_a_silence_at_a_time_that_no_date_has_is_refused_and_nothing_comes_of_it(
    tmp_path: Path, redis_url: str, starts_at: int
) -> None:
    async with world(tmp_path, redis_url) as here:
        body = {"matchers": ['x="1"'], "starts_at": starts_at, "duration": "1h"}
        status, problem = await here.ask("POST", "/api/v1/silences", json=body)
        assert (status, problem["title"]) == (400, "bad silence")
        assert problem["detail"].startswith("starts_at: expected milliseconds since the epoch")
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: listed(here, alert.alert_id))
        assert (await here.ask("GET", "/api/v1/silences"))[1] == {"silences": []}


async def test_a_silence_that_would_not_hold_is_refused_at_once(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, redis_url) as here:
        now = here.app.now_ms()
        too_long = [f'x{number}="{"y" * 400}"' for number in range(60)]
        fields = "matchers, starts_at, ends_at, duration, created_by, comment"
        both = "duration: expected ends_at or duration, got both"
        past = {"matchers": ['x="1"'], "starts_at": now - 7_200_000, "ends_at": now - 3_600_000}
        for body, expected, said in (
            ({"matchers": too_long}, 413, "expected a silence of at most 16384 bytes with all its matchers"),
            (past, 400, "ends_at: expected a time to come, got one that has passed"),
            ({"matchers": ['x="1"'], "endsAt": now + 60_000}, 400, f"endsAt: expected nothing but {fields}"),
            ({"matchers": ['x="1"'], "ends_at": now + 60_000, "duration": "2h"}, 400, both),
            ({"matchers": ['x="1"'], "duration": "0s"}, 400, "duration: expected some time, got '0s'"),
        ):
            status, problem = await here.ask("POST", "/api/v1/silences", json=body)
            assert (status, problem["detail"]) == (expected, said)
        monkeypatch.setattr(alerts_api, "MOST_SILENCES", 1)
        good = {"matchers": ['x="1"'], "created_by": None, "comment": None}
        assert (await here.ask("POST", "/api/v1/silences", json=good))[0] == 201
        status, problem = await here.ask("POST", "/api/v1/silences", json=good)
        assert (status, problem["title"]) == (409, "too many silences")


async def test_a_body_that_is_not_what_its_headers_say(
    tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path, redis_url) as here:
        path = "/api/v1/alerts/a1/ack"
        status, problem = await here.ask("POST", path, data=b"{}", headers={"Content-Encoding": "gzip"})
        assert (status, problem["title"]) == (400, "not readable")
        status, problem = await here.ask("POST", path, data=b"{}", headers={"Expect": "a miracle"})
        assert (status, problem["title"]) == (417, "Expectation Failed")
        status, problem = await here.ask("POST", path, data=b"{}", headers={"Expect": "100-continue"})
        assert (status, problem["title"]) == (404, "no such alert")
        assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"by": 7}, "by: expected text of at most 500 characters"),
        ({"comment": "x" * 501}, "comment: expected text of at most 500 characters"),
    ],
)
async def test_what_is_said_of_oneself_is_text(
    tmp_path: Path, redis_url: str, body: dict[str, object], said: str
) -> None:
    async with world(tmp_path, redis_url) as here:
        status, problem = await here.ask("POST", "/api/v1/alerts/a1/ack", json=body)
        assert (status, problem["detail"]) == (400, said)


async def test_a_question_that_nobody_understands_gets_no_answer_to_another(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        status, problem = await here.ask("GET", "/api/v1/alerts?model=home")
        assert (status, problem["title"]) == (400, "unknown key in the query")
        assert problem["detail"] == "model: expected nothing but status, severity, model_id"
