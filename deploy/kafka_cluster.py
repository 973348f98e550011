"""A real Kafka of one or more KRaft brokers on free ports of this host."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from deploy import kafka_admin
from deploy.kafka_jars import java_executable, kafka_classpath
from deploy.process import HOST, ServerProcess, free_port
from tables.errors import BrokerUnavailable

START_S = 90.0
FORMAT_S = 60.0
STOP_S = 10.0
# Of any value, but fixed: the same folder can be started again.
CLUSTER_ID = "dGlkZW1hcmstc3RhY2stMA"
LOG4J = Path(__file__).with_name("kafka") / "log4j2.properties"

Result = TypeVar("Result")


class KafkaBroker(ServerProcess):
    """One node, broker and controller in one, which keeps its ports over restarts."""

    def __init__(self, index: int, folder: Path, *, heap: str, detached: bool) -> None:
        self.index = index
        self.folder = folder
        self.port = free_port()
        self.controller_port = free_port()
        self.settings_file = folder / "server.properties"
        # Quick to start and small beside other servers, at some cost in peak throughput.
        jvm = [f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        self.java = [java_executable(), *jvm, f"-Dlog4j2.configurationFile={LOG4J}", "-cp", kafka_classpath()]
        super().__init__(
            f"Kafka broker {index}",
            [*self.java, "kafka.Kafka", str(self.settings_file)],
            folder / "broker.log",
            error=BrokerUnavailable,
            detached=detached,
        )

    @property
    def address(self) -> str:
        """host:port"""
        return f"{HOST}:{self.port}"

    def format(self) -> None:
        """Prepare the data folder, unless it has been. Raises BrokerUnavailable."""
        command = [*self.java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", CLUSTER_ID, "-c", str(self.settings_file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FORMAT_S)
        except subprocess.TimeoutExpired as error:
            raise BrokerUnavailable(f"{self.name}: no data folder within {FORMAT_S:.0f} s") from error
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip().splitlines()
            # The first line of a stack trace says what was wrong.
            reason = next((line for line in said if "Exception" in line), "".join(said[:1]))
            raise BrokerUnavailable(f"{self.name} cannot prepare its data folder: {reason}")


class KafkaCluster:
    """Brokers 0..n-1. All methods block: from a coroutine call them in a thread."""

    def __init__(self, brokers: list[KafkaBroker], data_dir: Path) -> None:
        self.brokers = brokers
        self.data_dir = data_dir

    @classmethod
    def start(
        cls,
        data_dir: Path,
        brokers: int = 1,
        *,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> Self:
        """Start so many brokers; when this returns, topics and consumer groups work.

        With three or more, topics have three replicas and a write needs two of them. heap: of each JVM.
        settings: broker properties on top of those of `broker_settings`. detached: leave the brokers running
        when this process ends. Raises BrokerUnavailable.
        """
        nodes = [
            KafkaBroker(index, data_dir / f"broker-{index}", heap=heap, detached=detached) for index in range(brokers)
        ]
        cluster = cls(nodes, data_dir)
        for node in nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            properties = {**broker_settings(node, nodes), **(settings or {})}
            lines = [f"{name}={value}\n" for name, value in properties.items()]
            node.settings_file.write_text("".join(lines))
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(KafkaBroker.format, nodes))
            for node in nodes:
                node.start()
            for node in nodes:
                cluster._wait_ready(node)
        except BrokerUnavailable:
            cluster.stop(grace_s=0)
            raise
        return cluster

    @property
    def bootstrap(self) -> str:
        """host:port of every broker, with commas, as a Kafka client takes it."""
        return ",".join(node.address for node in self.brokers)

    @property
    def url(self) -> str:
        """kafka://host:port,... as tidemark takes it."""
        return f"kafka://{self.bootstrap}"

    def create_topics(self, topics: Mapping[str, int], settings: Mapping[str, str] | None = None) -> None:
        """Create topics (name -> partitions) and wait until every partition has a leader.

        settings: topic properties. Raises BrokerUnavailable, also where a topic exists already.
        """
        replicas = _replicas(len(self.brokers))
        _apart(kafka_admin.create_topics(self.bootstrap, topics, replicas=replicas, settings=settings))

    def kill(self, broker_index: int) -> None:
        """SIGKILL one broker."""
        self.brokers[broker_index].kill()

    def restart(self, broker_index: int) -> None:
        """Stop a broker if it runs, start it on its ports and data, and wait until it serves.

        Raises BrokerUnavailable.
        """
        node = self.brokers[broker_index]
        node.stop(STOP_S)
        node.start()
        self._wait_ready(node)

    def stop(self, grace_s: float = STOP_S) -> None:
        """Stop all brokers in order, or by force what has not ended after the grace."""
        for node in self.brokers:
            node.terminate()
        for node in self.brokers:
            node.stop(grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_ready(self, node: KafkaBroker) -> None:
        """Wait until this broker sees every one that runs, and finds the coordinator of a group."""

        def serves() -> bool:
            expected = sum(other.running for other in self.brokers)
            return _apart(kafka_admin.serves(node.address, brokers=expected))

        node.wait_ready(serves, START_S)


def broker_settings(node: KafkaBroker, nodes: list[KafkaBroker]) -> dict[str, str]:
    """The properties of one broker: nothing by itself, short waits, and data that is kept."""
    replicas = _replicas(len(nodes))
    in_sync = max(1, replicas - 1)
    voters = ",".join(f"{other.index + 1}@{HOST}:{other.controller_port}" for other in nodes)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.index + 1),
        "controller.quorum.voters": voters,
        "listeners": f"CLIENT://{node.address},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"CLIENT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # Recorded and simulated events carry old timestamps, which must not delete their segment.
        "log.retention.ms": "-1",
        "group.initial.rebalance.delay.ms": "0",
        # A test that kills a consumer must not wait the usual 6 s at least until its group notices.
        "group.min.session.timeout.ms": "1000",
        # A broker that was killed is fenced after this; the default is 9 s.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }


def _replicas(brokers: int) -> int:
    return min(3, brokers)


def _apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a thread and loop of its own, since the caller's thread may have a running loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
