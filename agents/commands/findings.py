"""What `tidemark doctor` looks at, one function for each part; every one ends within a known time."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from aiokafka import TopicPartition
from redis.exceptions import RedisError

from agents.commands.topics import wrong_topics
from agents.config import Config
from agents.kafka_admin import KafkaAdmin, OffsetRange, TopicState, connect
from tables import redis_url
from tables.errors import BrokerUnavailable

State = Literal["ok", "warning", "wrong"]

BROKER_S = 8.0
STORE_S = 4.0
WEB_S = 3.0
COUNT_KEYS_S = 1.0
"""Counting keys reads through all of them; a large store is counted for so long and no longer."""
LEAST_REDIS = (6, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen, and where something is to be done about it, what."""

    part: str
    state: State
    text: str
    remedy: str = ""


async def examine(config: Config) -> list[Finding]:
    """All findings, in the order in which they are shown. Never raises for what is out of reach."""
    kafka, store, web = await asyncio.gather(examine_kafka(config), examine_store(config), examine_web(config))
    return [*kafka, store, web, examine_hash_key(config)]


async def examine_kafka(config: Config) -> list[Finding]:
    """The broker, the topics and the group's lag."""
    if config.in_memory:
        return [Finding("broker", "ok", "memory://, inside of the process")]
    try:
        async with connect(config, BROKER_S) as admin:
            count = await admin.broker_count()
            existing = await admin.topics()
            findings = [
                Finding("broker", "ok", f"{config.broker}, {count} broker{'s' if count > 1 else ''}"),
                _examine_topics(config, existing),
            ]
            names = {*config.topics.inputs, config.topics.partials} & existing.keys()
            if names:
                findings += await _examine_group(admin, config, {name: existing[name] for name in names})
            return findings
    except BrokerUnavailable as error:
        remedy = "start Kafka, or name it with --broker, TIDEMARK_BROKER or broker: in the configuration"
        return [Finding("broker", "wrong", str(error), remedy)]


def _examine_topics(config: Config, existing: Mapping[str, TopicState]) -> Finding:
    names = (*config.topics.inputs, *config.topics.outputs)
    missing = [name for name in names if name not in existing]
    if len(missing) > 1:
        return Finding("topics", "wrong", f"missing: {', '.join(missing)}", "tidemark topics create")
    wrong = wrong_topics(config.topics, existing)
    if wrong:
        return Finding("topics", "wrong", "; ".join(wrong), "tidemark topics check says more")
    partitions = existing[config.topics.impressions].partitions
    return Finding("topics", "ok", f"all {len(names)} there, {partitions} partitions of impressions and clicks")


async def _examine_group(admin: KafkaAdmin, config: Config, topics: Mapping[str, TopicState]) -> list[Finding]:
    workers = await admin.member_count(config.group)
    committed = await admin.committed(config.group)
    lags = lag_by_topic(await admin.offsets(topics.values()), committed)
    if workers:
        group = Finding("workers", "ok", f"{workers} in group {config.group}")
    else:
        group = Finding("workers", "warning", f"none in group {config.group}", "tidemark worker")
    said = ", ".join(f"{name} {lags[name]:,}" for name in sorted(lags))
    if not committed:
        said += f" (group {config.group} has committed nothing yet)"
    return [group, Finding("lag", "ok", said)]


def lag_by_topic(
    offsets: Mapping[TopicPartition, OffsetRange], committed: Mapping[TopicPartition, int]
) -> dict[str, int]:
    """Records that the group has not committed, by topic; where it never has, all that are there."""
    lags: dict[str, int] = {}
    for partition, held in offsets.items():
        # What retention has removed cannot be read any more and is no lag.
        done = max(committed.get(partition, held.first), held.first)
        lags[partition.topic] = lags.get(partition.topic, 0) + max(0, held.end - done)
    return lags


async def examine_store(config: Config) -> Finding:
    """Redis: does it answer, how fast, which version, and how much is in it."""
    remedy = "start Redis, or name it with --store, TIDEMARK_STORE or store: in the configuration"
    client = redis_url.connect(redis_url.parse_store_url(config.store))
    try:
        async with asyncio.timeout(STORE_S):
            await client.ping()
            asked = time.perf_counter()
            await client.ping()
            latency_ms = (time.perf_counter() - asked) * 1000
            server = _of_one_node(await client.info("server"))
            memory = _of_one_node(await client.info("memory"))
            keys = await _count_keys(client, f"tidemark:{{{config.group}:*")
    except TimeoutError:
        return Finding("store", "wrong", f"{config.redacted_store} did not answer within {STORE_S:g} s", remedy)
    except (RedisError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        return Finding("store", "wrong", f"{config.redacted_store}: {said}", remedy)
    finally:
        await redis_url.disconnect(client)
    text = (
        f"{config.redacted_store}, Redis {server['redis_version']}, {latency_ms:.1f} ms, "
        f"{memory['used_memory_human']}B used, {keys} keys of {config.group}"
    )
    if tuple(int(part) for part in str(server["redis_version"]).split(".")[:2]) < LEAST_REDIS:
        return Finding("store", "wrong", text, "use Redis 6.2 or later")
    if int(memory.get("maxmemory", 0)) and memory.get("maxmemory_policy") != "noeviction":
        policy = memory.get("maxmemory_policy")
        return Finding("store", "warning", f"{text}, evicts ({policy})", "set maxmemory-policy noeviction")
    return Finding("store", "ok", text)


def _of_one_node(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """INFO of a Cluster comes by node; any of them will do."""
    first = next(iter(info.values()), None)
    return first if isinstance(first, Mapping) else info


async def _count_keys(client: redis_url.RedisClient, pattern: str) -> str:
    count = 0
    try:
        async with asyncio.timeout(COUNT_KEYS_S):
            async for _ in client.scan_iter(match=pattern, count=1000):
                count += 1
    except TimeoutError:
        return f"more than {count:,}"
    return f"{count:,}"


async def examine_web(config: Config) -> Finding:
    """The port of the web server: free, or a worker answers there, or something else does."""
    host, port = config.web.host, config.web.port
    address = f"{host}:{port}"
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/readyz"
    taken: State = "wrong" if config.web.port_was_asked else "warning"
    remedy = "stop what listens there" + ("" if config.web.port_was_asked else ", or a worker takes the next free one")
    try:
        timeout = aiohttp.ClientTimeout(total=WEB_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            body = " ".join((await response.content.read(400)).decode(errors="replace").split())
    except aiohttp.ClientConnectorError:
        return Finding("web", "ok", f"{address} is free")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return Finding("web", taken, f"{address} is taken by something that is no worker", remedy)
    match response.status:
        case 200:
            return Finding("web", "ok", f"a worker answers at {address} and is ready")
        case 503:
            return Finding("web", "wrong", f"the worker at {address} is not ready: {body}", "see its log")
        case _:
            return Finding("web", taken, f"{address} is taken by something that is no worker", remedy)


def examine_hash_key(config: Config) -> Finding:
    """Is there a key that only this shop knows?"""
    if config.privacy.is_development_key:
        remedy = "set TIDEMARK_HASH_KEY, or privacy.hash_key_file in the configuration"
        return Finding("hash key", "warning", "none configured: hashed user ids can be guessed", remedy)
    return Finding("hash key", "ok", "configured")
