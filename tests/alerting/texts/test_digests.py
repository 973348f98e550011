from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.alert import Alert
from alerting.message import LOCALES, Locale, Message
from alerting.texts.rendering import render_digest
from tests.alerting.notes import DRIFT, HOSTILE, NO_DATA, OVER, SQL, a_note, many


def test_a_digest_has_one_line_for_an_alert_and_the_last_word_on_it() -> None:
    notes = [
        a_note(key="k1"),
        a_note(replace(DRIFT, alert_id="d1"), key="k2"),
        a_note(replace(SQL, alert_id="s1"), key="k3"),
        a_note(replace(NO_DATA, alert_id="n1"), key="k4"),
        a_note(OVER, key="k5", stage="resolved"),
    ]
    message, taken = render_digest(notes, locale="en", limit_bytes=4096)
    assert taken == 5
    assert message.title == "[Major] Digest: 3 firing, 1 acknowledged or resolved"
    assert message.text == (
        "- Major resolved: recommender-home v3 · CTR 8.0 %, no longer below 5 % · 00000000000000a1\n"
        "- Minor firing: recommender-home v3 · PSI of gender 0.41, at or above 0.2 · d1\n"
        "- Major firing: recommender-home v3 · many-errors 120, threshold 100 · s1\n"
        "- Major firing: recommender-home v3 · no data of CTR · n1\n"
        "Acknowledge: tidemark alerts ack ID\n"
    )
    assert (message.stage, message.severity, message.notifications) == ("digest", "major", tuple(notes))
    assert message.key not in {note.key for note in notes}
    chinese, _ = render_digest(notes[3:], locale="zh", limit_bytes=4096)
    assert chinese.title == "【重要】汇总：1 条触发中，1 条已确认或已恢复"
    assert chinese.markdown == (
        "- **重要** 触发中：recommender-home v3 · 点击率没有数据 · n1\n"
        "- **重要** 已恢复：recommender-home v3 · 点击率 8.0%，已不再低于 5% · 00000000000000a1\n"
        "确认告警：tidemark alerts ack 编号\n"
    )


def test_a_digest_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        render_digest([], locale="en", limit_bytes=4096)


def size_of(message: Message) -> int:
    return len(message.title.encode()) + len(message.markdown.encode())


@given(
    st.lists(st.lists(st.sampled_from([*many(30), *many(30, model_id=HOSTILE)]), min_size=1, max_size=8), max_size=30),
    st.integers(200, 8192),
    st.sampled_from(LOCALES),
)
def test_a_digest_takes_from_the_front_what_fits(groups: list[list[Alert]], limit: int, locale: Locale) -> None:
    notes = [a_note(*alerts, key=str(place)) for place, alerts in enumerate(groups)] or [a_note()]
    message, taken = render_digest(notes, locale=locale, limit_bytes=limit)
    assert message.notifications == tuple(notes[:taken])
    assert taken == 1 or (taken > 1 and size_of(message) <= limit)
    for body in (message.text, message.markdown):
        for alert in message.alerts:
            assert body.count(f" · {alert.alert_id}\n") == 1
    if taken < len(notes):
        # It could not have taken many more: what is kept free is for the title.
        more, _ = render_digest(notes[: taken + 1], locale=locale, limit_bytes=10**6)
        assert size_of(more) > limit - 240
