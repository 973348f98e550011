"""What other drift libraries say of the counts in cases.json: `python tests/tables/peers/run_peer.py PACKAGE`.

Each runs in an environment of its own, for example `uv venv peer && uv pip install -p peer evidently==0.7.23`; what it
prints is kept in PACKAGE.json, with the versions, and compared with our own numbers by test_drift_peers.py.
"""

from __future__ import annotations

import json
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Case = Mapping[str, list[int]]
Numbers = dict[str, float]


def expand(counts: list[int]) -> list[int]:
    """One row per count: the place it was counted in."""
    return [place for place, count in enumerate(counts) for _ in range(count)]


def evidently(case: Case) -> Numbers:
    """PSI, KL and JS of a categorical column."""
    pandas = import_module("pandas")
    tests = import_module("evidently.legacy.calculations.stattests")
    kind = import_module("evidently.legacy.core").ColumnType.Categorical
    samples = pandas.Series(expand(case["reference"])), pandas.Series(expand(case["current"]))
    jensen_shannon = import_module("evidently.legacy.calculations.stattests.jensenshannon")._jensenshannon
    return {
        "psi": tests.psi_stat_test.func(*samples, kind, 0.1)[0],
        "kl": tests.kl_div_stat_test.func(*samples, kind, 0.1)[0],
        "js": jensen_shannon(*samples, kind, 0.1, base=2)[0],
    }


def alibi_detect(case: Case) -> Numbers:
    """KS and chi2 statistics; its results are 32-bit floats."""
    numpy = import_module("numpy")
    detectors = import_module("alibi_detect.cd")
    reference, current = (numpy.array(expand(case[side]), float).reshape(-1, 1) for side in ("reference", "current"))
    ks = detectors.KSDrift(reference).predict(current)
    chi_squared = detectors.ChiSquareDrift(reference).predict(current)
    return {"ks": ks["data"]["distance"][0], "chi_squared": chi_squared["data"]["distance"][0]}


def feature_engine(case: Case) -> Numbers:
    """PSI of a categorical column, and the threshold that it sets itself for p = 0.01."""
    pandas = import_module("pandas")
    sides = ["reference"] * sum(case["reference"]) + ["current"] * sum(case["current"])
    rows = pandas.DataFrame({"side": sides, "x": list(map(str, expand(case["reference"]) + expand(case["current"])))})
    selection = import_module("feature_engine.selection")
    options: dict[str, Any] = {"split_col": "side", "cut_off": ["reference"], "variables": ["x"], "threshold": "auto"}
    selector = selection.DropHighPSIFeatures(p_value=0.01, **options)
    with suppress(ValueError):  # it refuses to drop the only column that there is; the numbers are there by then
        selector.fit(rows)
    filled = sum(x > 0 or y > 0 for x, y in zip(case["reference"], case["current"], strict=True))
    sizes = sum(case["reference"]), sum(case["current"])
    return {"psi": selector.psi_values_["x"], "critical": selector._calculate_auto_threshold(*sizes, filled)}


PEERS: Mapping[str, tuple[Callable[[Case], Numbers], tuple[str, ...]]] = {
    "evidently": (evidently, ("evidently", "numpy", "scipy", "pandas")),
    "alibi_detect": (alibi_detect, ("alibi-detect", "numpy", "scipy")),
    "feature_engine": (feature_engine, ("feature-engine", "numpy", "scipy", "pandas")),
}


def run(name: str) -> dict[str, Any]:
    """Numbers of each case, and what they were made with."""
    numbers_of, packages = PEERS[name]
    cases = json.loads((HERE / "cases.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {case: {key: float(x) for key, x in numbers_of(cases[case]).items()} for case in cases}
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    return {"versions": versions, "results": results}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1]), indent=2) + "\n")
