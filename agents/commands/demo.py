"""`tidemark demo`: the whole product on this machine, with nothing else running."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from agents.config import load_config

EXAMPLE = """\
example:
  tidemark demo
  tidemark demo --seconds 60 --speed 30

A simulated shop runs into a promotion that halves the click-through rate of its home recommender: the fall, the
features that drift from those of the day before, the alert and its end are shown as they happen, here and on /metrics.
Later the search is slow and the price estimator fails. Kafka and Redis are stood in for by an embedded broker and an
embedded Redis server, which are gone with the demo. Ctrl-C ends it.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "demo", help="the whole product on this machine, with a simulated shop and nothing else running", epilog=EXAMPLE
    )
    parser.add_argument("--seconds", type=_positive, metavar="N", help="stop after so long (default: at Ctrl-C)")
    parser.add_argument(
        "--speed",
        type=_positive,
        default=20.0,
        metavar="K",
        help="how many times faster than life the shop's time passes (default: %(default)g)",
    )
    parser.add_argument(
        "--rate",
        type=_positive,
        default=100.0,
        metavar="R",
        help="items shown in a second of the shop's time (default: %(default)g)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="another seed, other visitors (default: %(default)s)"
    )
    parser.add_argument("--web-host", metavar="HOST", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--web-port", metavar="PORT", help="port to listen on (default: 6066, or the next free one)")


def run(args: argparse.Namespace) -> int:
    """Run until it is over. Raises ConfigError, RunError."""
    # Here, not above: importing Faust takes longer than --help may.
    from agents.demo import Demo, DemoOptions

    env = {name: value for name, value in os.environ.items() if name == "TIDEMARK_WEB_PORT"}
    config = load_config(None, env, {"web_host": args.web_host, "web_port": args.web_port})
    options = DemoOptions(seconds=args.seconds, speed=args.speed, rate=args.rate, seed=args.seed)
    # Pictures and the libraries' logs would write over each other.
    demo = Demo(config, options, sys.stdout, pictures=not args.debug)
    asyncio.run(demo.run())
    return 0


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
