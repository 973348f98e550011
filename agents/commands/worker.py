"""`tidemark worker`: one worker process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from agents.commands.options import add_config_options, config_of
from agents.config import Config
from agents.signals import stopping_on_signals
from tables.errors import RunError

if TYPE_CHECKING:
    from agents.tidemark_app import TidemarkApp

log = logging.getLogger("tidemark.worker")

DRAINED_S, STOP_S = 10.0, 25.0
"""A worker that has not stopped by then is ended, the first if it has drained: orchestrators kill after 30 s."""

LIBRARIES = {"faust": logging.ERROR, "mode": logging.ERROR, "agents": logging.ERROR, "aiokafka": logging.WARNING}
"""What is heard of them once the worker runs; `agents` is Faust speaking in the name of our classes."""

EXAMPLE = """\
example:
  tidemark worker --broker kafka://localhost:9092 --store redis://localhost:6379/0

  TIDEMARK_KAFKA_INSTANCE_ID=$HOSTNAME tidemark worker

environment: TIDEMARK_CONFIG, TIDEMARK_BROKER, TIDEMARK_STORE, TIDEMARK_WEB_PORT, TIDEMARK_WEB_TOKEN,
TIDEMARK_HASH_KEY, TIDEMARK_KAFKA_INSTANCE_ID

With an instance id (also kafka.instance_id), which each worker needs for itself and keeps, a worker that was killed or
stopped and is started again has its partitions back at once, and the others notice nothing. Until it is back nobody
reads them; after kafka.session_timeout (default 10s) the others do.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "worker",
        help="run one worker process; start more to scale",
        description="Runs one worker: joins impressions and clicks, tells window rows and alerts. Start as many as "
        "there are partitions, all with the same configuration. Topics that are missing are created. SIGTERM drains "
        "and exits.",
        epilog=EXAMPLE,
    )
    add_config_options(parser, store=True, web=True)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def run(args: argparse.Namespace) -> int:
    """Run until a signal or a failure. Raises ConfigError, RunError."""
    config = config_of(args)
    config.check_links()
    configure_logging("debug" if args.debug else args.log_level)
    if config.privacy.warning:
        log.warning("%s", config.privacy.warning)
    if config.web.is_open_to_others:
        log.warning(
            "whoever reaches %s may acknowledge and silence alerts: set TIDEMARK_WEB_TOKEN, or let only what is meant "
            "to through",
            config.web.host,
        )
    asyncio.run(serve(config))
    return 0


def configure_logging(level: str) -> None:
    """Log to standard error, a line a record; with tracebacks, and all that the libraries say, at level debug."""
    handler = logging.StreamHandler(sys.stderr)
    template = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(template) if level == "debug" else OneLine(template))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)


def _listen_to_libraries() -> None:
    # Not before: what keeps a worker from starting it says itself, in one line.
    for library, level in LIBRARIES.items():
        logger = logging.getLogger(library)
        logger.setLevel(min(logger.level, level))


class OneLine(logging.Formatter):
    """A line a record: instead of the traceback its last line."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        said = self.formatMessage(record)
        if record.exc_info and (error := repr(record.exc_info[1])) not in said:
            said = f"{said}: {error}"
        return " ".join(said.split())


async def serve(config: Config) -> None:
    """Run a worker until SIGTERM, SIGINT or a crash.

    Raises RunError (web port taken, broker or store out of reach, the worker crashed, was replaced or could not drain).
    """
    # Here, not above: importing Faust takes longer than --help may.
    from agents.app import create_app

    stop = asyncio.Event()
    with stopping_on_signals(stop):
        await _run(create_app(config), asyncio.create_task(stop.wait()))


async def _run(app: TidemarkApp, stopping: asyncio.Task[Any]) -> None:
    config = app.config
    try:
        prepared = await _before(stopping, app.prepare())
    except BaseException:
        await app.release()
        raise
    if not prepared:
        await app.release()
        return
    assert app.http is not None
    _listen_to_libraries()
    log.info(
        "group %s on %s, store %s, http://%s:%s",
        config.group, config.broker, config.redacted_store, config.web.host, app.http.port,
    )  # fmt: skip
    last_resort = LastResort(app)
    try:
        if await _before(stopping, app.start()):
            log.info("started")
            await _before(stopping, app.wait_until_stopped())
    finally:
        log.info("stopping")
        last_resort.start()
        await app.stop()
        last_resort.cancel()
    if (reason := app.failure or app.crash_reason) is not None:
        raise RunError(_said_of(reason)) from reason
    if not app.drained:
        raise RunError("could not write the last checkpoint; the next owner reads the last seconds again")
    log.info("drained and stopped")


def _said_of(failure: BaseException) -> str:
    from agents.transports.static_member import TakenOver

    return str(failure) if isinstance(failure, TakenOver) else f"the worker crashed: {failure!r}"


async def _before(stopping: asyncio.Task[Any], work: Coroutine[Any, Any, Any]) -> bool:
    """Whether the work came to its end before the signal; else it is cancelled. Raises what the work raises."""
    task = asyncio.create_task(work)
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return False
    task.result()
    return True


class LastResort:
    """Ends the process if it cannot stop: a Kafka client that hangs must not keep a drained worker from ending."""

    def __init__(self, app: TidemarkApp, drained_s: float = DRAINED_S, stop_s: float = STOP_S) -> None:
        self._app = app
        self._drained_s = drained_s
        self._stop_s = stop_s
        self._cancelled = threading.Event()
        # A thread, as the event loop itself may be what hangs; a daemon, as it must outlast the main thread.
        self._thread = threading.Thread(target=self._wait, name="last resort", daemon=True)

    def start(self) -> None:
        """The time counts from here."""
        self._thread.start()

    def cancel(self) -> None:
        """All has ended in order, unless a thread is left that the interpreter would wait for."""
        if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
            self._cancelled.set()

    def _wait(self) -> None:
        if self._cancelled.wait(self._drained_s):
            return
        if not self._app.drained and self._cancelled.wait(self._stop_s - self._drained_s):
            return
        status, what = 1, "error: could not drain in time"
        if self._app.failure is not None:
            what = f"error: {_said_of(self._app.failure)}"
        elif self._app.drained:
            status, what = 0, "drained, but the Kafka client does not stop: ended"
        sys.stderr.write(f"tidemark: {what}\n")
        sys.stderr.flush()
        os._exit(status)
