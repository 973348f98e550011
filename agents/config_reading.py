"""How each section of the configuration file becomes a value.

A mistake is noted in the section and a default takes its place, so that reading goes on and finds the rest.
"""

from collections.abc import Mapping
from pathlib import Path

from agents import config_sections as sections
from agents import config_values as values
from agents.config_file import Mistakes, Section, show
from agents.config_secrets import secret_of_file, secret_of_variable, text_of_file
from agents.config_sections import (
    KafkaConfig,
    LinksConfig,
    PrivacyConfig,
    SecurityConfig,
    TimingConfig,
    TopicsConfig,
)
from tables.join_policy import MODEL_LIMIT, WINDOW_MS, JoinPolicy

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

HASH_KEY_VARIABLE = "TIDEMARK_HASH_KEY"
INSTANCE_ID_VARIABLE = "TIDEMARK_KAFKA_INSTANCE_ID"


def read_topics(section: Section) -> TopicsConfig:
    """`topics`: prefix, partitions, replication."""
    topics = TopicsConfig(
        prefix=section.take("prefix", values.topic_prefix, ""),
        partitions=section.take("partitions", values.integer(1, 10_000), sections.DEFAULT_PARTITIONS),
        replication=section.take("replication", values.integer(1, 100), sections.DEFAULT_REPLICATION),
    )
    section.finish()
    return topics


def read_join(section: Section) -> JoinPolicy:
    """`join`: attribution, its window, lateness and the limits of one partition."""
    default = JoinPolicy()
    attribution = section.take("attribution", values.choice("all", "last"), "all")
    join = JoinPolicy(
        attribution="last" if attribution == "last" else "all",
        attribution_ms=section.take(
            "attribution_window", values.whole_minutes(WINDOW_MS, DAY_MS), default.attribution_ms
        ),
        out_of_orderness_ms=section.take(
            "out_of_orderness", values.duration_between(0, DAY_MS), default.out_of_orderness_ms
        ),
        idle_after_ms=section.take("idle_after", values.duration_between(100, DAY_MS), default.idle_after_ms),
        max_rows=section.take("max_rows_per_partition", values.integer(1, 10**9), default.max_rows),
        max_models=section.take("max_models", values.integer(1, MODEL_LIMIT), default.max_models),
    )
    section.finish()
    return join


def read_timing(section: Section) -> TimingConfig:
    """`timing`: how often rows are emitted and state is saved."""
    interval = values.duration_between(10, HOUR_MS)
    timing = TimingConfig(
        emit_interval_ms=section.take("emit_interval", interval, sections.DEFAULT_EMIT_INTERVAL_MS),
        checkpoint_interval_ms=section.take("checkpoint_interval", interval, sections.DEFAULT_CHECKPOINT_INTERVAL_MS),
    )
    section.finish()
    return timing


def read_privacy(section: Section, folder: Path, env: Mapping[str, str], mistakes: Mistakes) -> PrivacyConfig:
    """`privacy`: the key of the hash, from TIDEMARK_HASH_KEY or else the file that is named here.

    :param folder: what a relative `hash_key_file` is relative to.
    """
    section.refuse({"hash_key": f"put the key into a file and name it as hash_key_file, or set {HASH_KEY_VARIABLE}"})
    name = section.take("hash_key_file", values.text, "")
    section.finish()
    least = sections.LEAST_HASH_KEY_BYTES
    if said := env.get(HASH_KEY_VARIABLE):
        secret = said.encode("utf-8", "surrogateescape")
        if len(secret) < least:
            mistakes.note(f"{HASH_KEY_VARIABLE}: expected a key of {least} bytes or more, got {len(secret)}")
            return PrivacyConfig()
        return PrivacyConfig(secret=secret)
    if not name:
        return PrivacyConfig()
    secret = secret_of_file(section, "hash_key_file", folder / name)
    if secret and len(secret) < least:
        section.mistake("hash_key_file", f"expected a file with {least} bytes or more, got {len(secret)}")
        return PrivacyConfig()
    return PrivacyConfig(secret=secret) if secret else PrivacyConfig()


def read_links(section: Section) -> LinksConfig:
    """`links`: where people reach a worker, and how long a link holds."""
    links = LinksConfig(
        base_url=section.take("base_url", values.http_url, "").rstrip("/"),
        ttl_ms=section.take("ttl", values.duration_between(HOUR_MS, 30 * DAY_MS), sections.DEFAULT_LINK_TTL_MS),
    )
    section.finish()
    return links


def read_kafka(section: Section, folder: Path, env: Mapping[str, str]) -> KafkaConfig:
    """`kafka`: the client's timeouts and sizes, the worker's instance id, and `kafka.security`."""
    session_ms = section.take(
        "session_timeout", values.duration_between(1_000, HOUR_MS), sections.DEFAULT_SESSION_TIMEOUT_MS
    )
    instance_id = _read_instance_id(section, env)
    # The default heartbeat must fit a session that somebody made short.
    default_heartbeat_ms = min(
        sections.DEFAULT_STATIC_HEARTBEAT_INTERVAL_MS if instance_id else sections.DEFAULT_HEARTBEAT_INTERVAL_MS,
        session_ms // 3,
    )
    heartbeat_ms = section.take("heartbeat_interval", values.duration_between(100, HOUR_MS), default_heartbeat_ms)
    if heartbeat_ms >= session_ms:
        section.mistake(
            "heartbeat_interval",
            f"expected less than the session timeout of {session_ms} ms, got {heartbeat_ms} ms",
        )
    kafka = KafkaConfig(
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=heartbeat_ms,
        max_fetch_bytes=section.take(
            "max_fetch_bytes", values.size_between(2**16, 2**30), sections.DEFAULT_MAX_FETCH_BYTES
        ),
        instance_id=instance_id,
        security=_read_security(section.section("security"), folder, env),
    )
    section.finish()
    return kafka


def _read_instance_id(section: Section, env: Mapping[str, str]) -> str | None:
    # Kafka allows the same characters as in the name of a group.
    instance_id = section.take("instance_id", values.group, "")
    if said := env.get(INSTANCE_ID_VARIABLE):
        try:
            return values.group(said)
        except ValueError as error:
            section.rewrite(f"{INSTANCE_ID_VARIABLE}: {error}, got {show(said)}")
    return instance_id or None


def _read_security(section: Section, folder: Path, env: Mapping[str, str]) -> SecurityConfig:
    section.refuse({"password": "name an environment variable as password_env or a file as password_file"})
    protocol = section.take("protocol", values.choice(*sections.SECURITY_PROTOCOLS, fold=str.upper), "PLAINTEXT")
    mechanism = section.take("mechanism", values.choice(*sections.SASL_MECHANISMS, fold=str.upper), "PLAIN")
    username = section.take("username", values.text, "")
    password = secret_of_variable(section, "password_env", env)
    if file := section.take("password_file", values.text, ""):
        if password:
            section.mistake("password_file", "expected either password_env or password_file, got both")
        password = text_of_file(section, "password_file", folder / file)
    cafile = section.take("cafile", values.text, "")
    if cafile:
        cafile = str(folder / cafile)
        if not Path(cafile).is_file():
            section.mistake("cafile", f'expected a file with certificates, "{cafile}" is none')
    security = SecurityConfig(
        protocol=protocol, mechanism=mechanism, username=username, password=password, cafile=cafile
    )
    if security.uses_sasl:
        if not username:
            section.mistake("protocol", f"{protocol} needs a username too")
        if not {"password", "password_env", "password_file"} & section.keys():
            section.mistake("protocol", f"{protocol} needs password_env or password_file too")
    section.finish()
    return security
