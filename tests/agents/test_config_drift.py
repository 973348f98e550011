"""The section `drift`: what it says is what holds, and every mistake in it names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.config import find_mistakes, load_config
from tables.drift_policy import DriftPolicy
from tests.tables.test_reference_store import reference

HOUR_MS = 3_600_000


def written(folder: Path, text: str) -> Path:
    (folder / "ranker.json").write_bytes(reference().to_json())
    (folder / "broken.json").write_text('{"format": 1}')
    path = folder / "tidemark.yaml"
    path.write_text("drift:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    return path


def test_a_whole_section(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "references: [ranker.json]\n"
        "topics: [inferences]\n"
        "horizon: 4h\n"
        "minor: 0.05\n"
        'models: [{model: "fraud-*", severe: 0.5}]',
    )
    drift = load_config(path, {}).drift
    assert drift.references == (reference(),)
    assert (drift.from_impressions, drift.from_inferences) == (False, True)
    assert drift.policy_of("ranker") == DriftPolicy(minor=0.05, horizon_ms=4 * HOUR_MS)
    assert drift.policy_of("fraud-eu") == DriftPolicy(minor=0.05, severe=0.5, horizon_ms=4 * HOUR_MS)


def test_without_it_everything_is_as_by_default() -> None:
    drift = load_config(None, {}).drift
    assert (drift.references, drift.policy_of("any")) == ((), DriftPolicy())
    assert drift.from_impressions and drift.from_inferences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("references: ranker.json", ':2: drift.references: expected a list of texts, got "ranker.json"'),
        ("references: [none.json]", 'none.json": No such file or directory'),
        ("references: [broken.json]", ':2: drift.references: "'),
        ("topics: [clicks]", ":2: drift.topics: expected some of impressions, inferences, got clicks"),
        ("horizon: 90s", ":2: drift.horizon: expected whole minutes"),
        ("minor: 0.3", "expected 0 < minor <= severe, got 0.3 and 0.2"),
        ("severe: -1", ":2: drift.severe: expected a number above 0, got -1"),
        ("models: [{severe: 0.5}]", 'expected the key model, such as "recommender-*"'),
        ("reference: []", "drift.reference: unknown"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = find_mistakes(written(tmp_path, text), {})
    assert expected in found
    assert str(tmp_path) in found
