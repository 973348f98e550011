"""The configuration: what overrides what, what it holds, and how its mistakes are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agents.config import Config, Overrides, find_mistakes, load_config
from alerting.rules.rule import DEFAULT_RULES
from tables.errors import ConfigError
from tables.join_policy import JoinPolicy

NOTHING: Mapping[str, str] = {}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages name files without their folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, env: Mapping[str, str] = NOTHING, overrides: Overrides | None = None) -> Config:
    Path("tidemark.yaml").write_text(text)
    return load_config("tidemark.yaml", env, overrides)


def mistakes_of(text: str, env: Mapping[str, str] = NOTHING) -> list[str]:
    Path("tidemark.yaml").write_text(text)
    return find_mistakes("tidemark.yaml", env)


def test_nothing_at_all_is_a_configuration() -> None:
    config = load_config(None, NOTHING)
    assert (config.group, config.broker, config.store) == (
        "tidemark",
        "kafka://localhost:9092",
        "redis://localhost:6379/0",
    )
    assert (config.web.host, config.web.port, config.web.port_was_asked) == ("127.0.0.1", 6066, False)
    assert config.join == JoinPolicy()
    assert config.rules == DEFAULT_RULES
    assert [channel.type for channel in config.channels] == ["terminal"]
    assert config.kafka.max_fetch_bytes == 4 * 1024 * 1024
    assert (config.kafka.instance_id, config.kafka.heartbeat_interval_ms) == (None, 3_000)


def test_the_instance_id_of_the_environment_beats_the_files(folder: Path) -> None:
    text, name = "kafka: {instance_id: file}", "TIDEMARK_KAFKA_INSTANCE_ID"
    assert load(text).kafka.instance_id == load(text, {name: ""}).kafka.instance_id == "file"
    kafka = load(text, {name: "worker-0"}).kafka
    # Quicker to beat: one that was replaced must hear of it soon.
    assert (kafka.instance_id, kafka.heartbeat_interval_ms) == ("worker-0", 1_000)
    expected = "expected 1 to 100 letters, digits, dots, dashes and underscores"
    assert mistakes_of(text, {name: "a b"}) == [f'{name}: {expected}, got "a b"']
    assert mistakes_of("\nkafka: {instance_id: a/b}") == [
        f'tidemark.yaml:2: kafka.instance_id: {expected}, got "a/b"',
    ]


def test_an_empty_file_is_the_defaults_too(folder: Path) -> None:
    assert load("") == load("# to be done\n") == load("web:\njoin: {}\n") == load_config(None, NOTHING)


def test_a_full_file_is_read(folder: Path) -> None:
    (folder / "hash.key").write_bytes(b"0123456789abcdef\n")
    config = load(
        """
        group: shop
        broker: kafka://a:1,b
        store: redis+cluster://r1:7000,r2:7000
        topics: {prefix: "shop.", partitions: 12, replication: 3}
        join:
          attribution: last
          attribution_window: 30m
          out_of_orderness: 1500ms
          idle_after: 20
          max_rows_per_partition: 1000
          max_models: 50
        timing: {emit_interval: 2s, checkpoint_interval: 500ms}
        privacy: {hash_key_file: hash.key}
        web: {host: 0.0.0.0, port: 8080}
        kafka: {session_timeout: 45s, heartbeat_interval: 5s, max_fetch_bytes: 1MiB, instance_id: worker-0}
        rules:
          - {name: ctr-low, expr: "ctr < 5%", for: 2m, min_impressions: 500, severity: major, model: "*"}
        channels:
          - {type: webhook, name: ops, url: "https://e.com/hook", secret_env: OPS, min_severity: critical}
          - {type: terminal}
        """,
        env={"OPS": "s3cret"},
    )
    assert config.group == "shop"
    assert config.bootstrap == ("a:1", "b:9092")
    assert (config.topics.partitions, config.topics.replication) == (12, 3)
    assert config.join == JoinPolicy(
        attribution="last",
        attribution_ms=1_800_000,
        out_of_orderness_ms=1_500,
        idle_after_ms=20_000,
        max_rows=1_000,
        max_models=50,
    )
    assert (config.timing.emit_interval_ms, config.timing.checkpoint_interval_ms) == (2_000, 500)
    assert config.privacy.secret == b"0123456789abcdef"
    assert (config.web.host, config.web.port, config.web.port_was_asked) == ("0.0.0.0", 8080, True)
    assert (config.kafka.session_timeout_ms, config.kafka.max_fetch_bytes) == (45_000, 2**20)
    assert (config.kafka.instance_id, config.kafka.heartbeat_interval_ms) == ("worker-0", 5_000)
    assert [rule.name for rule in config.rules] == ["ctr-low"]
    webhook, terminal = config.channels
    assert (webhook.name, webhook.secret, webhook.min_severity) == ("ops", "s3cret", "critical")
    assert (terminal.name, terminal.min_severity) == ("terminal", None)


def test_every_topic_carries_the_prefix(folder: Path) -> None:
    topics = load('topics: {prefix: "eu."}').topics
    assert topics.inputs == ("eu.impressions", "eu.clicks", "eu.inferences", "eu.outcomes", "eu.changes")
    assert topics.outputs == (
        "eu.tidemark.windows",
        "eu.tidemark.alerts",
        "eu.tidemark.dead_letters",
        "eu.tidemark.partials",
        "eu.tidemark.commands",
    )


def test_the_command_line_beats_the_environment_which_beats_the_file(folder: Path) -> None:
    text = "broker: kafka://file\nstore: redis://file\nweb: {port: 1000}"
    env = {
        "TIDEMARK_BROKER": "kafka://env",
        "TIDEMARK_STORE": "redis://env",
        "TIDEMARK_WEB_PORT": "2000",
    }
    options: Overrides = {"broker": "memory://", "store": "redis://line", "web_port": "3000", "web_host": "h"}

    file = load(text)
    assert (file.broker, file.store, file.web.port) == ("kafka://file:9092", "redis://file", 1000)
    environment = load(text, env)
    assert (environment.broker, environment.store, environment.web.port) == (
        "kafka://env:9092",
        "redis://env",
        2000,
    )
    line = load(text, env, options)
    assert (line.broker, line.store, line.web.port, line.web.host) == ("memory://", "redis://line", 3000, "h")
    assert line.in_memory and line.bootstrap == ()


def test_an_option_or_variable_that_is_empty_says_nothing(folder: Path) -> None:
    config = load("broker: kafka://file:1", {"TIDEMARK_BROKER": ""}, {"broker": None, "web_port": None})
    assert config.broker == "kafka://file:1"
    assert not config.web.port_was_asked


def test_the_environment_may_name_the_file(folder: Path) -> None:
    Path("other.yaml").write_text("group: other")
    assert load_config(None, {"TIDEMARK_CONFIG": "other.yaml"}).group == "other"
    # The option wins.
    Path("mine.yaml").write_text("group: mine")
    assert load_config("mine.yaml", {"TIDEMARK_CONFIG": "other.yaml"}).group == "mine"


@pytest.mark.parametrize("port", [0, 65536, -1, "http", 80.5, True])
def test_a_port_that_is_none(folder: Path, port: object) -> None:
    with pytest.raises(ConfigError, match="expected a port from 1 to 65535"):
        load(f"web: {{port: {str(port).lower()}}}")


def test_a_wrong_option_or_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r'^--web-port: expected a port from 1 to 65535, got "99999"$'):
        load_config(None, NOTHING, {"web_port": "99999"})
    with pytest.raises(ConfigError, match=r'^TIDEMARK_WEB_PORT: expected a port from 1 to 65535, got "web"$'):
        load_config(None, {"TIDEMARK_WEB_PORT": "web"})
    with pytest.raises(ConfigError, match=r'^--broker: expected kafka://host:port,\.\.\. or memory://, got "x"$'):
        load_config(None, NOTHING, {"broker": "x"})
    with pytest.raises(ConfigError, match=r"^TIDEMARK_STORE: .*http"):
        load_config(None, {"TIDEMARK_STORE": "http://localhost"})


def test_the_token_of_the_api_comes_from_the_environment_only(folder: Path) -> None:
    config = load_config(None, {"TIDEMARK_WEB_TOKEN": "0123456789abcdef"})
    assert config.web.token == "0123456789abcdef"
    assert not replace(config.web, host="0.0.0.0").is_open_to_others
    assert replace(config.web, host="0.0.0.0", token="").is_open_to_others
    assert not load_config(None, {}).web.is_open_to_others
    with pytest.raises(ConfigError, match=r"^TIDEMARK_WEB_TOKEN: expected 16 or more printable characters") as caught:
        load_config(None, {"TIDEMARK_WEB_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"web.token: a secret does not belong in this file: set TIDEMARK_WEB_TOKEN"):
        load("web: {token: hunter2}")


@pytest.mark.parametrize(
    ("text", "env", "named"),
    [
        ("", {"TIDEMARK_WEB_TOKEN": "0123456789abcdef"}, "TIDEMARK_WEB_TOKEN"),
        ("links: {base_url: 'https://tidemark.example.com'}", {}, "links.base_url"),
    ],
)
def test_links_that_others_reach_are_not_signed_with_the_key_that_everybody_knows(
    folder: Path, text: str, env: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{named}: expected a hash key too.* set TIDEMARK_HASH_KEY"):
        load(text, env).check_links()
    load(text, {**env, "TIDEMARK_HASH_KEY": "a key of sixteen bytes"}).check_links()
    load_config(None, {}).check_links()


KINDS_OF_CHANNEL = "terminal, webhook, alertmanager, wecom, dingtalk, feishu, slack, pagerduty or email"
ONE_MISTAKE = [
    ("gruop: x", 1, "gruop", "unknown key; did you mean group?"),
    ("group: a b", 1, "group", 'expected 1 to 100 letters, digits, dots, dashes and underscores, got "a b"'),
    ("\nbroker: amqp://x", 2, "broker", 'expected kafka://host:port,... or memory://, got "amqp://x"'),
    ("broker: kafka://", 1, "broker", 'expected kafka://host:port,... or memory://, got "kafka://"'),
    ("broker: kafka://h:0", 1, "broker", 'expected a port from 1 to 65535, got "kafka://h:0"'),
    (
        "topics:\n  prefix: a/b",
        2,
        "topics.prefix",
        'expected at most 200 letters, digits, dots, dashes and underscores, got "a/b"',
    ),
    ("topics:\n  partitions: 0", 2, "topics.partitions", "expected a whole number from 1 to 10000, got 0"),
    ("join: {attribution: first}", 1, "join.attribution", 'expected all or last, got "first"'),
    ("join:\n  idle_after: soon", 2, "join.idle_after", 'expected a duration such as 90s or 2m, got "soon"'),
    (
        "join:\n  attribution_window: 90s",
        2,
        "join.attribution_window",
        'expected whole minutes such as 10m, got "90s"',
    ),
    ("join: 10m", 1, "join", 'expected a mapping, got "10m"'),
    (
        "timing:\n  emit_interval: 0s",
        2,
        "timing.emit_interval",
        'expected a duration from 10ms to 1h, got "0s"',
    ),
    (
        "kafka:\n  max_fetch_bytes: 4 apples",
        2,
        "kafka.max_fetch_bytes",
        'expected a size such as 512KiB or 4MiB, got "4 apples"',
    ),
    (
        "kafka:\n  heartbeat_interval: 10s",
        2,
        "kafka.heartbeat_interval",
        "expected less than the session timeout of 10000 ms, got 10000 ms",
    ),
    ("rules: none", 1, "rules", 'expected a list, got "none"'),
    ("rules:\n  - ctr < 5%", 2, "rules[0]", 'expected a mapping, got "ctr < 5%"'),
    ("channels:\n  - name: x", 2, "channels[0]", f"expected a type: {KINDS_OF_CHANNEL}"),
    ("channels:\n  - type: pager", 2, "channels[0].type", f'expected {KINDS_OF_CHANNEL}, got "pager"'),
    ("channels:\n  - type: webhook", 2, "channels[0]", "a webhook needs url, url_env or url_file"),
    (
        "channels:\n  - {type: webhook, url_env: HOOK}",
        2,
        "channels[0].url_env",
        "the environment variable HOOK is not set",
    ),
    (
        "channels: [{type: terminal}, {type: terminal}]",
        1,
        "channels[1].name",
        'the name "terminal" is taken by another channel: give each its own',
    ),
    (
        "channels:\n  - {type: terminal, url: x}",
        2,
        "channels[0].url",
        "unknown key; known are fallback, locale, min_severity, name, rate, time_zone, type",
    ),
]


@pytest.mark.parametrize(("text", "line", "field", "said"), ONE_MISTAKE)
def test_a_mistake_is_one_line_with_its_place(folder: Path, text: str, line: int, field: str, said: str) -> None:
    mistake = f"tidemark.yaml:{line}: {field}: {said}"
    assert mistakes_of(text) == [mistake]
    with pytest.raises(ConfigError) as raised:
        load(text)
    assert str(raised.value) == mistake


def test_a_mistake_in_a_rule_has_the_line_of_its_field(folder: Path) -> None:
    (mistake,) = mistakes_of("rules:\n  - name: low\n    expr: ctr < 5%\n    for: soon\n")
    assert mistake.startswith("tidemark.yaml:4: rules[0].for: expected a duration")
    assert "soon" in mistake
    (mistake,) = mistakes_of("rules:\n  - name: low\n    expr: ctr < 5%\n    fro: 2m\n")
    assert mistake.startswith("tidemark.yaml:2: rules[0]: unknown key 'fro'")


def test_two_rules_of_one_name(folder: Path) -> None:
    rule = "{name: low, expr: ctr < 5%}"
    (mistake,) = mistakes_of(f"rules:\n  - {rule}\n  - {rule}\n")
    assert mistake == 'tidemark.yaml:3: rules[1].name: the name "low" is taken by another rule'


def test_no_rules_and_no_channels_can_be_asked_for(folder: Path) -> None:
    config = load("rules: []\nchannels: []")
    assert (config.rules, config.channels) == ((), ())


def test_all_mistakes_are_found_and_the_first_says_how_many_more(folder: Path) -> None:
    text = "web: {port: 0}\nrules: [{name: low}]\ngroup: ''\n"
    broker, *file = mistakes_of(text, {"TIDEMARK_BROKER": "x"})
    assert broker.startswith("TIDEMARK_BROKER: expected kafka://")
    assert [mistake.split(": ")[:2] for mistake in file] == [
        ["tidemark.yaml:1", "web.port"],
        ["tidemark.yaml:2", "rules[0].expr"],
        ["tidemark.yaml:3", "group"],
    ]
    with pytest.raises(ConfigError, match=r"web\.port: .* \(and 2 more, see tidemark check\)$"):
        load(text)


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.yaml: cannot be read: No such file or directory$"):
        load_config("nowhere.yaml", NOTHING)


# Secrets.


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("privacy: {hash_key: 0123456789abcdef}", "hash_key_file"),
        ("kafka: {security: {protocol: SASL_SSL, username: u, password: hunter2}}", "password_env"),
        ("channels: [{type: webhook, url: 'http://h', secret: hunter2}]", "secret_env"),
        ("store: redis://:hunter2@localhost", "TIDEMARK_STORE"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(folder: Path, text: str, hint: str) -> None:
    (mistake,) = mistakes_of(text)
    assert mistake.startswith("tidemark.yaml:1: ")
    assert hint in mistake
    assert "hunter2" not in mistake and "0123" not in mistake


def test_secrets_come_from_the_environment_and_show_nowhere(folder: Path) -> None:
    config = load(
        """
        kafka: {security: {protocol: sasl_ssl, mechanism: scram-sha-512, username: u, password_env: PW}}
        channels: [{type: webhook, name: ops, url_env: HOOK, secret_env: SIGN}]
        """,
        env={
            "PW": "hunter1",
            "HOOK": "https://example.com/hunter2",
            "SIGN": "hunter3",
            "TIDEMARK_HASH_KEY": "hunter4-hunter4-hunter4",
            "TIDEMARK_STORE": "redis://:hunter5@localhost",
        },
    )
    assert config.kafka.security.password == "hunter1"
    assert config.channels[0].url == "https://example.com/hunter2"
    assert config.channels[0].secret == "hunter3"
    assert config.privacy.secret == b"hunter4-hunter4-hunter4"
    assert config.redacted_store == "redis://***@localhost:6379/0"
    shown = f"{config} {config.kafka} {config.channels} {config.privacy}"
    assert "hunter" not in shown


def test_a_url_from_the_environment_is_not_shown_when_it_is_wrong(folder: Path) -> None:
    text = "channels: [{type: webhook, url_env: HOOK}]"
    (mistake,) = mistakes_of(text, {"HOOK": "hunter2"})
    assert "url_env" in mistake and "hunter2" not in mistake


def test_a_password_from_a_file_beside_the_configuration(folder: Path) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "password").write_text("hunter2\n")
    (folder / "conf" / "t.yaml").write_text(
        "kafka: {security: {protocol: SASL_PLAINTEXT, username: u, password_file: password}}"
    )
    assert load_config("conf/t.yaml", NOTHING).kafka.security.password == "hunter2"


def test_sasl_needs_to_know_who_we_are(folder: Path) -> None:
    found = mistakes_of("kafka: {security: {protocol: SASL_SSL}}")
    assert [mistake.rpartition(": ")[2] for mistake in found] == [
        "SASL_SSL needs a username too",
        "SASL_SSL needs password_env or password_file too",
    ]


def test_without_a_hash_key_the_development_key_is_used_and_a_reason_to_warn_given() -> None:
    privacy = load_config(None, NOTHING).privacy
    assert privacy.is_development_key
    assert "TIDEMARK_HASH_KEY" in privacy.warning
    configured = load_config(None, {"TIDEMARK_HASH_KEY": "0123456789abcdef"}).privacy
    assert configured.warning == ""
    assert len(configured.hash_key) == len(privacy.hash_key) == 16
    assert configured.hash_key != privacy.hash_key


def test_a_short_hash_key_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="TIDEMARK_HASH_KEY: expected a key of 16 bytes or more, got 15"):
        load_config(None, {"TIDEMARK_HASH_KEY": "x" * 15})
    (folder / "short").write_bytes(b"x" * 15 + b"\n")
    with pytest.raises(ConfigError, match="hash_key_file: expected a file with 16 bytes or more, got 15"):
        load("privacy: {hash_key_file: short}")
    with pytest.raises(ConfigError, match="hash_key_file: cannot read"):
        load("privacy: {hash_key_file: missing}")
