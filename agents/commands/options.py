"""The options that several commands share, and the configuration that they lead to."""

import argparse
import os
from collections.abc import Mapping

from agents.config import Config, Overrides, load_config


def add_config_options(parser: argparse.ArgumentParser, *, store: bool = False, web: bool = False) -> None:
    """Add --config and --broker, and those of the store and the web server where the command needs them."""
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: TIDEMARK_CONFIG)")
    parser.add_argument(
        "--broker", metavar="URL", help="kafka://host:port,... or memory:// (default: TIDEMARK_BROKER, file)"
    )
    if store:
        parser.add_argument("--store", metavar="URL", help="redis://host:port/db (default: TIDEMARK_STORE, file)")
    if web:
        parser.add_argument("--web-host", metavar="HOST", help="address to listen on (default 127.0.0.1)")
        parser.add_argument(
            "--web-port", metavar="PORT", help="port to listen on (default: TIDEMARK_WEB_PORT, file, 6066)"
        )


def config_of(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> Config:
    """The configuration that options, environment and file make together.

    :raises ConfigError: something in them is wrong.
    """
    overrides: Overrides = {
        "broker": getattr(args, "broker", None),
        "store": getattr(args, "store", None),
        "web_host": getattr(args, "web_host", None),
        "web_port": getattr(args, "web_port", None),
    }
    return load_config(args.config, env, overrides)
