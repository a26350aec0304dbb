"""What a table is, and the registry of all tables.

A ``TableSpec`` is the one definition from which the SQL layout, the zvt class, the recorder, the command
line and the documentation of a table are made. ``zvt_crypto.domain`` holds one file per table family and
registers its specs; nothing else lists tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import DAY_MS, LEVEL_MS

ColumnType = Literal["float", "int", "text", "time", "bool"]

#: Arrow type of each column type; times are epoch milliseconds UTC.
ARROW_TYPE: Final[dict[str, pa.DataType]] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "text": pa.string(),
    "time": pa.int64(),
    "bool": pa.bool_(),
}

#: Candles of one entity that share a version number in the store.
CHUNK_ROWS: Final = 1 << 16

#: A rule's verdict on a batch: a boolean array, true where a row cannot be true.
BadRows = npt.NDArray[np.bool_]
Check = Callable[[pa.Table], BadRows]


@dataclass(frozen=True, slots=True)
class Column:
    """A stored column.

    Attributes:
        name: Column name in SQL, Arrow and pandas.
        type: Kind of value; ``ARROW_TYPE`` gives its Arrow type.
        doc: Meaning and unit, one line.
        unit: Columns of one unit (``price``, ``volume``) share a decimal scale per entity and are kept as
            integers where that is exact; None keeps the value as it is.
        bar: How the column of a coarser candle follows from finer ones; None where it does not.
        is_key: Whether it tells rows of one entity and time apart, as a trade's id does.
    """

    name: str
    type: ColumnType
    doc: str
    unit: str | None = None
    bar: Literal["first", "max", "min", "last", "sum"] | None = None
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that is not stored.

    Attributes:
        name: Column name in SQL, Arrow and pandas.
        type: Kind of value.
        doc: Meaning and unit, one line.
        sql: Expression over the stored columns, for the view.
        needs: The stored columns in it.
        compute: The same over arrays of those columns, NaN for NULL; None where it is always NULL.

    Raises:
        InvalidArgument: There is SQL and nothing to compute with.
    """

    name: str
    type: ColumnType
    doc: str
    sql: str
    needs: tuple[str, ...] = ()
    compute: Callable[..., npt.NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        if self.compute is None and self.sql.upper() != "NULL":
            raise InvalidArgument(f"derived column {self.name!r} has SQL, but nothing to compute it with")


@dataclass(frozen=True, slots=True)
class Rule:
    """A named check of a batch; ``bad`` marks the rows that break it."""

    name: str
    bad: Check


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The definition of one table.

    Attributes:
        name: Name of the table, its view and its database file, such as ``cryptopair_1m_kdata``.
        class_name: Public Python name, such as ``CryptoPair1mKdata``.
        entity_type: ``cryptoasset``, ``cryptopair`` or ``cryptoperp``; what a code means that does not tell.
        feed: What an exchange is asked for to fill it: ``instruments``, ``candles``, ``trades``, ``funding``
            or ``orderbooks``.
        layout: ``entities`` is one row per entity; ``series`` is rows keyed (entity, ts) and by those of the
            columns that are keys.
        columns: Stored columns, entity and time left out.
        derived: Columns that only the view has.
        level: Candle level, None where rows have no fixed distance.
        other_types: Further entity types whose rows it holds.
        rules: Checks that a batch must pass before it is stored.
        doc: One line for the documentation.
    """

    name: str
    class_name: str
    entity_type: str
    feed: str
    layout: Literal["entities", "series"]
    columns: tuple[Column, ...]
    doc: str
    derived: tuple[Derived, ...] = ()
    level: str | None = None
    other_types: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = field(default=(), compare=False)

    @property
    def entity_types(self) -> tuple[str, ...]:
        """The entity types whose rows the table holds."""
        return (self.entity_type, *self.other_types)

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns that tell rows of one entity and time apart; mostly none."""
        return tuple(column for column in self.columns if column.is_key)

    @property
    def step(self) -> int:
        """Distance of the times at which rows can lie, in ms: the level's, or one."""
        return LEVEL_MS[self.level] if self.level else 1

    @property
    def zvt_name(self) -> str:
        """The name under which zvt's own look-ups find the class: ``Cryptopair1mKdata``.

        zvt builds it as ``entity_type.capitalize() + level + "Kdata"``; other tables have one name.
        """
        if self.other_types or not self.class_name.lower().startswith(self.entity_type):
            return self.class_name
        return self.entity_type.capitalize() + self.class_name[len(self.entity_type) :]

    @property
    def chunk_ms(self) -> int:
        """Length of a stretch of time whose rows carry one version number, by which copies are checked."""
        return CHUNK_ROWS * LEVEL_MS[self.level] if self.level else DAY_MS

    @property
    def shown(self) -> tuple[Column | Derived, ...]:
        """The stored columns, then the derived ones."""
        return (*self.columns, *self.derived)

    @property
    def units(self) -> tuple[str, ...]:
        """The decimal scales that the table's columns use, in order of first use."""
        return tuple(dict.fromkeys(c.unit for c in self.columns if c.unit))

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a batch: ``ts`` first for a series, then the stored columns."""
        return _schema(self)


@cache
def _schema(spec: TableSpec) -> pa.Schema:
    key = [pa.field("ts", pa.int64())] if spec.layout == "series" else []
    return pa.schema([*key, *(pa.field(c.name, ARROW_TYPE[c.type]) for c in spec.columns)])


class Registry(Mapping[str, TableSpec]):
    """All tables by name. Look-ups take the table's name, its class name or zvt's name."""

    def __init__(self) -> None:
        self._specs: dict[str, TableSpec] = {}

    def add(self, spec: TableSpec) -> TableSpec:
        """Register a table; its name must be new."""
        if spec.name in self._specs:
            raise InvalidArgument(f"table {spec.name!r} is defined twice")
        self._specs[spec.name] = spec
        return spec

    def find(self, name: str) -> TableSpec:
        """The table of a name in any accepted form.

        Raises:
            InvalidArgument: There is no such table; the message names the nearest ones.
        """
        if name in self._specs:
            return self._specs[name]
        for spec in self._specs.values():
            if name in (spec.class_name, spec.zvt_name):
                return spec
        raise unknown_value("table", name, [s.class_name for s in self._specs.values()])

    def candles(self, entity_type: str, level: str) -> TableSpec:
        """The candle table of an entity type and level.

        Raises:
            InvalidArgument: There is no candle table of that level.
        """
        of_type = {
            s.level: s for s in self._specs.values() if s.feed == "candles" and s.entity_type == entity_type
        }
        if level not in of_type:
            raise unknown_value("level", level, [name for name in of_type if name])
        return of_type[level]

    def __getitem__(self, name: str) -> TableSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


#: Filled by the modules of ``zvt_crypto.domain`` as they are imported.
tables: Final = Registry()
