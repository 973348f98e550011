"""Rules and alerting policy follow their files while a worker runs: all of it changes, or nothing does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agents.config import Config
from agents.config_file import stamp_of
from agents.metrics import Metrics
from tables.errors import ConfigError, RunError

log = logging.getLogger("tidemark.policy")


class PolicyWatch:
    """Looks at the files of a configuration, and hands a changed one over once it is valid as a whole."""

    def __init__(self, config: Config, adopt: Callable[[Config], None], metrics: Metrics) -> None:
        self._config = config
        self._adopt = adopt
        self._metrics = metrics
        self._stamp = () if config.origin is None else config.origin.stamp
        self._said = ""
        self._channels = {channel.name for channel in config.channels}
        metrics.policy_reloaded.set(1)

    async def turn(self) -> None:
        """Look once. A mistake in the files is said once, and what was valid goes on to hold.

        Where the files could not be judged, as no process was to be had, they are looked at again in the next turn.
        """
        files = self._config.files
        if not files:
            return
        stamp = await asyncio.to_thread(stamp_of, files)
        if stamp == self._stamp:
            return
        before, self._stamp = self._stamp, stamp
        try:
            config = await asyncio.to_thread(self._config.reload)
            self._check(config)
        except RunError as error:
            self._stamp = before
            self._say(str(error))
            return
        except ConfigError as error:
            self._say(str(error))
            return
        except Exception as error:
            # A mistake of ours in reading a file must not end a worker that judges by good rules.
            self._say(f"{type(error).__name__} while reading the files", error)
            return
        self._metrics.policy_reloaded.set(1)
        self._said = ""
        former, self._config = self._config, config
        if config.origin is not None:  # it may be made of other files now
            self._stamp = config.origin.stamp
        if config == former:
            log.info("the configuration says what it said before")
            return
        if (config.rules, config.alerting) == (former.rules, former.alerting):
            log.warning("the configuration has changed, but its rules and alerting have not: the rest needs a restart")
            return
        self._adopt(config)
        log.info("reloaded: %d rules", len(config.rules))

    def _say(self, mistake: str, error: Exception | None = None) -> None:
        self._metrics.policy_reloaded.set(0)
        if mistake != self._said:
            log.error("not reloaded, the rules from before go on to hold: %s", mistake, exc_info=error)
        self._said = mistake

    def _check(self, config: Config) -> None:
        """Whether the channels that this worker has opened can carry out what it says."""
        receivers = config.alerting_policy.receivers.values()
        if new := {channel for receiver in receivers for channel in receiver.channels} - self._channels:
            raise ConfigError(f"channel {', '.join(sorted(new))}: a new channel needs a restart")
