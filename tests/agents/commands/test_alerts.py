"""`tidemark alerts` as it is typed, against a running worker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents import worker_client
from agents.commands.main import main
from alerting.alert import Alert
from deploy.process import free_port
from tests.agents.alerting_world import World, an_alert, eventually, world
from tests.alerting.channels.receiver import Answer, hang, receiving, told
from tests.alerting.channels.receiver import status as answering
from tests.alerting.notes import HOSTILE

pytestmark = pytest.mark.allow_blocking  # aiohttp's and Faust's own, while they start

NO_CONTENT = answering(204)


class Terminal:
    """Types commands, and reads what they say."""

    def __init__(self, capsys: pytest.CaptureFixture[str], url: str = "") -> None:
        self._capsys = capsys
        self.url = url

    async def type(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._capsys.readouterr()
        status = await asyncio.to_thread(main, ["alerts", *arguments, "--url", self.url])
        return status, *self._capsys.readouterr()


async def fired(here: World, *alerts: Alert) -> None:
    for alert in alerts:
        here.put(alert)

    async def listed() -> bool:
        _, answer = await here.ask("GET", "/api/v1/alerts")
        return len(answer["alerts"]) == len(alerts)

    await eventually(listed)


async def test_from_the_list_to_the_acknowledgement(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path, redis_url) as here:
        typed = Terminal(capsys, here.url + "/")
        assert await typed.type("list") == (0, "no open alerts\n", "")
        home, search = an_alert("home"), an_alert("search", severity="major")
        await fired(here, home, search)

        status, said, error = await typed.type("list")
        assert (status, error) == (0, "")
        head, *lines = said.splitlines()
        assert head.split() == ["since", "(UTC)", "status", "severity", "alert", "what"]
        assert len(lines) == 2
        for alert in (home, search):
            (line,) = [line for line in lines if alert.alert_id in line]
            assert alert.severity in line and "firing" in line and alert.summary in line

        for option, value in (("--severity", "critical"), ("--model", "home")):
            _, said, _ = await typed.type("list", option, value)
            assert home.alert_id in said and search.alert_id not in said
        assert (await typed.type("list", "--status", "acknowledged"))[1] == "no open alerts\n"

        status, said, _ = await typed.type("ack", home.alert_id, search.alert_id, "--by", "alice", "--comment", "on it")
        assert status == 0
        assert said == "".join(f"{alert.alert_id} acknowledged by alice\n" for alert in (home, search))
        status, said, _ = await typed.type("list", "--json")
        answer = json.loads(said)
        assert {(each["status"], each["acknowledged_by"], each["comment"]) for each in answer["alerts"]} == {
            ("acknowledged", "alice", "on it")
        }
        _, said, _ = await typed.type("list")
        assert said.count("acknowledged by alice") == 2
        for name, comment in (("dave", "me too"), ("alice", "still on it")):
            status, said, _ = await typed.type("ack", home.alert_id, "--by", name, "--comment", comment)
            assert (status, said) == (0, f"{home.alert_id} already acknowledged by alice\n")
        status, said, _ = await typed.type("ack", home.alert_id, "--json")
        assert (status, json.loads(said)["acknowledged_by"]) == (0, "alice")


async def test_silences_come_and_go(tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with world(tmp_path, redis_url) as here:
        typed = Terminal(capsys, here.url)
        assert await typed.type("silences") == (0, "no silences\n", "")
        matchers = ('model_id="home"', 'severity=~"minor|major"')
        status, said, _ = await typed.type("silence", *matchers, "--for", "2h", "--by", "bob", "--comment", "promotion")
        assert status == 0
        word, silence_id, *_ = said.split()
        assert word == "silence" and said.endswith(" UTC\n")
        status, said, _ = await typed.type("silences")
        assert status == 0
        assert said.startswith(f"{silence_id}  ") and said.endswith(f"{' '.join(matchers)}  by bob: promotion\n")
        (silence,) = json.loads((await typed.type("silences", "--json"))[1])["silences"]
        assert silence["ends_at"] - silence["starts_at"] == 7_200_000

        assert await typed.type("unsilence", silence_id) == (0, f"silence {silence_id} has ended\n", "")
        assert await typed.type("silences") == (0, "no silences\n", "")
        status, said, error = await typed.type("unsilence", silence_id)
        assert (status, said) == (1, "")
        assert error.count("\n") == 1 and f"no silence has the id {silence_id}" in error
        status, said, _ = await typed.type("silence", 'model_id="home"', "--json")
        assert (status, json.loads(said)["matchers"]) == (0, ['model_id="home"'])


async def test_what_a_worker_refuses_is_one_line(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path, redis_url) as here:
        typed = Terminal(capsys, here.url)
        for arguments, status, expected in (
            (("silence", "model_id"), 2, "model_id"),
            (("silence", 'model_id=~"("'), 2, ""),
            (("silence", 'x="1"', "--for", "soon"), 2, "duration: expected"),
            (("silence", 'x="1"', "--for", "0s"), 2, "duration: expected some time, got '0s'"),
            (("ack", ""), 2, "expected an id, got nothing"),
            (("unsilence", " "), 2, "expected an id, got nothing"),
            (("ack", "none"), 1, "no open alert has the id none"),
            (("ack", "../silences"), 1, "no open alert has the id ../silences"),
        ):
            found, said, error = await typed.type(*arguments)
            assert (found, said) == (status, ""), arguments
            assert error.count("\n") == 1 and expected in error


async def test_what_an_event_says_does_nothing_to_the_terminal(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path, redis_url) as here:
        alert = replace(an_alert(), summary=f"[red]{HOSTILE}[/red] [/] \\[/] :smile: \\")
        await fired(here, alert)
        typed = Terminal(capsys, here.url)
        assert (await typed.type("ack", alert.alert_id, "--by", "[/]x :smile:"))[0] == 0
        status, said, _ = await typed.type("list")
        assert status == 0
        assert "[red]" in said and "[/red] [/] \\[/] :smile: \\" in said
        assert "acknowledged by [/]x :smile:" in said
        assert "\x1b" not in said and "\N{RIGHT-TO-LEFT OVERRIDE}" not in said


async def test_one_that_fails_does_not_keep_the_others_back(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path, redis_url) as here:
        typed = Terminal(capsys, here.url)
        alert = an_alert()
        await fired(here, alert)
        status, said, error = await typed.type("ack", "none", alert.alert_id, "gone", "--by", "alice")
        assert (status, said) == (1, f"{alert.alert_id} acknowledged by alice\n")
        assert error.splitlines() == [f"tidemark: error: no open alert has the id {one}" for one in ("none", "gone")]
        silence_id = (await typed.type("silence", 'model_id="home"'))[1].split()[1]
        status, said, error = await typed.type("unsilence", "none", silence_id)
        assert (status, said) == (1, f"silence {silence_id} has ended\n")
        assert error == "tidemark: error: no silence has the id none\n"


@pytest.mark.parametrize(
    "answer",
    [
        told({"status": "success", "data": {"alerts": []}}),
        told({"alerts": [{"alert_id": "a", "status": "firing"}], "silences": [{"id": "s", "ends_at": 2**62}]}),
        told([]),
        told(7),
        answering(200),
        answering(200, "<html>it works</html>"),
        NO_CONTENT,
    ],
)
async def test_another_server_is_no_worker(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    async with receiving() as other:
        other.otherwise = answer
        for arguments in (["list"], ["silences"], ["ack", "a"], ["silence", 'x="1"'], ["unsilence", "s"]):
            if answer is NO_CONTENT and arguments[0] == "unsilence":
                continue  # there is nothing in this one to know a worker by
            found, said, error = await Terminal(capsys, other.base_url).type(*arguments)
            assert (found, said) == (1, ""), arguments
            assert error.count("\n") == 1 and "is no tidemark worker" in error


@pytest.mark.parametrize("token", ["a secret\n", "a\udcff"])
def test_a_token_that_no_header_can_carry_is_wrong_usage(
    token: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_WEB_TOKEN", token)
    assert main(["alerts", "list", "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tidemark: error: TIDEMARK_WEB_TOKEN: expected printable") and error.count("\n") == 1
    assert token.strip() not in error


def test_where_no_worker_is_it_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["list"], ["ack", "a1"], ["silences"], ["silence", 'x="1"'], ["unsilence", "s"]):
        assert main(["alerts", *arguments, "--url", url]) == 1
        said, error = capsys.readouterr()
        assert said == "" and error.count("\n") == 1
        assert f"no worker answers at {url}/" in error and "is --url wrong?" in error
    monkeypatch.setenv("TIDEMARK_URL", url)
    assert main(["alerts", "list"]) == 1
    assert url in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["foo"], "expected a matcher such as"),
        (['x="1"', "--for", "abc"], "duration: expected a duration such as"),
        (['x=~".*"'], "got a silence for everything"),
        (['x="1"', "--comment", "y" * 1001], "comment: expected at most 1000 characters"),
    ],
)
def test_a_silence_that_is_wrong_is_wrong_usage_without_a_worker_too(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", "silence", *arguments, "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    said, error = capsys.readouterr()
    assert said == "" and error.count("\n") == 1 and expected in error


async def test_a_worker_that_does_not_answer_in_time_may_still_act(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_client, "TIMEOUT_S", 0.3)
    async with receiving() as other:
        other.otherwise = hang
        typed, url = Terminal(capsys, other.base_url), f"{other.base_url}/api/v1"
        late = "did not answer within 0.3 s"
        assert await typed.type("list") == (1, "", f"tidemark: error: {url}/alerts {late}\n")
        for arguments, asked, look in (
            (("silence", 'x="1"'), "silences", "silences"),
            (("unsilence", "s"), "silences/s", "silences"),
            (("ack", "a"), "alerts/a/ack", "list"),
        ):
            status, said, error = await typed.type(*arguments)
            assert (status, said) == (1, "")
            hint = f"it may still be carried out: look with tidemark alerts {look}"
            assert error == f"tidemark: error: {url}/{asked} {late}; {hint}\n"


@pytest.mark.parametrize("url", ["127.0.0.1:6066", "ftp://127.0.0.1", "http://", "http://[::1", "http://a:99999"])
def test_a_wrong_address_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "list", "--url", url]) == 2
    said, error = capsys.readouterr()
    assert said == "" and error.count("\n") == 1
    assert "--url: expected http://HOST:PORT" in error


@pytest.mark.parametrize("arguments", [[], ["list"], ["ack"], ["silence"], ["silences"], ["unsilence"]])
def test_the_help_has_an_example(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", *arguments, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "example:\n" in shown
    assert f"tidemark alerts {' '.join(arguments)}".rstrip() in shown.partition("example:")[2]


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["ack"], ["list", "--severity", "odd"], ["list", "--status", "resolved"]]
)
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
