"""The same rows from every kind of source, and what is said of those that will not do."""

from __future__ import annotations

import csv
import decimal
import gzip
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import zstandard

from agents.config import Config, load_config
from agents.feature_decoding import IMPRESSIONS, INFERENCES, FeatureCounter
from agents.reference_rows import MOST_ROWS, ReferenceRows, Wanted
from agents.reference_sources import read_file
from tables.errors import InputError, RunError
from tables.feature_bins import Value
from tables.reference import Reference
from tables.reference_building import feature_reference

NOON = 1_777_636_800_000
"""2026-05-01T12:00:00Z."""
MINUTE, HOUR = 60_000, 3_600_000

Fields = dict[str, Any]


def read(
    path: Path, model: str = "ranker", config: Config | None = None, most_rows: int = MOST_ROWS, **wanted: Any
) -> ReferenceRows:
    rows = ReferenceRows(Wanted(model_id=model, **wanted), most_rows=most_rows)
    read_file(str(path), config or load_config(None, {}), rows, NOON, lambda count, total: None)
    return rows


def columns_of(rows: ReferenceRows) -> Mapping[str, Sequence[Value]]:
    return {name: rows.column(name) for name in rows.features("the file")}


def columns(path: Path, **wanted: Any) -> Mapping[str, Sequence[Value]]:
    return columns_of(read(path, **wanted))


def built(path: Path, **wanted: Any) -> Reference:
    rows = read(path, **wanted)
    features = (
        feature_reference(name, rows.column(name), topics=rows.topics(name)) for name in rows.features(path.name)
    )
    return Reference("ranker", None, tuple(features), NOON, "")


def lines(path: Path, objects: Sequence[Fields | str]) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in objects))
    return path


def table(path: Path, rows: Sequence[Fields]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
    return path


def _cell(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def parquet(path: Path, rows: Sequence[Fields]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


def recording(path: Path, records: Sequence[tuple[str, Fields | str]]) -> Path:
    return lines(path, [{"topic": topic, "timestamp": NOON, "value": value} for topic, value in records])


def inference(at: int = NOON, model: str = "ranker", **fields: Any) -> Fields:
    return {"model_id": model, "event_time": at, **fields}


def impression(at: int = NOON, model: str = "ranker", **features: Value) -> Fields:
    return {"model_id": model, "event_time": at, "user_id": "u1", "item_id": "i1", "features": features}


@pytest.fixture
def traffic() -> list[Fields]:
    """Inferences of one model: numbers, categories, booleans, missing ones, and a prediction."""
    dice = random.Random(5)
    events = []
    for index in range(700):
        features = {
            "age": dice.choice([None, *range(18, 60)]),
            "price": round(dice.lognormvariate(3, 1), 2),
            "gender": dice.choice(["f", "m", "m", None, 'größe, in "cm"']),
            "is_new_user": dice.random() < 0.2,
        }
        events.append(inference(NOON - 700 + index, model_version="3", features=features, prediction=dice.random()))
    return events


def test_all_kinds_of_sources_give_the_same_reference(traffic: list[Fields], tmp_path: Path) -> None:
    plain = [
        {name: event[name] for name in ("model_id", "model_version", "event_time", "prediction")} | event["features"]
        for event in traffic
    ]
    others: list[tuple[str, Fields | str]] = [
        ("clicks", {"user_id": "u1", "item_id": "i1", "event_time": NOON}),
        ("inferences", inference(model="other", features={"age": 99, "colour": "red"})),
        ("tidemark.windows", {"model_id": "ranker", "event_time": NOON, "features": {"age": 99}}),
    ]
    sources = {
        "recording": recording(tmp_path / "r.jsonl", [*others, *(("inferences", event) for event in traffic)]),
        "bare events": lines(tmp_path / "events.jsonl", traffic),
        "rows of features": lines(tmp_path / "rows.jsonl", plain),
        "CSV": table(tmp_path / "rows.csv", plain),
        "Parquet": parquet(tmp_path / "rows.parquet", plain),
    }
    for name, pack in (("gz", gzip.compress), ("zst", zstandard.compress)):
        sources[name] = tmp_path / f"r.jsonl.{name}"
        sources[name].write_bytes(pack(sources["recording"].read_bytes()))
    sources["CSV.gz"] = tmp_path / "rows.csv.gz"
    sources["CSV.gz"].write_bytes(gzip.compress(sources["CSV"].read_bytes()))

    references = {kind: built(path) for kind, path in sources.items()}
    features = {feature.name: feature for feature in references["recording"].features}
    assert set(features) == {"age", "price", "gender", "is_new_user", "prediction"}
    assert all(feature.n == 700 for feature in features.values())
    # A table does not tell what its rows are of; only inferences have predictions.
    tables = {"rows of features", "CSV", "CSV.gz", "Parquet"}
    of_no_input = tuple(
        replace(each, topics=() if each.name != "prediction" else each.topics) for each in features.values()
    )
    for kind, reference in references.items():
        assert reference.features == (of_no_input if kind in tables else references["recording"].features)
    assert {each.topics for each in features.values()} == {(INFERENCES,)}
    assert built(sources["CSV"]) == references["CSV"]  # whenever it is read
    # With and without columns that select.
    bare = [{name: row[name] for name in ("prediction", "age", "price", "gender", "is_new_user")} for row in plain]
    assert built(table(tmp_path / "bare.csv", bare)).id == references["CSV"].id


def test_a_worker_counts_the_rows_of_a_reference_just_as_the_reference_does(tmp_path: Path) -> None:
    dice = random.Random(6)
    shown = [
        impression(age=dice.randrange(80), gender=dice.choice(["f", None]), hour=dice.randrange(12)) for _ in range(300)
    ]
    answered = [
        inference(
            features={"score": dice.random(), "hour": dice.randrange(24)}, prediction=dice.choice([None, dice.random()])
        )
        for _ in range(200)
    ]
    # Events without features say nothing of them.
    shown += [impression(), impression() | {"features": None}]
    answered += [inference(), inference(features={}), inference(features=None, prediction=0.5)]
    # What an event is, its topic says, whatever else is in it; and of features an inference itself alone predicts.
    shown += [impression(age=3, prediction=7), impression(age=4) | {"prediction": 0.5}]
    answered += [inference(item_id="i1", features={"score": 1, "prediction": 7}), inference(item_id="i1")]
    events = [("impressions", event) for event in shown] + [("inferences", event) for event in answered]
    reference = built(recording(tmp_path / "r.jsonl", events))

    counts = FeatureCounter(reference, INFERENCES).count_predictions([event.get("prediction") for event in answered])
    for topic in (IMPRESSIONS, INFERENCES):
        texts = [
            json.dumps(event["features"]).encode() for of, event in events if of == topic and event.get("features")
        ]
        counts += FeatureCounter(reference, topic).count(texts)  # type: ignore[arg-type]

    assert counts.tolist() == [count for feature in reference.features for count in feature.counts]
    by_name = {feature.name: feature for feature in reference.features}
    assert {name: (feature.topics, feature.n) for name, feature in by_name.items()} == {
        "age": ((IMPRESSIONS,), 302),
        "gender": ((IMPRESSIONS,), 302),
        "hour": ((IMPRESSIONS, INFERENCES), 503),
        "score": ((INFERENCES,), 201),
        "prediction": ((INFERENCES,), len(answered)),
    }


def test_of_events_without_a_topic_those_that_show_an_item_are_impressions(tmp_path: Path) -> None:
    file = lines(tmp_path / "e.jsonl", [impression(a=1), inference(features={"a": 2}), inference(prediction=0.5)])
    rows = read(file)
    assert columns_of(rows) == {"a": [1, 2], "prediction": [None, 0.5]}
    assert (rows.topics("a"), rows.topics("prediction")) == ((IMPRESSIONS, INFERENCES), (INFERENCES,))


def test_a_model_is_found_however_many_others_there_are(tmp_path: Path) -> None:
    events = [inference(model=f"m{index}", model_version="v", features={"a": 1}) for index in range(1500)]
    file = lines(tmp_path / "e.jsonl", [*events, inference(features={"a": 2}, model_version="v3")])
    assert columns(file, model_version="v3") == {"a": [2]}
    with pytest.raises(InputError, match=r"it has: m0, m1, m10, m100, m101, [.]{3}$"):
        read(file, "nobody").features("e")


def test_a_configuration_says_which_topics_count_and_what_they_are_called(tmp_path: Path) -> None:
    file = recording(
        tmp_path / "r.jsonl",
        [
            ("eu.impressions", impression(a=1)),
            ("inferences", inference(features={"b": 2}, prediction=3)),
            ("us.impressions", impression(c=1)),
        ],
    )
    (tmp_path / "t.yaml").write_text("topics: {prefix: eu.}\n")
    config = load_config(tmp_path / "t.yaml", {})
    assert set(read(file, config=config).features("r")) == {"a", "b", "prediction"}
    (tmp_path / "t.yaml").write_text("topics: {prefix: eu.}\ndrift: {topics: [impressions]}\n")
    assert set(read(file, config=load_config(tmp_path / "t.yaml", {})).features("r")) == {"a"}


def test_a_recording_of_other_topics_is_said_to_be_one(tmp_path: Path) -> None:
    file = recording(tmp_path / "r.jsonl", [("us.inferences", inference(features={"a": 1})), ("clicks", {})])
    with pytest.raises(InputError, match=r"^r: no row in it; it has the topics clicks, us\.inferences$"):
        read(file).features("r")


def test_only_the_wanted_version_and_times_are_taken(tmp_path: Path) -> None:
    events = [
        inference(NOON + index * MINUTE, features={"at": index}, model_version=version)
        for index, version in enumerate(["v1", "v2", "v1", None, "v1", "v2"])
    ]
    file = lines(tmp_path / "e.jsonl", events)
    assert columns(file)["at"] == [0, 1, 2, 3, 4, 5]
    assert columns(file, model_version="v1")["at"] == [0, 2, 4]
    assert columns(file, model_version="")["at"] == [3]
    assert columns(file, since_ms=NOON + MINUTE, until_ms=NOON + 4 * MINUTE)["at"] == [1, 2, 3]
    assert columns(file, model_version="v1", since_ms=NOON + MINUTE, first_ms=2 * MINUTE)["at"] == [2]
    assert columns(file, first_ms=2 * MINUTE + 1)["at"] == [0, 1, 2]


def test_the_first_hours_begin_at_the_earliest_event_wherever_it_stands(tmp_path: Path) -> None:
    hours = [5, 4.5, 3, 5.5, 3.9, 4.0]
    file = lines(tmp_path / "e.jsonl", [inference(NOON - round(8 * HOUR - h * HOUR), features={"h": h}) for h in hours])
    assert columns(file, first_ms=HOUR)["h"] == [3, 3.9]


def test_only_the_named_features_are_taken_and_the_prediction_is_one(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "e.jsonl", [inference(features={"a": 1, "b": 2}, prediction=3), inference(features={"b": 5})]
    )
    assert columns(file, features=("a",)) == {"a": [1, None]}
    assert columns(file, features=("prediction", "b")) == {"prediction": [3, None], "b": [2, 5]}


def test_people_items_and_requests_are_no_features_unless_asked_for(tmp_path: Path) -> None:
    row = {"user_id": "u1", "item_id": 7, "request_id": None, "age": 3, "position": 2}
    for file in (
        lines(tmp_path / "r.jsonl", [row]),
        table(tmp_path / "r.csv", [row]),
        parquet(tmp_path / "r.pq", [row]),
    ):
        rows = read(file)
        assert set(rows.features(file.name)) == {"age", "position"}
        assert rows.left_out == {"user_id", "item_id"}
        asked = read(file, features=("item_id",))
        assert columns_of(asked) == {"item_id": [7.0]}
        assert "item_id" not in asked.left_out


def test_cells_of_a_csv_file_are_missing_numbers_booleans_or_text(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_bytes(
        b"\xef\xbb\xbfage;note; ok \r\n"
        b'18;"two\nlines; and ""quotes""";true\r\n'
        b"1e3; ;False\r\n\r\n"
        b"nan;1_000;TRUE\r\n"
        b"-.5;inf;maybe\r\n"
    )
    assert columns(file) == {
        "age": [18, 1000, None, -0.5],
        "note": ['two\nlines; and "quotes"', None, "1_000", math.inf],
        "ok": [True, False, True, "maybe"],
    }


def test_rows_of_a_csv_file_with_too_many_or_too_few_cells_are_skipped_and_told(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    # Columns without a name are nobody's.
    file.write_text("a,b,,\n1,2,,\n3\n4,5,6,7,8\n7,8,9,\n")
    rows = read(file)
    assert columns_of(rows) == {"a": [1, 7], "b": [2, 8]}
    assert (rows.skipped, rows.first_skipped) == (2, f"{file}: line 3: expected 4 cells, got 1")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a,b,a\n1,2,3\n", "line 1: expected every column once, got 'a' twice"),
        (b'a,b\n1,"2\n', "line 2: no CSV: "),
        (b"a,b\n1,\xff\n", "line 2: expected UTF-8"),
        (b"", "no row in it"),
        (b"a,b\n", "no row in it"),
        (b"event_time,a\nyesterday,1\n", "no row in it, and 1 that cannot be read; "),
    ],
)
def test_a_file_that_is_no_csv_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        read(file).features(str(file))
    assert str(file) in str(caught.value)


def test_columns_select_rows_as_fields_of_events_do(tmp_path: Path) -> None:
    rows: list[Fields] = [
        {"model_id": "ranker", "model_version": 3, "event_time": NOON - 5, "a": 1},
        {"model_id": "ranker", "model_version": 2, "event_time": NOON - 4, "a": 2},
        {"model_id": "other", "model_version": 3, "event_time": NOON - 3, "a": 3},
        {"model_id": None, "model_version": 3, "event_time": NOON - 2, "a": 4},
        {"model_id": "ranker", "model_version": 3, "event_time": NOON - 1, "a": 5},
        {"model_id": "ranker", "model_version": None, "event_time": NOON - 1, "a": 6},
    ]
    for file in (lines(tmp_path / "r.jsonl", rows), table(tmp_path / "r.csv", rows), parquet(tmp_path / "r.pq", rows)):
        assert columns(file) == {"a": [1, 2, 5, 6]}
        assert columns(file, model_version="3") == {"a": [1, 5]}
        assert columns(file, model_version="") == {"a": [6]}
        assert columns(file, since_ms=NOON - 4) == {"a": [2, 5, 6]}


def test_parquet_has_types_of_its_own(tmp_path: Path) -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    columns_written = {
        "event_time": pa.array([at, None, at], pa.timestamp("ns", "UTC")),
        "model_id": pa.array(["ranker"] * 3).dictionary_encode(),
        "gender": pa.array(["f", None, "m"]).dictionary_encode(),
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2")]),
        "small": pa.array([1, 2, None], pa.int8()),
        "score": pa.array([0.5, math.nan, 1], pa.float32()),
        "new": pa.array([True, False, None]),
        "nothing": pa.nulls(3),
        "seen_at": pa.array([at, at, at], pa.timestamp("ms")),
        "tags": pa.array([["a"], [], None]),
    }
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns_written), file)
    rows = read(file)
    assert columns_of(rows) == {
        "gender": ["f", None, "m"],
        "price": [1.5, None, 2],
        "small": [1, 2, None],
        "score": [0.5, None, 1],
        "new": [True, False, None],
        "nothing": [None, None, None],
    }
    assert rows.left_out == {"seen_at (timestamp[ms])", "tags (list<element: string>)"}
    assert columns(file, since_ms=NOON)["gender"] == ["f", "m"]


def test_parquet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = parquet(tmp_path / "r.parquet", [{"a": 1}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        RunError, match=r"r\.parquet: Parquet needs pyarrow; install it with: pip install 'tidemark\[parquet\]'"
    ):
        read(file)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    file.write_bytes(b"PAR1 and then\nnothing PAR1")
    with pytest.raises(InputError, match=r"^\S+r\.parquet: cannot be read as Parquet: [^\n]+$"):
        read(file)


def test_broken_events_are_skipped_and_told(tmp_path: Path) -> None:
    events: list[Fields | str] = [
        "",
        inference(features={"a": 1}),
        "{broken",
        inference(at=-1, features={"a": 2}),
        inference(features={"a": [3]}),
        inference(features={"a": 4}),
    ]
    rows = read(lines(tmp_path / "e.jsonl", events))
    assert rows.column("a") == [1, 4]
    assert rows.skipped == 3
    assert rows.first_skipped.startswith(f"{tmp_path / 'e.jsonl'}: line 3: not_json: ")
    rows = read(recording(tmp_path / "r.jsonl", [("inferences", event) for event in events[1:2]]))
    assert rows.skipped == 0
    rows = read(lines(tmp_path / "rows.jsonl", [{"a": 1}, "nonsense", {"a": {}}, {"a": 2, "event_time": 5}]))
    assert (rows.column("a"), rows.skipped) == ([1], 3)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"model": "rankr"}, "no event of model 'rankr' in e.jsonl; it has: home, ranker"),
        ({"model_version": "v9"}, "no event of model 'ranker', version 'v9' in e.jsonl; it has: \"\", v1"),
        (
            {"since_ms": NOON + HOUR},
            "no event of model 'ranker' in e.jsonl between --since and --until; "
            "it has 2026-05-01T12:00:00Z to 2026-05-01T12:01:00Z",
        ),
        (
            {"features": ("a", "gendr")},
            "--features: no event of model 'ranker' in e.jsonl has gendr; did you mean gender?",
        ),
        ({"features": ("zzz",)}, "--features: no event of model 'ranker' in e.jsonl has zzz; it has: a, gender"),
        ({"model": "home"}, "the events of model 'home' in e.jsonl have no features"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(wanted: Fields, said: str, tmp_path: Path) -> None:
    events = [
        inference(features={"a": 1, "gender": "f"}, model_version="v1"),
        inference(NOON + MINUTE, features={"a": 1}),
        inference(model="home", model_version="v2"),
    ]
    with pytest.raises(InputError) as caught:
        read(lines(tmp_path / "e.jsonl", events), **wanted).features("e.jsonl")
    assert str(caught.value) == said


def test_times_are_needed_where_they_are_gone_by(tmp_path: Path) -> None:
    file = table(tmp_path / "r.csv", [{"a": 1}])
    with pytest.raises(
        InputError, match="line 2: event_time: missing, but --since, --until and --first-hours go by it"
    ):
        read(file, first_ms=HOUR).features("r.csv")


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.parquet"])
def test_a_file_that_is_not_there_or_empty_is_said_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / name)
    if name != "e.parquet":
        (tmp_path / name).write_bytes(b"\n \n")
        with pytest.raises(InputError, match=f"{name}: no row in it$"):
            read(tmp_path / name).features(name)


def test_of_many_rows_a_sample_is_taken_the_same_one_from_every_source(tmp_path: Path) -> None:
    rows = [{"a": index, "b": f"{index}"} for index in range(3_000)]
    files = [lines(tmp_path / "r.jsonl", rows), table(tmp_path / "r.csv", rows), parquet(tmp_path / "r.pq", rows)]
    found = [read(file, most_rows=100) for file in files]
    assert [(len(each.column("a")), each.drawn_from("a")) for each in found] == [(100, 3_000)] * 3
    first, *others = [each.column("a") for each in found]
    assert others == [first, first]
    few = read(lines(tmp_path / "few.jsonl", rows[:100]), most_rows=100)
    assert (few.column("a"), few.drawn_from("a")) == (list(range(100)), None)


def test_a_table_is_asked_for_the_named_columns_only_and_knows_what_the_others_are_called(tmp_path: Path) -> None:
    rows: list[Fields] = [{"age": 1, "gender": "f", "user_id": "u1"}] * 3
    for file in (table(tmp_path / "r.csv", rows), parquet(tmp_path / "r.pq", rows)):
        found = read(file, features=("gender",))
        assert columns_of(found) == {"gender": ["f"] * 3}
        assert found.left_out == set()
        with pytest.raises(InputError, match="no event of model 'ranker' in r has agee; did you mean age"):
            read(file, features=("agee",)).features("r")


def test_too_many_features_are_refused(tmp_path: Path) -> None:
    file = lines(tmp_path / "e.jsonl", [inference(features={f"f{index}": 1 for index in range(501)})])
    with pytest.raises(InputError, match="more than 500 features: name those to compare with --features"):
        read(file)
    assert set(columns(file, features=("f7",))) == {"f7"}
