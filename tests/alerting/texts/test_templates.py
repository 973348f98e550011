from __future__ import annotations

import logging
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.texts.template_filters import FILTERS, plain
from alerting.texts.templates import VARIABLES, compile_template, context_of
from tables.errors import ConfigError
from tests.alerting.samples import TEN_O_CLOCK, an_alert

NAMES = ("a", "b", "model_id", "labels", "items", "value", "at")


def rendered(source: str, **context: Any) -> str:
    return compile_template(source, "rules[0].summary", NAMES).render(context)


@pytest.mark.parametrize(
    ("source", "context", "text"),
    [
        ("{{ model_id }} is {{ value|percent }}", {"model_id": "home", "value": 0.0412}, "home is 4.1 %"),
        ("{{ value|percent(2) }}", {"value": 0.0412}, "4.12 %"),
        ("{{ value|number }}, {{ value|number(1) }}", {"value": 12_345.67}, "12,346, 12,345.7"),
        ("{{ value|duration }}", {"value": 5_400_000}, "1 h 30 min"),
        ("{{ at|time }}", {"at": TEN_O_CLOCK}, "2026-05-01 10:00 UTC"),
        ('{{ at|time("Asia/Shanghai") }}', {"at": TEN_O_CLOCK}, "2026-05-01 18:00 UTC+8"),
        ('{{ at|time("Asia/Kolkata") }}', {"at": TEN_O_CLOCK}, "2026-05-01 15:30 UTC+5:30"),
        ('{{ at|time("America/New_York") }}', {"at": TEN_O_CLOCK}, "2026-05-01 06:00 UTC-4"),
        ("{{ a|upper }}{{ a|lower }}", {"a": "aB"}, "ABab"),
        ('{{ a|default("nobody") }}', {}, "nobody"),
        ("{{ value|default(1) }}", {"value": 0}, "0"),
        ("{{ a|truncate(4) }}", {"a": "abcdefgh"}, "abc…"),
        ('{{ items|join(" + ") }}', {"items": [1, "b", 2.5]}, "1 + b + 2.5"),
        ("{{ a|escape }}", {"a": "a*b_[c](d)<e>#`\\"}, "a\\*b\\_\\[c\\]\\(d\\)\\<e\\>\\#\\`\\\\"),
        ("{{ labels.team }} {{ labels['team'] }}", {"labels": {"team": "recsys"}}, "recsys recsys"),
        ("{{ labels.items }}", {"labels": {"items": "a key, no method"}}, "a key, no method"),
        ("{{ items[0] }}{{ items[-1] }}{{ items[9] }}", {"items": ["a", "b"]}, "ab"),
        ("{% if value < 0.05 and not a %}low{% elif a %}a{% else %}fine{% endif %}", {"value": 0.04}, "low"),
        ("{% if value < 0.05 and not a %}low{% elif a %}a{% else %}fine{% endif %}", {"value": 0.04, "a": 1}, "a"),
        ("{% if a in ('x', 'y') or b %}yes{% else %}no{% endif %}", {"a": "y"}, "yes"),
        ("{{ 'high' if -1 < value < 3 else 'low' }}", {"value": 2}, "high"),
        ("{% for item in items %}<{{ item.text }}>{% endfor %}", {"items": [{"text": 1}, {"text": 2}]}, "<1><2>"),
        ("{% for item in items %}{{ item }}{% else %}none{% endfor %}", {"items": []}, "none"),
        ("{# not said #}{{ a }}|{{ b.c.d }}", {"a": None}, "|"),
        ("{{ a }} {{ b }}", {"a": True, "b": 0.1234567}, "true 0.123457"),
        ("{{ labels }}", {"labels": {"team": "recsys", "tier": 1}}, "team=recsys, tier=1"),
    ],
)
def test_what_templates_say(source: str, context: dict[str, Any], text: str) -> None:
    assert rendered(source, **context) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ modle_id }}", "unknown name 'modle_id' (did you mean 'model_id'?)"),
        ("{{ a|precent }}", "unknown filter 'precent' (did you mean 'percent'?)"),
        ("one\ntwo {{ a", "line 2 of the template: unexpected end of template"),
        ("{% if a %}", "line 1 of the template: Unexpected end of template"),
        ("{{ a|percent(1, 2) }}", "the filter percent has too many positional arguments"),
        ('{{ at|time("Mars/Olympus") }}', "expected a time zone such as Asia/Shanghai, got 'Mars/Olympus'"),
        ("{{ at|time(a) }}", "expected a zone in quotes"),
        ("{% for x in items %}{% for y in items %}{% endfor %}{% endfor %}", "expected one level of for"),
        ("{% for x in items if x %}{% endfor %}", "expected `for NAME in LIST`"),
        ("{% for x in items recursive %}{% endfor %}", "expected `for NAME in LIST`"),
        ("{% for x, y in items %}{% endfor %}", "expected `for NAME in LIST`"),
        ("{{ a + b }}", "+ is not allowed"),
    ],
)
def test_a_mistake_is_found_before_it_matters(source: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_template(source, "rules[0].summary", NAMES)
    message = str(caught.value)
    assert message.startswith("rules[0].summary: line ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ a.__class__ }}",
        "{{ a['__class__'] }}{{ a.__init__ }}",
        "{{ _a }}",
        "{{ a|attr('__class__') }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ lipsum.__globals__ }}",
        "{{ lipsum(n=100000) }}",
        "{{ joiner() }}{{ namespace() }}{{ dict() }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ a.b() }}",
        "{{ a.format(b) }}",
        "{{ '%s' % a }}",
        "{{ '%999999999d'|format(1) }}",
        "{{ 'a' * 10**9 }}",
        "{{ 10**10**10 }}",
        "{{ 2 ** 99999 }}",
        "{{ a ~ a }}",
        "{{ a - b }}{{ a / b }}{{ a // b }}{{ a % b }}",
        "{{ items[::1] }}",
        "{{ a is defined }}",
        "{{ {'a': 1} }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in items %}{{ loop }}{% endfor %}",
        "{% for __class__ in items %}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% from 'os' import environ %}",
        "{% extends 'base' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% call a() %}{% endcall %}",
        "{% set a = 1 %}",
        "{% set a %}x{% endset %}",
        "{% with a = 1 %}{% endwith %}",
        "{% filter upper %}x{% endfilter %}",
        "{% block a %}{% endblock %}",
        "{% autoescape false %}{% endautoescape %}",
        "{% do a.append(1) %}",
        "{% debug %}",
        "{{ a|map('upper')|list }}",
        "{{ a|tojson }}{{ a|pprint }}{{ a|xmlattr }}",
        "{{ a|join(*items) }}",
        "{{ a|join(**labels) }}",
        "{{ a|join(separator='x') }}",
        "{{ " + "(" * 3000 + "a" + ")" * 3000 + " }}",
        "{{ " + "not " * 1500 + "a }}",
        "{{ " + "-" * 3000 + "1 }}",
        "{{ a" + ".b" * 3000 + " }}",
        "{{ a" + ".b" * 40 + " }}",
        "{{ a" + "|upper" * 1000 + " }}",
        "{{ a" + " or a" * 1500 + " }}",
        "{% if a %}" * 400 + "{% endif %}" * 400,
        "{{ " + "9" * 6000 + " }}",
        "x" * 8193,
        "告" * 4000,
    ],
    ids=lambda source: source[:40],
)
def test_a_hostile_template_is_refused_at_once(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        compile_template(source, "rules[0].summary", NAMES)
    assert time.monotonic() - began < 20
    assert len(str(caught.value)) < 500


def test_python_objects_are_out_of_reach() -> None:
    class Thing:
        secret = "hush"

        def __str__(self) -> str:
            return "hush"

    assert rendered("{{ a }}{{ a.secret }}{{ a['secret'] }}{{ items[0] }}", a=Thing(), items=[Thing()]) == "ThingThing"
    assert (
        rendered("{{ a.upper }}{{ labels.get }}{{ value.real }}{{ a['__class__'] }}", a="x", labels={}, value=1) == ""
    )


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in items %}" + "{{ items|join }}" * 450 + "{% endfor %}",
        "{% for i in items %}" + "{% if items|join == a %}x{% endif %}" * 200 + "{% endfor %}",
        "{% for i in items %}" + "{{ '' }}" * 1000 + "{% endfor %}",
        "{{ a|upper }}" * 600,
        "{{ items }}{{ labels }}",
        "{{ value|number(999999999) }}{{ value|percent(-5) }}{{ a|truncate(999999999) }}",
    ],
    ids=lambda source: source[:40],
)
def test_what_is_allowed_stays_small_and_quick_however_large_the_values(source: str) -> None:
    template = compile_template(source, "rules[0].summary", NAMES)
    huge = {
        "a": "a" * 1_000_000,
        "items": ["b" * 1000] * 100_000,
        "labels": {str(number): "c" * 100_000 for number in range(1000)},
        "value": 1e17,
    }
    tracemalloc.start()
    try:
        began = time.monotonic()
        text = template.render(huge)
        took = time.monotonic() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(text) <= 8192
    assert took < 20
    assert peak < 32_000_000


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in items %}" + "{% if labels|lower == 1 %}{% endif %}" * 220 + "{% endfor %}",
        "{% for i in items %}" + "{% if labels in [labels, labels] %}{% endif %}" * 170 + "{% endfor %}",
        "{% for i in items %}" + "{{labels|truncate(1)}}" * 330 + "{% endfor %}",
    ],
    ids=["a filter", "a comparison", "a text of which little is shown"],
)
def test_work_that_leaves_no_text_is_counted_too(source: str) -> None:
    template = compile_template("kept {{ a }}, " + source, "rules[0].summary", NAMES)
    labels = {f"label-{number}": "x" * 1_000 for number in range(30)}
    began = time.process_time()
    text = template.render({"a": 1, "items": list(range(20)), "labels": labels})
    # It took seconds, at each alert.
    assert time.process_time() - began < 1
    assert text.startswith("kept 1, ")
    assert text.endswith("… (cut)")


def test_joining_stops_where_nobody_reads_on() -> None:
    items = ["b" * 8192] * 20_000
    tracemalloc.start()
    try:
        assert len(FILTERS["join"](items)) == 8192
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_is_empty_is_empty_as_a_number_too() -> None:
    assert rendered("{{ a|percent }}{{ a|number(2) }}{{ a|duration }}{{ a|time('Asia/Shanghai') }}.", a=None) == "."


def test_a_loop_ends_after_twenty_items() -> None:
    assert rendered("{% for item in items %}{{ item }},{% endfor %}", items=list(range(100_000))).endswith(",18,19,")


def test_a_long_text_is_cut_and_says_so() -> None:
    text = rendered("{{ a }}{{ a }}", a="x" * 6000)
    assert len(text) == 8192
    assert text.endswith("x… (cut)")


def test_a_mistake_in_one_place_leaves_the_rest_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    template = compile_template("{{ model_id }} {{ a|percent }}{% if a < 1 %}low{% endif %}.", "r.summary", NAMES)
    with caplog.at_level(logging.WARNING):
        assert template.render({"model_id": "home", "a": "x"}) == "home [TypeError in line 1]."
        assert template.render({"model_id": "home", "a": 0.5}) == "home 50.0 %low."
        assert template.render({"model_id": "home", "a": "x"}) == "home [TypeError in line 1]."
    assert [record.getMessage() for record in caplog.records] == [
        "r.summary: line 1 of the template: expected a number, got str"
    ]


SOURCES = st.lists(
    st.sampled_from(
        (
            *("{{ a }}", "{{ a|percent }}", "{{ a < b }}", "{{ a in b }}", "{{ -a }}", "{{ a[b] }}", "{{ a|join(b) }}"),
            *("{{ a|time }}", "{{ a|duration }}", "{{ a|truncate(b) }}", "{{ a|number(b) }}", "{{ a.x }}"),
            *("{% for x in a %}{{ x }}{% endfor %}", "{{ a|default(b)|upper }}", "{% if a > b %}x{% endif %}"),
        )
    )
).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5),
)


@given(SOURCES, VALUES, VALUES)
def test_rendering_never_raises_and_says_the_same_twice(source: str, a: Any, b: Any) -> None:
    template = compile_template(source, "r.summary", NAMES)
    assert template.render({"a": a, "b": b}) == template.render({"b": b, "a": a})


def test_values_that_are_no_text_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"r.summary: expected text \(put it in quotes\), got 5"):
        compile_template(5, "r.summary")


def test_plain_data_is_bounded() -> None:
    assert plain({"a": (1, [2, {"b": [3]}])}) == {"a": [1, [2, {"b": []}]]}
    assert len(plain(list(range(1000)))) == 100


def test_every_variable_is_there_and_documented() -> None:
    context = context_of(an_alert())
    assert set(context) == set(VARIABLES)


def test_the_context_of_an_alert() -> None:
    alert = an_alert(
        model_id="home\n\x1b[31m",
        related={
            "impressions": 10_000,
            "clicks": 412,
            "expression": "ctr < 5%",
            "owner": "recsys",
            "runbook": "https://wiki/ctr",
            "for_ms": 120_000,
        },
    )
    template = compile_template(
        "{{ model_id }}: {{ metric }} {{ value_text }} against {{ threshold_text }} for {{ lasted|duration }},"
        " {{ numbers.clicks|number }} of {{ numbers.impressions|number }} clicked; {{ labels.team }}, {{ owner }},"
        " {{ severity }}, {{ fired_at|time }}{{ resolved_at }}",
        "r.summary",
    )
    assert template.render(context_of(alert)) == (
        "home\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m: CTR 4.1 % against 5 % for 2 min,"
        " 412 of 10,000 clicked; recsys, recsys, major, 2026-05-01 10:04 UTC"
    )
