"""Tables in Parquet or CSV: a label, a subject, an id, and columns that become numbers.

What a column becomes is learned from the training rows alone (`fit`), so that nothing about holdout or test leaks into
the preparation. A row in an error counts data rows from 0; a CSV's header is not one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from unlearning.problem import Indices

Missing = Literal["refuse", "impute"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what. Columns that are not named are not read.

    Without `id`, ids are `row-0000000` by position. A missing subject is None: the data does not say whom the row belongs
    to. `missing` rules the features: `refuse`, or `impute`: a number becomes the mean of the training rows and each
    numeric column gets a second one that is 1 where it was missing; a category becomes 'other'. A missing label or id is
    always refused.
    """

    label: str
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    subject: str | None = None
    id: str | None = None
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if not self.numeric and not self.categorical:
            raise ValueError("name at least one numeric or categorical column")
        used = self.named()
        twice = sorted({name for name in used if used.count(name) > 1})
        if twice:
            raise ValueError(f"columns are named for two uses: {', '.join(twice)}; a label or subject is no feature")
        if self.missing not in ("refuse", "impute"):
            raise ValueError(f"missing is {self.missing!r}: use 'refuse' or 'impute'")

    def named(self) -> list[str]:
        """All columns that are read."""
        extra = [name for name in (self.subject, self.id) if name is not None]
        return [self.label, *extra, *self.numeric, *self.categorical]


@dataclass(frozen=True)
class Table:
    """The rows of a file. `numbers_NK` holds NaN where a value is missing, `categories` None."""

    columns: Columns
    ids: list[str]
    subjects: list[str | None]
    classes: list[str]
    labels_N: NDArray[np.int64]
    numbers_NK: NDArray[np.float64]
    categories: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Encoder:
    """How rows become features_NF: standardised numbers, then (under `impute`) their gaps, then one-hot categories.

    `levels` are those of the training rows in alphabetical order; each column has one more place, for all others. A
    column that is constant on the training rows is centred and not scaled.
    """

    means_K: NDArray[np.float64]
    scales_K: NDArray[np.float64]
    levels: dict[str, list[str]]
    missing: Missing

    @property
    def names(self) -> list[str]:
        """The categorical places, as `column=level`, in their order."""
        return [f"{name}={level}" for name, levels in self.levels.items() for level in [*levels, "(other)"]]

    def encode(self, table: Table, rows: Indices) -> Floats:
        """features_NF of these rows, in the order given; float32."""
        numbers_NK = table.numbers_NK[rows]
        gaps_NK = np.isnan(numbers_NK)
        standard_NK = (np.where(gaps_NK, self.means_K, numbers_NK) - self.means_K) / self.scales_K
        parts: list[Floats] = [standard_NK.astype(np.float32)]
        if self.missing == "impute":
            parts.append(gaps_NK.astype(np.float32))
        for name, levels in self.levels.items():
            place = {level: position for position, level in enumerate(levels)}
            codes_N = np.array(
                [place.get(value, len(levels)) for value in table.categories[name][rows]], dtype=np.int64
            )
            hot = np.zeros((len(codes_N), len(levels) + 1), dtype=np.float32)
            hot[np.arange(len(codes_N)), codes_N] = 1
            parts.append(hot)
        return np.concatenate(parts, axis=1)


def fit(table: Table, rows: Indices) -> Encoder:
    """Means, standard deviations (divided by N) and levels of the training rows, missing values left out.

    Raises:
        ValueError: there are no rows, or a numeric column has no value on them.
    """
    if len(rows) == 0:
        raise ValueError("there are no training rows to fit on")
    numbers_NK = table.numbers_NK[rows]
    for name, column_N in zip(table.columns.numeric, numbers_NK.T, strict=True):
        if np.isnan(column_N).all():
            raise ValueError(f"column {name!r} has no value on the training rows")
    scales_K = np.nanstd(numbers_NK, axis=0)
    levels = {
        name: sorted({value for value in values[rows] if value is not None})
        for name, values in table.categories.items()
    }
    means_K = np.nanmean(numbers_NK, axis=0)
    return Encoder(means_K, np.where(scales_K > 0, scales_K, 1.0), levels, table.columns.missing)


def read_table(path: Path, columns: Columns, null_values: Sequence[str] = ("",)) -> Table:
    """The named columns of a file that ends in .parquet or .csv; in CSV, `null_values` are how a missing value is written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another ending, a malformed file, a column that is not there or there twice, a value that is no finite
            number, a missing value that is refused, an id given twice; says file, column and row.
    """
    if path.suffix == ".csv":
        with path.open("rb") as file:
            return read_csv(file, columns, null_values, str(path))
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: a table ends in .parquet or .csv")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with pyarrow.parquet.ParquetFile(path) as parquet:
            _check_header(parquet.schema_arrow.names, columns, str(path))
            data = parquet.read(columns=columns.named())
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a sound Parquet file: {error}") from error
    return _table(data, columns, str(path))


def read_csv(file: IO[bytes], columns: Columns, null_values: Sequence[str] = ("",), name: str = "CSV data") -> Table:
    """As `read_table`, from an open file with a header; `name` is what an error calls it."""
    bad: list[int] = []

    def noted(row: pyarrow.csv.InvalidRow) -> str:
        bad.append(row.number - 2)  # numbers count from 1 and the header is one
        return "error"

    try:
        data = pyarrow.csv.read_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # rows have no numbers otherwise
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=noted, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={column: pa.string() for column in columns.named()},
                null_values=list(null_values),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException as error:
        if bad:
            raise ValueError(f"{name}: row {bad[0]} has another number of fields than the header") from error
        raise ValueError(f"{name}: not sound CSV: {error}") from error
    _check_header(data.column_names, columns, name)
    return _table(data.select(columns.named()), columns, name)


def _check_header(found: Sequence[str], columns: Columns, name: str) -> None:
    for column in columns.named():
        if found.count(column) != 1:
            raise ValueError(
                f"{name}: column {column!r} is there {found.count(column)} times; there are: {', '.join(found)}"
            )


def _table(data: pa.Table, columns: Columns, name: str) -> Table:
    count = data.num_rows
    if count == 0:
        raise ValueError(f"{name}: there are no rows")
    refuse = columns.missing == "refuse"
    labels = _texts(data, columns.label, name, refuse=True)
    classes, labels_N = np.unique(labels.astype(str), return_inverse=True)
    numbers = [_numbers(data, column, name, refuse) for column in columns.numeric]
    ids = [f"row-{row:07d}" for row in range(count)]
    if columns.id is not None:
        ids = _texts(data, columns.id, name, refuse=True).tolist()
        first: dict[str, int] = {}
        for row, sample in enumerate(ids):
            if first.setdefault(sample, row) != row:
                raise ValueError(f"{name}: column {columns.id!r}, row {row}: the id of row {first[sample]} again")
    return Table(
        columns=columns,
        ids=ids,
        subjects=[None] * count
        if columns.subject is None
        else _texts(data, columns.subject, name, refuse=False).tolist(),
        classes=classes.tolist(),
        labels_N=labels_N.astype(np.int64),
        numbers_NK=np.stack(numbers, axis=1) if numbers else np.empty((count, 0)),
        categories={column: _texts(data, column, name, refuse) for column in columns.categorical},
    )


def _texts(data: pa.Table, column: str, name: str, refuse: bool) -> NDArray[np.object_]:
    """A column of strings, integers or booleans as text; None where missing."""
    values = data[column]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    allowed = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(check(values.type) for check in allowed):
        raise ValueError(f"{name}: column {column!r} is of type {values.type}: use text, integers or booleans here")
    if refuse:
        _refuse_missing(values, column, name)
    texts: NDArray[np.object_] = values.cast(pa.string()).to_numpy(zero_copy_only=False).astype(object)
    return texts


def _numbers(data: pa.Table, column: str, name: str, refuse: bool) -> NDArray[np.float64]:
    """A column of numbers, or of text that spells them; NaN where missing."""
    values = data[column]
    if refuse:
        _refuse_missing(values, column, name)
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{name}: column {column!r}, row {_not_a_number(values)}: not a number") from error
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"{name}: column {column!r} is of type {kind}: use numbers here")
    values = values.cast(pa.float64(), safe=False)
    finite = pc.fill_null(pc.is_finite(values), True).to_numpy(zero_copy_only=False).astype(bool)
    if not finite.all():
        raise ValueError(f"{name}: column {column!r}, row {int(np.argmin(finite))}: infinite or NaN")
    numbers_N: NDArray[np.float64] = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers_N


def _refuse_missing(values: pa.ChunkedArray, column: str, name: str) -> None:
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False).astype(bool)))
        raise ValueError(f"{name}: column {column!r}, row {row}: the value is missing")


def _not_a_number(texts: pa.ChunkedArray) -> int:
    """The first row that spells no number, where one of them does not."""
    low, high = 0, len(texts)  # texts[:low] all do, texts[:high] do not
    while high - low > 1:
        middle = (low + high) // 2
        try:
            texts[:middle].cast(pa.float64())
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
