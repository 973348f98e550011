"""`tidemark topics`: the topics that tidemark reads and writes, as they are in Kafka."""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence

from agents.commands.options import add_config_options, config_of
from agents.config import TopicsConfig
from agents.kafka_admin import TopicState, connect, uneven_inputs

EXAMPLE = """\
example:
  tidemark topics create --broker kafka://localhost:9092
  tidemark topics list
  tidemark topics check --config tidemark.yaml

create makes the missing topics; those that exist keep their partitions.
"""

ACTIONS = {
    "create": "create the topics that are missing",
    "list": "list the topics with their partitions, replicas and messages",
    "check": "say what is missing or does not fit together; exit status 1 if anything is",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the options."""
    parser = subparsers.add_parser("topics", help="create, list and check the topics in Kafka", epilog=EXAMPLE)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for action, summary in ACTIONS.items():
        example = f"example:\n  tidemark topics {action} --broker kafka://localhost:9092"
        add_config_options(actions.add_parser(action, help=summary, epilog=example))


def run(args: argparse.Namespace) -> int:
    """0, or 1 where `check` finds something wrong. Raises ConfigError, BrokerUnavailable."""
    config = config_of(args)
    names = (*config.topics.inputs, *config.topics.outputs)

    async def ask() -> tuple[list[str], dict[str, TopicState], dict[str, int]]:
        async with connect(config) as admin:
            created = await admin.create_missing() if args.action == "create" else []
            existing = {name: topic for name, topic in (await admin.topics()).items() if name in names}
            messages = dict.fromkeys(existing, 0)
            if args.action == "list":
                for partition, offsets in (await admin.offsets(existing.values())).items():
                    messages[partition.topic] += offsets.end - offsets.first
            return created, existing, messages

    created, existing, messages = asyncio.run(ask())
    match args.action:
        case "create":
            for name in created:
                sys.stdout.write(f"created {name}\n")
            sys.stdout.write(f"{len(created)} created, {len(names) - len(created)} there before\n")
        case "list":
            _write_list(names, existing, messages)
        case _:
            return _report(wrong_topics(config.topics, existing), len(names))
    return 0


def wrong_topics(topics: TopicsConfig, existing: Mapping[str, TopicState]) -> list[str]:
    """What keeps tidemark from working on these topics, one line each; empty where all is well."""
    names = (*topics.inputs, *topics.outputs)
    wrong = [f"topic {name} is missing" for name in names if name not in existing]
    for name in names:
        if name in existing and existing[name].leaderless:
            partitions = ", ".join(map(str, existing[name].leaderless))
            wrong.append(f"topic {name} has no leader for partition {partitions}: brokers are down")
    if uneven := uneven_inputs(topics, existing):
        wrong.append(uneven)
    return wrong


def _report(wrong: Sequence[str], count: int) -> int:
    if not wrong:
        sys.stdout.write(f"ok: {count} topics\n")
        return 0
    for line in wrong:
        sys.stderr.write(f"tidemark: error: {line}\n")
    return 1


def _write_list(names: Sequence[str], existing: Mapping[str, TopicState], messages: Mapping[str, int]) -> None:
    width = max(map(len, names))
    sys.stdout.write(f"{'topic':{width}}  partitions  replicas      messages\n")
    for name in names:
        topic = existing.get(name)
        if topic is None:
            sys.stdout.write(f"{name:{width}}  missing\n")
        else:
            sys.stdout.write(f"{name:{width}}  {topic.partitions:>10}  {topic.replication:>8}  {messages[name]:>12,}\n")
