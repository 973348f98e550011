"""`python -m benchmarks.alertmanager`: tidemark beside a real Alertmanager, in the same stories at the same time."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.alertmanager.am import version, why_not
from benchmarks.alertmanager.better import BETTER
from benchmarks.alertmanager.report import as_json, markdown
from benchmarks.alertmanager.run import Outcome, is_expected, run_all
from benchmarks.alertmanager.scenarios import PARITY
from benchmarks.markdown import put_between
from tables.errors import RunError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "alertmanager.json"
PAGE = ROOT / "docs" / "alertmanager.md"
SCENARIOS = {scenario.name: scenario for scenario in (*PARITY, *BETTER)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 0 all is as promised, 1 it is not or there is no Alertmanager, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alertmanager", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(SCENARIOS), metavar="SCENARIO",
        help="by name; nothing is written (default: all, into the page and the results)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    # Receivers that are down are part of the stories.
    logging.getLogger("alerting").setLevel(logging.CRITICAL)
    scenarios = [SCENARIOS[name] for name in options.only or SCENARIOS]
    if reason := why_not():
        sys.stderr.write(f"{reason}\n")
        return 1
    try:
        outcomes = asyncio.run(run_all(scenarios, done=_show))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = as_json(scenarios, outcomes, asyncio.run(version()))
    text = markdown(found)
    sys.stdout.write(f"\n{text}")
    if not options.only:
        RESULTS.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        PAGE.write_text(put_between(PAGE.read_text(), text))
    return 0 if all(is_expected(outcome, SCENARIOS[outcome.scenario]) for outcome in outcomes) else 1


def _show(outcome: Outcome) -> None:
    sys.stdout.write(f"{outcome.system:<13} {'passes' if outcome.passed else 'fails '} {outcome.scenario}\n")
    sys.stdout.writelines(f"    {problem}\n" for problem in outcome.problems)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
