"""Redis as it runs in production: a Sentinel set that fails over, and a Cluster of three masters."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from deploy.process import HOST, free_port, wait_until
from deploy.redis_server import RedisServer
from tables.errors import StoreUnavailable

SETTLE_S = 30.0
SLOTS = 16_384


class RedisSentinelSet:
    """One master, one replica and one sentinel that promotes the replica when the master is gone."""

    def __init__(self, master: RedisServer, replica: RedisServer, sentinel: RedisServer, service: str) -> None:
        self.master = master
        self.replica = replica
        self.sentinel = sentinel
        self.service = service

    @classmethod
    def start(cls, data_dir: Path, *, service: str = "tidemark", down_after_ms: int = 500) -> Self:
        """Start all three, and return when the sentinel knows the replica. Raises StoreUnavailable."""
        master = RedisServer.start(data_dir / "master")
        started = [master]
        try:
            follow = ("--replicaof", HOST, str(master.port))
            started.append(RedisServer.start(data_dir / "replica", extra_args=follow))
            # A sentinel keeps its state in its configuration file, so it needs one of its own.
            port, folder = free_port(), data_dir / "sentinel"
            folder.mkdir(parents=True, exist_ok=True)
            config = folder / "sentinel.conf"
            config.write_text(
                f"port {port}\n"
                f"sentinel monitor {service} {HOST} {master.port} 1\n"
                f"sentinel down-after-milliseconds {service} {down_after_ms}\n"
                f"sentinel failover-timeout {service} 3000\n"
            )
            started.append(RedisServer.start_sentinel(config, port))
        except StoreUnavailable:
            for server in started:
                server.stop()
            raise
        redis_set = cls(master, started[1], started[2], service)
        try:
            wait_until(redis_set._settled, SETTLE_S, lambda: StoreUnavailable("the sentinel finds no replica"))
        except StoreUnavailable:
            redis_set.stop()
            raise
        return redis_set

    @property
    def url(self) -> str:
        """The store as tidemark takes it."""
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/{self.service}/0"

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """Host and port of every sentinel, as redis.sentinel.Sentinel takes them."""
        return [(HOST, self.sentinel.port)]

    def master_port(self) -> int:
        """The port of the master that the sentinel names now."""
        # Not GET-MASTER-ADDR-BY-NAME: that one names the replica earlier, while clients are still sent by
        # SENTINEL MASTERS to the master that is gone.
        with self.sentinel.client() as client:
            masters = client.sentinel_masters()
        return int(masters[self.service]["port"])

    def wait_for_failover(self, seconds: float = SETTLE_S) -> None:
        """Wait until the sentinel names the replica and it is a master. Raises StoreUnavailable."""

        def promoted() -> bool:
            if self.master_port() != self.replica.port:
                return False
            with self.replica.client() as client:
                role = client.execute_command("ROLE")
            return bool(role[0] == b"master")

        wait_until(promoted, seconds, lambda: StoreUnavailable(f"no failover within {seconds:.0f} s"))

    def stop(self) -> None:
        """Stop all three, the sentinel first, so that it does not see a failure."""
        for server in (self.sentinel, self.replica, self.master):
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _settled(self) -> bool:
        with self.replica.client() as client:
            linked = client.execute_command("ROLE")[3] == b"connected"
        with self.sentinel.client() as client:
            return bool(linked and client.execute_command("SENTINEL", "REPLICAS", self.service))


class RedisCluster:
    """Three masters that share all slots, without replicas."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes

    @classmethod
    def start(cls, data_dir: Path, *, masters: int = 3) -> Self:
        """Start the masters and return when every one of them says that the cluster is whole.

        Raises StoreUnavailable.
        """
        cluster = cls([])
        try:
            for number in range(masters):
                folder = data_dir / f"node-{number}"
                options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
                port = free_port(with_bus=True)
                cluster.nodes.append(RedisServer.start(folder, port=port, extra_args=options))
            cluster._join()
            wait_until(cluster._whole, SETTLE_S, lambda: StoreUnavailable("the cluster does not form"))
        except StoreUnavailable:
            cluster.stop()
            raise
        return cluster

    @property
    def url(self) -> str:
        """The store as tidemark takes it: by one node, through which a client finds the others."""
        return f"redis+cluster://{HOST}:{self.nodes[0].port}"

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _join(self) -> None:
        bounds = [SLOTS * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER", "MEET", HOST, other.port)

    def _whole(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                info = client.cluster("INFO")
            if info.get("cluster_state") != "ok" or int(info["cluster_known_nodes"]) != len(self.nodes):
                return False
        return True
