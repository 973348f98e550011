"""What the notifier relies on, for every kind of channel there is."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.channels.base import DeliveryFailed
from alerting.message import LOCALES, Locale, Message
from alerting.notification import Link
from alerting.texts.rendering import render
from tests.alerting.channels.kind import TIMEOUT_S, Bench, Kind, Scenario
from tests.alerting.channels.kinds import KINDS
from tests.alerting.samples import an_alert, message_of

ACK_TOKEN = "bG9uZw-token_77"
ACK = f"https://tidemark.example.com/a/{ACK_TOKEN}"
#: Each would be a link, a mention, or mark-up to one tool or another.
HOSTILE = (
    "<@all> <!channel> <@U012AB3CD> <at id=all></at> <https://evil.example|ranker> [ranker](https://evil.example)",
    "![x](http://evil.example/x.png) https://evil.example/ www.evil.example `code` *bold* ~~gone~~ &#60;at id=all&#62;",
    "# heading",
    "> quote",
    "a\\",
    "](https://evil.example) **",
    "<font color='info'>all is well</font>",
)

people = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.read is not None], ids=lambda kind: kind.name)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found = request.param
    assert isinstance(found, Kind)
    return found


@pytest.fixture
async def bench(kind: Kind) -> AsyncIterator[Bench]:
    async with kind.bench() as bench:
        yield bench


async def deliver(bench: Bench, message: Message) -> None:
    for parcel in bench.channel.prepare(message):
        await bench.channel.send(parcel)


def escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]()<>#])", r"\\\1", text)


def squeezed(text: str) -> str:
    """What is left of a text when line breaks and look-alikes do not count."""
    return "".join(unicodedata.normalize("NFKC", "".join(text.split())).split())


def test_it_has_a_name_and_says_what_the_other_side_takes(kind: Kind) -> None:
    channel = kind.make()
    assert channel.name
    assert channel.digest_bytes >= 0
    assert all(budget.parcels > budget.reserve >= 0 for budget in channel.budgets)


async def test_when_send_returns_the_alert_is_there(bench: Bench) -> None:
    await deliver(bench, message_of())
    arrived = "".join(bench.arrived())
    for part in ("CTR of recommender-home v3 is 4.1 %", "ctr-low", "00000000000000a1", "major"):
        assert part in arrived


async def test_firing_and_resolved_can_be_told_apart(bench: Bench) -> None:
    await deliver(bench, message_of())
    await deliver(bench, message_of(an_alert(status="resolved", resolved_at=1_777_630_000_000)))
    firing, resolved = (text.lower() for text in bench.arrived())
    assert firing != resolved
    assert "resolve" in resolved


@pytest.mark.parametrize("locale", LOCALES)
async def test_text_of_any_locale_arrives_as_it_is(kind: Kind, bench: Bench, locale: Locale) -> None:
    said = {"en": "CTR is 4.1 % – below 5 %", "zh": "点击率 4.1 %，低于阈值 5 %（首页推荐）"}[locale]
    alert = an_alert(summary=said)
    await deliver(bench, message_of(alert, locale=locale))
    assert said in "".join(bench.arrived())


def test_parcels_have_the_same_keys_whenever_they_are_made(kind: Kind) -> None:
    message = message_of(text="word " * 5000, markdown="word " * 5000)
    once, again = (kind.make().prepare(message) for _ in range(2))
    assert [(parcel.key, parcel.headers) for parcel in once] == [(parcel.key, parcel.headers) for parcel in again]
    other = kind.make().prepare(message_of(an_alert(alert_id="00000000000000b2")))
    keys = [parcel.key for parcel in (*once, *other)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("scenario", get_args(Scenario))
async def test_what_the_other_side_can_do(bench: Bench, scenario: Scenario) -> None:
    expected = bench.play(scenario)
    began = time.monotonic()
    if expected is None:
        await deliver(bench, message_of())
    else:
        with pytest.raises(DeliveryFailed) as caught:
            await deliver(bench, message_of())
        failure = caught.value
        assert failure.reason == str(failure) != ""
        assert failure.reason.isprintable() and len(failure.reason) < 300
        assert (failure.retryable, failure.throttled) == (expected.retryable, expected.throttled)
        assert failure.retry_after_s == expected.wait_s
    assert time.monotonic() - began < 20 * TIMEOUT_S


@pytest.mark.parametrize("scenario", ["busy", "throttled", "hang", "reset"])
async def test_after_a_failure_it_works_again(bench: Bench, scenario: Scenario) -> None:
    bench.play(scenario)
    (parcel,) = bench.channel.prepare(message_of())
    with pytest.raises(DeliveryFailed):
        await bench.channel.send(parcel)
    before = len(bench.arrived())
    await bench.channel.send(parcel)
    assert len(bench.arrived()) == before + 1


@pytest.mark.parametrize("scenario", get_args(Scenario))
async def test_secrets_are_shown_nowhere(
    kind: Kind, bench: Bench, scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bench.play(scenario)
    message = message_of(links=(Link(title="Acknowledge", url=ACK),), markdown=f"[Acknowledge]({ACK})")
    shown = [repr(bench.channel), str(bench.channel), repr(message), repr(bench.channel.prepare(message))]
    try:
        await deliver(bench, message)
    except DeliveryFailed as failure:
        shown += [failure.reason, repr(failure), *traceback.format_exception(failure)]
    shown.append(caplog.text)
    for secret in (*kind.secrets, ACK_TOKEN):
        assert secret not in "\n".join(shown)


async def test_cancelled_while_it_waits_it_lets_go_at_once(bench: Bench) -> None:
    bench.play("hang")
    (parcel,) = bench.channel.prepare(message_of())
    sending = asyncio.create_task(bench.channel.send(parcel))
    await asyncio.sleep(TIMEOUT_S / 10)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(sending, 10)
    await bench.channel.send(parcel)


async def test_closed_twice_and_used_again(bench: Bench) -> None:
    await bench.channel.close()
    await deliver(bench, message_of())
    await bench.channel.close()
    await bench.channel.close()
    await deliver(bench, message_of())
    assert len(bench.arrived()) == 2


@people
@given(
    text=st.lists(
        st.builds(
            lambda piece, times: piece * times,
            st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
            | st.text("a*_[](<>&\\`~#:/w. 点👩‍💻é", max_size=40),
            st.integers(1, 400),
        ),
        max_size=6,
    ).map("\n".join)
)
def test_of_a_long_text_no_letter_is_lost_and_each_part_fits(kind: Kind, text: str) -> None:
    message = message_of(title="Title", markdown=escaped(text) or " ", text=text)
    assert kind.read is not None
    parcels = kind.make().prepare(message)
    assert squeezed("".join(kind.read(parcel) for parcel in parcels)) == squeezed(text)
    assert max(kind.size(parcel) for parcel in parcels) <= kind.limit


@people
def test_each_part_of_a_long_text_says_which_of_how_many_it_is(kind: Kind) -> None:
    line = "点击率 4.1 %，低于阈值\n"
    parcels = kind.make().prepare(message_of(title="告警" * 500, markdown=line * 8000, text=line * 8000))
    count = len(parcels)
    for number, parcel in enumerate(parcels, 1):
        assert kind.size(parcel) <= kind.limit
        assert count == 1 or f"({number}/{count})" in str(parcel.body)


@people
def test_a_digest_of_the_size_asked_for_is_one_parcel(kind: Kind) -> None:
    channel = kind.make()
    line = "- major 点击率 of recommender-home v3 is 4.1 %, below 5 %, alert 00000000000000a1\n"
    markdown = line * (channel.digest_bytes // len(line.encode()) - 1)
    assert len(channel.prepare(message_of(title="12 alerts", markdown=markdown, text=markdown))) == 1


@people
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(kind: Kind, text: str) -> None:
    if kind.live is None:
        pytest.skip("nothing in it can be clicked on")
    own = f"[Acknowledge]({ACK})\n"
    hostile = f"{escaped(text)}\n{escaped(text)} **{escaped(text)}** and on\n"
    parcels = kind.make().prepare(message_of(title=text, text=text, markdown=hostile))
    assert [kind.live(parcel) for parcel in parcels] == [[]]
    parcels = kind.make().prepare(message_of(title=text, text=text, markdown=own + hostile))
    assert [kind.live(parcel) for parcel in parcels] == [[ACK]]


@people
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_the_words_of_a_locale(kind: Kind, text: str, locale: Locale) -> None:
    if kind.live is None or kind.read is None:
        pytest.skip("nothing in it can be clicked on")
    cause = {"kind": "drift", "text": text, "feature": text, "psi": 0.4, "level": "severe", "bin": text}
    alert = an_alert(
        rule=text,
        model_id=text,
        model_version=text,
        labels={text: text},
        summary=text,
        causes=(cause,),
        related={"expression": text, "metric": text, "owner": text, "runbook": text, "feature": text},
    )
    note = replace(message_of(alert).notifications[0], mentions=(text,), fallback_of=(text,), why=text)
    link = Link(title="Acknowledge", url=ACK)
    for parcel in kind.make().prepare(render(note, locale=locale, links=(link,))):
        assert set(kind.live(parcel)) <= {ACK, ">"}  # causes are quoted
        assert squeezed(text) in squeezed(kind.read(parcel))
