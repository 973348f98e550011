"""Evidently, alibi-detect and feature-engine on the same counts; peers/run_peer.py made what they said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from tables.distances import Distance, distances, js, kl, ks, psi
from tables.feature_bins import CategoryBins, Counts
from tables.reference import FeatureReference
from tests.tables.peers import run_peer

CASES: Mapping[str, Mapping[str, list[int]]] = json.loads((run_peer.HERE / "cases.json").read_text())
FULL = [case for case, sides in CASES.items() if all(map(all, sides.values()))]
"""Cases where no place is empty, and there is nothing to fill or to smooth."""
FLOAT32 = 2**-23


def told(peer: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run_peer.HERE / f"{peer}.json").read_text())
    return loaded


def counts(case: str) -> tuple[Counts, Counts]:
    return np.array(CASES[case]["reference"], np.int64), np.array(CASES[case]["current"], np.int64)


def compare(reference: Counts, current: Counts) -> dict[str, Distance]:
    bins = CategoryBins(tuple(map(str, range(len(reference)))))
    feature = FeatureReference("x", bins, (*reference.tolist(), 0, 0))
    return {distance.method: distance for distance in distances(feature, np.array([*current, 0, 0]))}


@pytest.mark.parametrize("case", FULL)
def test_evidently(case: str) -> None:
    reference, current = counts(case)
    found = told("evidently")["results"][case]

    assert psi(reference, current, smoothing=0) == pytest.approx(found["psi"], rel=1e-9)
    assert js(reference, current, smoothing=0) == pytest.approx(found["js"], rel=1e-9)
    # Its KL is that of the reference from what is current; ours is the other one.
    assert kl(current, reference, smoothing=0) == pytest.approx(found["kl"], rel=1e-9)


@pytest.mark.parametrize("case", sorted(CASES.keys() - set(FULL)))
def test_evidently_fills_an_empty_place_with_one_ten_thousandth(case: str) -> None:
    reference, current = (np.maximum(side / side.sum(), 0.0001) for side in counts(case))
    found = told("evidently")["results"][case]
    as_filled = float(np.sum((current - reference) * np.log(current / reference)))

    assert found["psi"] == pytest.approx(as_filled, rel=1e-9)
    assert told("feature_engine")["results"][case]["psi"] == pytest.approx(as_filled, rel=1e-9)
    # Half a row of a hundred or a thousand is more than that: we call it less of a shift.
    assert psi(*counts(case)) < found["psi"]
    # JS does not need it.
    assert js(*counts(case), smoothing=0) == pytest.approx(found["js"], rel=1e-9)


@pytest.mark.parametrize("case", FULL)
def test_feature_engine(case: str) -> None:
    reference, current = counts(case)
    found = told("feature_engine")["results"][case]

    assert psi(reference, current, smoothing=0) == pytest.approx(found["psi"], rel=1e-9)
    assert compare(reference, current)["psi"].critical == pytest.approx(found["critical"], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_alibi_detect(case: str) -> None:
    reference, current = counts(case)
    found = told("alibi_detect")["results"][case]

    # It keeps its statistics in 32 bits.
    assert ks(reference, current) == pytest.approx(found["ks"], rel=FLOAT32)
    if "power of two" in case:
        assert ks(reference, current) == pytest.approx(found["ks"], rel=1e-9)


@pytest.mark.parametrize("case", FULL[:2])
def test_psi_is_about_the_chi_squared_of_alibi_detect_in_shares(case: str) -> None:
    reference, current = counts(case)
    per_row = 1 / reference.sum() + 1 / current.sum()

    # To second order, so where the shift is small; the critical value rests on it.
    chi_squared = told("alibi_detect")["results"][case]["chi_squared"]
    assert psi(reference, current, smoothing=0) == pytest.approx(chi_squared * per_row, rel=0.01)


@pytest.mark.parametrize("peer", run_peer.PEERS)
def test_what_is_kept_is_what_the_script_gives(peer: str) -> None:
    if find_spec(peer) is None:
        pytest.skip(f"{peer} is not in this environment")
    again, kept = run_peer.run(peer)["results"], told(peer)["results"]

    assert again.keys() == kept.keys() == CASES.keys()
    for case, numbers in again.items():
        for name, number in numbers.items():
            assert math.isclose(number, kept[case][name], rel_tol=1e-9), (case, name)
