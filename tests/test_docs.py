"""What the documentation shows is so: configurations are read, commands exist, names are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from agents.channel_config import CHANNEL_TYPES
from agents.commands.main import COMMANDS, main
from agents.config import find_mistakes
from agents.metrics import Metrics
from alerting.alert import Alert
from alerting.desk.decisions import Reason as DeskReason
from alerting.notification import Link
from alerting.rules.decisions import Reason as RuleReason
from alerting.rules.metrics import METRICS, written
from alerting.rules.rule import DEFAULT_RULES, parse_rule
from alerting.sending.outcomes import OUTCOMES
from alerting.sql.query import parse_sql
from alerting.texts.alert_context import VARIABLES, context_of
from alerting.texts.rendering import render
from alerting.texts.template_filters import FILTERS
from tables.errors import ConfigError
from tables.reference import Reference
from tests.alerting.samples import MINUTE, TEN_O_CLOCK, an_alert, message_of

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ABOUT_ALERTING = ("docs/alerting.md", "docs/rules.md", "docs/reasons.md", "docs/sql-rules.md")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIDEMARK = re.compile(r"^\$ (tidemark .*(?:\\\n.*)*)$", re.MULTILINE)
_IN_TEXT = re.compile(r"`(tidemark [a-z][^`]*)`")
_WORD = re.compile(r"[a-z]+")

URLS = {
    "wecom": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abc",
    "dingtalk": "https://oapi.dingtalk.com/robot/send?access_token=abc",
    "feishu": "https://open.feishu.cn/open-apis/bot/v2/hook/abc",
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(kind: str) -> list[Any]:
    """The fenced blocks of a kind in all documents."""
    return [
        pytest.param(block, id=f"{path.name}:{number}")
        for path in DOCS
        for number, (found, block) in enumerate(_FENCED.findall(path.read_text(encoding="utf-8")), 1)
        if found == kind
    ]


def section(name: str, title: str) -> str:
    """What stands under a heading."""
    return re.split(r"^#+ ", text_of(name).split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """What the rows of tables begin with, if that is code."""
    return re.findall(r"^\| `([^`]+)` ", text, re.MULTILINE)


def commands() -> list[str]:
    shown = (path.read_text(encoding="utf-8") for path in DOCS)
    found = chain.from_iterable([*_TIDEMARK.findall(text), *_IN_TEXT.findall(text)] for text in shown)
    return sorted(set(found))


# -- configurations


def _put_what_it_names(shown: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the files that a configuration names, and return the variables that it does."""
    env = {}
    for channel in shown.get("channels", []):
        for key, value in channel.items():
            secret = URLS.get(channel["type"], "https://example.com/hook") if key.startswith("url_") else "secret"
            if key.endswith("_env"):
                env[value] = secret
            elif key.endswith("_file"):
                (folder / value).write_text(secret)
    for name in shown.get("drift", {}).get("references", []):
        reference = Reference(model_id="ranker", model_version=None, created_at_ms=0, source="docs", features=())
        (folder / name).write_bytes(reference.to_json())
    if name := shown.get("privacy", {}).get("hash_key_file"):
        (folder / name).write_text("0123456789abcdef")
    if name := shown.get("rules_file"):
        (folder / name).write_text("rules: []\n")
    return env


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_configuration_is_read_without_a_mistake(block: str, tmp_path: Path) -> None:
    text = block.replace("/run/secrets/", "")
    file = tmp_path / "tidemark.yaml"
    file.write_text(text)
    assert find_mistakes(file, _put_what_it_names(yaml.safe_load(text), tmp_path)) == []


def test_a_mistake_in_a_configuration_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "tidemark.yaml"
    file.write_text(blocks("yaml")[0].values[0].replace("ctr < 5%", "ctx < 5%"))
    assert find_mistakes(file, {}) != []


@pytest.mark.parametrize("block", blocks("sql"))
def test_a_query_is_one(block: str) -> None:
    parse_sql(block, "docs")


# -- commands


@pytest.mark.parametrize("line", commands())
def test_a_command_exists_with_its_options(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
    path = [word for word in words[:2] if _WORD.fullmatch(word)]
    assert path and path[0] in COMMANDS
    assert main([*path, "--help"]) == 0
    said = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--") and word != "--help"):
        assert re.search(rf"{option}\b", said), option


# -- names


def test_reasons_are_those_of_the_code() -> None:
    assert first_column(section("docs/reasons.md", "Rules")) == [reason.value for reason in RuleReason]
    assert first_column(section("docs/reasons.md", "The desk")) == [reason.value for reason in DeskReason]
    assert set(first_column(section("docs/reasons.md", "Channels"))) == {*OUTCOMES, "below_severity"}


def test_what_templates_can_say_is_what_they_can() -> None:
    templates = section("docs/rules.md", "Templates")
    for name, meaning in VARIABLES.items():
        assert f"| `{name}` | {meaning} |" in templates
    shown = re.findall(r"^\| `(\w+)(?:\(.*\))?`(?:, `(\w+)`)? \|", templates, re.MULTILINE)
    assert {name for names in shown for name in names if name} == VARIABLES.keys() | FILTERS.keys()


def test_what_rules_can_say_is_what_they_can() -> None:
    conditions = section("docs/rules.md", "Conditions")
    for name in METRICS:
        assert f"`{written(name)}`" in conditions
    with pytest.raises(ConfigError) as unknown:
        parse_rule({"name": "a", "expr": "ctr < 5%", "?": 1})
    keys = set(str(unknown.value).rpartition("expected some of ")[2].split(", "))
    shown = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", section("docs/rules.md", "Keys"), re.M))))
    assert shown == keys - {"min_impressions"}
    for rule in DEFAULT_RULES:
        assert f"| `{rule.name}` | `{rule.expression}` |" in section("docs/rules.md", "The default rules")


def test_channels_are_those_that_there_are() -> None:
    assert set(first_column(section("docs/alerting.md", "Channels"))) == set(CHANNEL_TYPES)


def test_metrics_are_exported_with_these_labels() -> None:
    metrics = (metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase))
    exported = {metric._name: set(metric._labelnames) for metric in metrics}
    shown = re.findall(r"`(tidemark_\w+?)(?:_total)?(?:\{([\w,]+)\})?`", "".join(map(text_of, ABOUT_ALERTING)))
    assert len(shown) >= 5
    for name, labels in shown:
        assert exported[name] == {label for label in labels.split(",") if label}


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCS:
        for target, _, anchor in re.findall(r"\]\(([\w./-]+\.md)(#([\w-]+))?\)", path.read_text(encoding="utf-8")):
            found = path.parent / target
            assert found.exists(), f"{path.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}


# -- examples of what is said


def the_alert() -> Alert:
    """As the simulated promotion gives it."""
    shifts = (("new_user", "true", 0.4123, 0.1978, 0.4958), ("gender", "M", 0.2384, 0.3662, 0.4965))
    return an_alert(
        alert_id="59a9a95004634c17",
        model_version="v3",
        value=0.039852271751266856,
        fired_at=TEN_O_CLOCK + 3 * MINUTE,
        summary="CTR of recommender-home v3 is 4.0 %, below 5 % for 2 min (11,643 shown, 464 clicked, 10:01-10:02 UTC)",
        causes=tuple(
            {
                "kind": "drift",
                "feature": feature,
                "bin": name,
                "psi": psi,
                "level": "severe",
                "n": 13357,
                "reference_share": before,
                "share": after,
            }
            for feature, name, psi, before, after in shifts
        ),
        related={
            "impressions": 11643,
            "clicks": 464,
            "comparison": "<",
            "expression": "ctr < 5%",
            "metric": "ctr",
            "for_ms": 2 * MINUTE,
            "owner": "search-team",
            "runbook": "https://wiki.example.com/ctr",
            "window_start": TEN_O_CLOCK + MINUTE,
            "window_end": TEN_O_CLOCK + 2 * MINUTE,
        },
    )


def test_messages_are_as_shown() -> None:
    base = "https://tidemark.example.com/a/"
    links = (Link(title="acknowledge", url=f"{base}WyJhY2tub3ds…"), Link(title="silence", url=f"{base}WyJzaWxlbmNl…"))
    (note,) = message_of(the_alert()).notifications
    shown = section("docs/alerting.md", "What a message says")
    english, chinese = render(note, locale="en", links=links), render(note, locale="zh")
    assert f"```\n{english.title}\n{english.text}\n{chinese.title}\n{chinese.text}```" in shown


def test_a_summary_is_as_shown() -> None:
    shown = section("docs/rules.md", "Templates")
    (source,) = (block for kind, block in _FENCED.findall(shown) if kind == "yaml")
    template = parse_rule(yaml.safe_load(source)["rules"][0]).template
    assert template is not None
    said = " ".join(template.render(context_of(the_alert())).split())
    assert f"```\n{said}\n```" in shown
