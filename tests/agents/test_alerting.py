"""From an alert on the topic to somebody who is told, acknowledges, and silences: a whole worker, over HTTP."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from alerting.signed_links import LinkSigner
from tests.agents.alerting_world import World, an_alert, desks, eventually, over, world

pytestmark = pytest.mark.allow_blocking  # aiohttp's and Faust's own, while they start


async def test_an_alert_is_told_acknowledged_and_over(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        assert [(body["alert_id"], body["status"]) for body in here.told] == [(alert.alert_id, "firing")]

        status, listed = await here.ask("GET", "/api/v1/alerts")
        assert status == 200
        assert [(each["alert_id"], each["status"], each["severity"]) for each in listed["alerts"]] == [
            (alert.alert_id, "firing", "critical")
        ]
        status, acked = await here.ask("POST", f"/api/v1/alerts/{alert.alert_id}/ack", json={"by": "alice"})
        assert (status, acked["status"], acked["acknowledged_by"]) == (200, "acknowledged", "alice")
        # Everybody who reads the topic learns of it, and so do those who had been told.
        await eventually(lambda: len(here.told) == 2)
        assert here.told[1]["status"] == "acknowledged"
        await eventually(lambda: [each["status"] for each in here.published] == ["firing", "acknowledged"])

        here.put(over(alert))
        await eventually(lambda: len(here.told) == 3)
        assert here.told[2]["status"] == "resolved"


async def test_what_the_api_refuses_it_says_as_problem_json(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        for method, path, body, expected in (
            ("POST", "/api/v1/alerts/none/ack", {}, (404, "no open alert has the id none")),
            ("GET", "/api/v1/alerts?status=odd", None, (400, "expected firing, acknowledged or resolved, got odd")),
            ("GET", "/api/v1/alerts?severity=odd", None, (400, "expected critical, major, minor, got odd")),
            ("POST", "/api/v1/silences", {"matchers": []}, (400, "matchers: expected 1 to")),
            ("POST", "/api/v1/silences", {"matchers": ["x=1"], "duration": "soon"}, (400, "duration: expected")),
            ("POST", "/api/v1/silences", [1], (400, "expected a JSON object")),
            ("DELETE", "/api/v1/silences/none", None, (404, "no silence has the id none")),
            ("DELETE", "/api/v1/silences", None, (400, "expected DELETE /api/v1/silences/{id}")),
        ):
            status, problem = await here.ask(method, path, json=body)
            assert (status, problem["status"]) == (expected[0], expected[0]), path
            assert problem["detail"].startswith(expected[1])
        status, problem = await here.ask("POST", "/api/v1/silences", data=b"{" * 10)
        assert (status, problem["title"]) == (400, "not JSON")


async def test_a_page_of_another_site_cannot_acknowledge(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        path = f"/api/v1/alerts/{alert.alert_id}/ack"
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "http://evil.example:6066", "Host": "evil.example:6066"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert (await here.ask("POST", path, headers=headers))[0] == 403
        status, _ = await here.ask("POST", path, headers={"Origin": here.url})
        assert status == 200


async def test_a_silence_keeps_quiet_until_it_is_taken_away(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        body = {"matchers": ['model_id="home"'], "duration": "2h", "created_by": "bob", "comment": "rollout"}
        status, silence = await here.ask("POST", "/api/v1/silences", json=body)
        assert (status, silence["created_by"], silence["ends_at"] - silence["starts_at"]) == (201, "bob", 7_200_000)
        assert (await here.ask("GET", "/api/v1/silences"))[1] == {"silences": [silence]}

        here.put(an_alert("home"))
        here.put(an_alert("search"))
        await eventually(lambda: here.told)

        async def quiet() -> bool:
            _, listed = await here.ask("GET", "/api/v1/alerts?model_id=home")
            return bool(listed["alerts"] and listed["alerts"][0]["silenced_by"] == silence["id"])

        await eventually(quiet)
        assert [each["model_id"] for each in here.told] == ["search"]
        assert (await here.ask("DELETE", f"/api/v1/silences/{silence['id']}"))[0] == 204
        # What still fires is told at once.
        await eventually(lambda: [each["model_id"] for each in here.told] == ["search", "home"])
        assert (await here.ask("GET", "/api/v1/silences"))[1] == {"silences": []}


async def test_opening_a_link_changes_nothing_and_its_button_acknowledges(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert()
        here.put(alert)
        await eventually(lambda: here.told)
        path = urlsplit(signer(here).ack_url((alert.alert_id,), "ops")).path
        status, page = await here.ask("GET", path)
        assert status == 200
        assert alert.summary in page and "<form" in page
        assert (await here.ask("GET", "/api/v1/alerts"))[1]["alerts"][0]["status"] == "firing"
        status, page = await here.ask("POST", path)
        assert (status, "Acknowledged" in page) == (200, True)
        (listed,) = (await here.ask("GET", "/api/v1/alerts"))[1]["alerts"]
        assert (listed["status"], listed["acknowledged_by"]) == ("acknowledged", "link on ops")
        assert (await here.ask("GET", path[:-2]))[0] == 403


async def test_a_link_silences_the_rule_on_this_model(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = an_alert('ho"me')
        here.put(alert)
        await eventually(lambda: here.told)
        path = urlsplit(signer(here).silence_url((alert.alert_id,), 60, "ops")).path
        assert (await here.ask("POST", path))[0] == 200
        (silence,) = (await here.ask("GET", "/api/v1/silences"))[1]["silences"]
        assert silence["ends_at"] - silence["starts_at"] == 3_600_000
        (listed,) = (await here.ask("GET", "/api/v1/alerts"))[1]["alerts"]
        assert listed["silenced_by"] == silence["id"]


async def test_what_is_no_alert_and_no_command_is_a_dead_letter(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        letters: list[bytes] = []
        topics = here.config.topics
        here.broker.tap(topics.dead_letters, lambda _, record: letters.append(record.value or b""))
        here.put_raw(topics.alerts, b"{}")
        here.put_raw(topics.commands, b"nonsense")
        here.put_raw(topics.commands, b'{"type":"put_silence","silence":{}}')
        here.put(an_alert())
        await eventually(lambda: here.told and len(letters) == 3)
        assert all(b"not_usable" in letter for letter in letters)


async def test_another_policy_holds_once_its_file_is_right(tmp_path: Path, redis_url: str) -> None:
    async with world(tmp_path, redis_url) as here:
        file = tmp_path / "tidemark.yaml"
        settings = yaml.safe_load(file.read_text())
        metrics = here.app.metrics

        def reloaded() -> float:
            return float(metrics.policy_reloaded._value.get())

        file.write_text(yaml.safe_dump({**settings, "rules": [{"name": "x", "expr": "ctr <"}]}))
        await eventually(lambda: reloaded() == 0)
        assert len(here.app.rules) > 1
        rule = {"name": "only", "expr": "ctr < 5%"}
        receivers = {"receivers": {"nobody": ["ops"]}, "route": {"routes": [], "notify": []}}
        file.write_text(yaml.safe_dump({**settings, "rules": [rule], "alerting": receivers}))
        await eventually(lambda: reloaded() == 1 and len(here.app.rules) == 1)
        here.put(an_alert())

        async def recorded() -> bool:
            return bool((await here.ask("GET", "/api/v1/alerts"))[1]["alerts"])

        await eventually(recorded)
        assert here.told == []
        (held,) = desks(here.app)
        assert held.state.desk.incidents()[0].channels == ()


def signer(here: World) -> LinkSigner:
    config = here.config
    return LinkSigner(here.url, config.privacy.link_secret, config.links.ttl_ms, here.app.now_ms)
