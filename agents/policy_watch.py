"""Rules and alerting policy follow their files while a worker runs: all of it changes, or nothing does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agents.config import Config
from agents.config_file import stamp_of
from agents.metrics import Metrics
from tables.errors import ConfigError, TidemarkError

log = logging.getLogger("tidemark.policy")


class PolicyWatch:
    """Looks at the files of a configuration, and hands a changed one over once it is valid as a whole."""

    def __init__(self, config: Config, adopt: Callable[[Config], None], metrics: Metrics) -> None:
        self._config = config
        self._adopt = adopt
        self._metrics = metrics
        self._stamp = () if config.origin is None else config.origin.stamp
        self._channels = {channel.name for channel in config.channels}
        metrics.policy_reloaded.set(1)

    async def turn(self) -> None:
        """Look once. A mistake in the files is said once, and what was valid goes on to hold."""
        files = self._config.files
        if not files:
            return
        stamp = await asyncio.to_thread(stamp_of, files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            config = await asyncio.to_thread(self._config.reload)
            self._check(config)
        except TidemarkError as error:
            self._metrics.policy_reloaded.set(0)
            log.error("not reloaded, the rules from before go on to hold: %s", error)
            return
        self._metrics.policy_reloaded.set(1)
        before, self._config = self._config, config
        if config.origin is not None:  # it may be made of other files now
            self._stamp = config.origin.stamp
        if (config.rules, config.alerting) == (before.rules, before.alerting):
            log.warning("the configuration has changed, but its rules and alerting have not: the rest needs a restart")
            return
        self._adopt(config)
        log.info("reloaded: %d rules", len(config.rules))

    def _check(self, config: Config) -> None:
        """Whether the channels that this worker has opened can carry out what it says."""
        receivers = config.alerting_policy.receivers.values()
        if new := {channel for receiver in receivers for channel in receiver.channels} - self._channels:
            raise ConfigError(f"channel {', '.join(sorted(new))}: a new channel needs a restart")
