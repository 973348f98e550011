"""`tidemark worker`: one worker process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from agents.commands.options import add_config_options, config_of
from agents.config import Config
from tables.errors import RunError

log = logging.getLogger("tidemark.worker")

STOP_TIMEOUT_S = 60.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "worker",
        help="run one worker process; start more to scale",
        description="Runs one worker: joins impressions and clicks, tells window rows and alerts. Start as many as "
        "you like, up to the number of partitions. SIGTERM drains and exits.",
        epilog="example:\n  tidemark worker --broker kafka://localhost:9092 --store redis://localhost:6379/0",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_options(parser, store=True, web=True)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def run(args: argparse.Namespace) -> int:
    """Run until a signal or a failure."""
    config = config_of(args)
    logging.basicConfig(
        level=args.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("faust", "mode", "aiokafka", "agents.app", "agents.transports"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if args.log_level == "debug" else logging.WARNING)
    if config.privacy.warning:
        log.warning("%s", config.privacy.warning)
    return asyncio.run(serve(config))


async def serve(config: Config) -> int:
    """Start the app, print where it listens, and run it until SIGTERM, SIGINT or a crash.

    Raises RunError (broker or store out of reach, web port taken, or the worker crashed).
    """
    # Here, not above: importing Faust takes longer than --help may.
    from agents.app import create_app, prepare_topics

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    created = await prepare_topics(config)
    if created:
        log.info("created topics: %s", ", ".join(created))
    app = create_app(config)
    try:
        await app.start()
        assert app.http is not None
        log.info(
            "worker of group %s on %s, store %s, http://%s:%s",
            config.group, config.broker, config.redacted_store, config.web.host, app.http.port,
        )  # fmt: skip
        crashed = asyncio.create_task(app.wait_until_stopped())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
    finally:
        log.info("stopping")
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await app.stop()
    if app.crash_reason is not None:
        raise RunError(f"the worker crashed: {app.crash_reason!r}") from app.crash_reason
    log.info("drained and stopped")
    return 0
