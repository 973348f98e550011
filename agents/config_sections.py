"""The parts of the configuration as values: each is frozen, complete and already checked.

Durations are whole milliseconds (`_ms`), sizes are bytes. Secrets never show in a `repr`.
"""

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tables.drift_policy import DriftPolicy
from tables.reference import Reference

DEFAULT_PARTITIONS = 4
"""Has many divisors nearby and lets four workers share a shop's traffic; choose 12 or 24 for more."""
DEFAULT_REPLICATION = 1
MOST_PARTIALS = 8
"""Partitions of the partials topic, as every input partition writes to all of them; merging is little work."""

DEFAULT_EMIT_INTERVAL_MS = 1_000
DEFAULT_CHECKPOINT_INTERVAL_MS = 1_000

DEFAULT_WEB_HOST = "127.0.0.1"
DEFAULT_WEB_PORT = 6066

DEFAULT_SESSION_TIMEOUT_MS = 10_000
DEFAULT_HEARTBEAT_INTERVAL_MS = 3_000
DEFAULT_STATIC_HEARTBEAT_INTERVAL_MS = 1_000
"""With an instance id: a worker that was replaced must hear of it before it would claim its partitions again."""
DEFAULT_MAX_FETCH_BYTES = 4 * 2**20

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

DEFAULT_LINK_TTL_MS = 3 * 86_400_000

LEAST_HASH_KEY_BYTES = 16
DEVELOPMENT_HASH_KEY = b"tidemark development key"
"""Used where no key is configured, so that all runs at once; known to everybody, thus no protection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsConfig:
    """Names of all topics, and how those that are missing get created."""

    prefix: str = ""
    partitions: int = DEFAULT_PARTITIONS
    replication: int = DEFAULT_REPLICATION

    @property
    def impressions(self) -> str:
        return self.prefix + "impressions"

    @property
    def clicks(self) -> str:
        return self.prefix + "clicks"

    @property
    def inferences(self) -> str:
        return self.prefix + "inferences"

    @property
    def outcomes(self) -> str:
        return self.prefix + "outcomes"

    @property
    def changes(self) -> str:
        return self.prefix + "changes"

    @property
    def windows(self) -> str:
        return self.prefix + "tidemark.windows"

    @property
    def alerts(self) -> str:
        return self.prefix + "tidemark.alerts"

    @property
    def commands(self) -> str:
        """What people want of alerts: acknowledgements and silences; internal."""
        return self.prefix + "tidemark.commands"

    @property
    def dead_letters(self) -> str:
        return self.prefix + "tidemark.dead_letters"

    @property
    def partials(self) -> str:
        return self.prefix + "tidemark.partials"

    def partitions_of(self, name: str) -> int:
        """How many partitions a topic gets when it is created."""
        if name in (self.alerts, self.commands):
            # Alerts are few, and one owner sees them all: groups and inhibition then work across models.
            return 1
        return min(self.partitions, MOST_PARTIALS) if name == self.partials else self.partitions

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics that other systems write."""
        return (self.impressions, self.clicks, self.inferences, self.outcomes, self.changes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that tidemark writes."""
        return (self.windows, self.alerts, self.dead_letters, self.partials, self.commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """How often things happen by the clock."""

    emit_interval_ms: int = DEFAULT_EMIT_INTERVAL_MS
    checkpoint_interval_ms: int = DEFAULT_CHECKPOINT_INTERVAL_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyConfig:
    """The key of the hash that stands for a person in Redis and in checkpoints."""

    secret: bytes = field(default=DEVELOPMENT_HASH_KEY, repr=False)

    @property
    def hash_key(self) -> bytes:
        """The key itself: always 16 bytes, whatever the length of the secret."""
        return hashlib.blake2b(self.secret, digest_size=16, person=b"tidemark-pairs").digest()

    @property
    def link_secret(self) -> str:
        """What signs the links in messages; the same for all workers."""
        return hashlib.blake2b(self.secret, digest_size=32, person=b"tidemark-links").hexdigest()

    @property
    def is_development_key(self) -> bool:
        return self.secret == DEVELOPMENT_HASH_KEY

    @property
    def warning(self) -> str:
        """Why the key protects nobody, for the log; empty where it does."""
        if not self.is_development_key:
            return ""
        return (
            "no hash key is configured: the development key is used, so hashed user ids and links can be guessed; "
            "set TIDEMARK_HASH_KEY or privacy.hash_key_file"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """Where the console, the API and the probes listen."""

    host: str = DEFAULT_WEB_HOST
    port: int = DEFAULT_WEB_PORT
    port_was_asked: bool = False
    """True where file, environment or command line name the port: it being taken is then an error."""
    token: str = field(default="", repr=False)
    """What a request to the API has to carry (`Authorization: Bearer`); empty: whoever reaches the port may ask."""

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines reach the API, and nothing is asked of them."""
        return not self.token and self.host not in ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksConfig:
    """The links in messages by which people acknowledge and silence."""

    base_url: str = ""
    """Where people reach a worker; empty: at the address it listens on."""
    ttl_ms: int = DEFAULT_LINK_TTL_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """How connections to Kafka are encrypted and who we are there."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str = ""
    password: str = field(default="", repr=False)
    cafile: str = ""

    @property
    def uses_sasl(self) -> bool:
        return self.protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        return self.protocol.endswith("SSL")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConfig:
    """The Kafka client's own settings."""

    session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS
    heartbeat_interval_ms: int = DEFAULT_HEARTBEAT_INTERVAL_MS
    max_fetch_bytes: int = DEFAULT_MAX_FETCH_BYTES
    instance_id: str | None = None
    """The worker's own name in the group (`group.instance.id`), the same at each of its starts; None for none."""
    security: SecurityConfig = field(default_factory=SecurityConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """What is compared with what, and when a difference is called drift."""

    references: tuple[Reference, ...] = ()
    policy: DriftPolicy = field(default_factory=DriftPolicy)
    models: tuple[tuple[str, DriftPolicy], ...] = ()
    """Policies of their own, by a glob of model ids; the first that fits holds."""
    from_impressions: bool = True
    """Whether the features of impressions count."""
    from_inferences: bool = True
    """Whether those of inferences do."""

    def policy_of(self, model_id: str) -> DriftPolicy:
        """The policy for a model."""
        return next((policy for glob, policy in self.models if fnmatchcase(model_id, glob)), self.policy)
