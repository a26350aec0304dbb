"""The rows of a question, page by page or as a stream, with the filters that only rows can answer."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import PairNotFound, unknown_value
from zvt_crypto.core.symbols import ASSET
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.server.parameters import AT_LEAST, EQUAL, LISTED, Parameters, listed
from zvt_crypto.store import coverage
from zvt_crypto.store.counts import Condition
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History, Series
from zvt_crypto.store.layout import decoded
from zvt_crypto.store.reader import Cursor, Query, answer_schema, cursor_of, read, stream

#: Rows of a batch of a stream of candles, about.
STREAM_ROWS: Final = 1 << 16
#: The same where a busy day has more rows than a day of candles, or most rows are filtered out.
DENSE_STREAM_ROWS: Final = 1 << 12
#: Totals of resampled and filled questions that a process keeps.
_TOTALS_KEPT: Final = 256

_PROVIDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FILTERS: Final = (*LISTED, *EQUAL, "side", "min_volume")
_COLUMN: Final = {**LISTED, "min_volume": "volume"}
#: Filters that only what is not smaller passes.
_LOWER_BOUNDS: Final = ("min_volume", *AT_LEAST)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows.

    Attributes:
        rows: In the columns asked for.
        following: The place of the last row, None where no row follows.
        total: Rows of the whole question.
    """

    rows: pa.Table
    following: Cursor | None
    total: int


class Rows:
    """The rows of one request.

    Args:
        store: Where they are.
        query: The question; its limit is the page's.
        given: The request's parameters, of which the filters are applied here.
        form: Form of the answer.

    Attributes:
        schema: Columns of the answer.
        tag: What changes whenever the answer does. None where nothing was recorded, and for instruments,
            whose table has no versions.

    Raises:
        InvalidArgument: No provider has that name.
        PairNotFound: None of the markets asked for is known.
    """

    def __init__(self, store: Store, query: Query, given: Parameters, form: str) -> None:
        self.store = store
        self.query = query
        self.schema = answer_schema(query)
        self._values = {name: value for name, value in given.model_dump().items() if value is not None}
        self._filters = [name for name in _FILTERS if name in self._values]
        needed = _needed(query.spec, self._filters)
        # A filter and the cursor need columns that may not have been asked for.
        columns = None if query.columns is None else tuple(dict.fromkeys([*query.columns, *needed]))
        self._wide = replace(query, columns=columns)
        self._needed = replace(query, columns=tuple(dict.fromkeys(needed)), limit=None, after=None)
        _check_provider(store, query)
        self.is_recorded = store.exists(query.provider, query.spec)
        self.tag: str | None = None
        has_rows = False
        if self.is_recorded and query.spec.layout == "series":
            self.tag, has_rows = self._digest((form, sorted(self._values.items())))
        if not has_rows:
            self._check_markets()

    def page(self) -> Page:
        """The rows up to the limit, and where the next page begins."""
        limit = self.query.limit
        assert limit is not None
        # One row more tells whether another page follows.
        found = (
            self._first(limit + 1)
            if self._filters
            else read(self.store, replace(self._wide, limit=limit + 1))
        )
        rows = found.slice(0, limit)
        following = cursor_of(rows, self.query.spec) if found.num_rows > limit else None
        return Page(rows.select(self.schema.names), following, self.total())

    def batches(self) -> Iterator[pa.Table]:
        """All rows up to the limit, from one snapshot, in bounded memory."""
        left = self.query.limit
        for batch in self._batches():
            kept = self._kept(batch)
            kept = kept if left is None else kept.slice(0, left)
            left = None if left is None else left - kept.num_rows
            if kept.num_rows:
                yield kept.select(self.schema.names)
            if left == 0:
                return

    def total(self) -> int:
        """How many rows the whole question has, on all its pages."""
        query = self._needed
        if not self.is_recorded:
            return 0
        if query.spec.layout == "entities":
            return int(self._kept(read(self.store, query)).num_rows)
        if query.grid is not None:
            return self._total_on_grid()
        condition = self._condition()
        with self.store.reading(query.provider, query.spec) as connection:
            history = History(connection, query.spec)
            return sum(
                history.count(series, query.start, query.end, condition) for series in self._series(history)
            )

    def _digest(self, asked: object) -> tuple[str, bool]:
        """A digest of what is asked and of the state of all that answers it; whether there is any."""
        query = self.query
        digest = hashlib.sha256(repr((str(self.store.path(query.provider, query.spec)), asked)).encode())
        with self.store.reading(query.provider, query.spec) as connection:
            history = History(connection, query.spec)
            found = self._series(history)
            for series in found:
                digest.update(repr((series.entity_id, series.code, series.name)).encode())
                digest.update(repr(self._states(history, series)).encode())
        return digest.hexdigest()[:32], bool(found)

    def _states(self, history: History, series: Series) -> list[object]:
        states = history.chunks(series)
        if self.query.grid is not None:
            # A bar takes rows from beyond the range, and what was answered says where the last one ends.
            return [*states, *coverage.covered(history.connection, series.key)]
        size = self.query.spec.chunk_ms
        start = None if self.query.start is None else self.query.start // size
        end = None if self.query.end is None else (self.query.end - 1) // size
        return [
            state
            for state in states
            if (start is None or state.chunk >= start) and (end is None or state.chunk <= end)
        ]

    def _total_on_grid(self) -> int:
        """Counted by making all rows, once for each state of what they are made of."""
        query = self._needed
        asked = (
            query.entity_ids,
            query.codes,
            query.start,
            query.end,
            query.resample,
            query.unfinished,
            query.fill,
        )
        key, _ = self._digest(asked)
        known = _totals.get(key)
        if known is None:
            known = sum(batch.num_rows for batch in stream(self.store, query, STREAM_ROWS))
            _totals.put(key, known)
        return known

    def _series(self, history: History) -> list[Series]:
        return history.series(entity_ids=self.query.entity_ids, codes=self.query.codes)

    def _batches(self) -> Iterator[pa.Table]:
        query = replace(self._wide, limit=None)
        after = query.after
        if after is not None and query.spec.layout == "series" and query.grid is None:
            # Nothing before the cursor needs to be walked through; bars would be cut by other bounds.
            if query.order == "asc":
                query = replace(query, start=max(after.timestamp, query.start or 0))
            else:
                query = replace(query, end=min(after.timestamp + 1, query.end or after.timestamp + 1))
        is_dense = query.spec.level is None or bool(self._filters)
        return stream(self.store, query, DENSE_STREAM_ROWS if is_dense else STREAM_ROWS)

    def _first(self, count: int) -> pa.Table:
        parts: list[pa.Table] = []
        left = count
        for batch in self._batches():
            kept = self._kept(batch).slice(0, left)
            parts.append(kept)
            left -= kept.num_rows
            if not left:
                break
        return pa.concat_tables(parts) if parts else answer_schema(self._wide).empty_table()

    def _kept(self, batch: pa.Table) -> pa.Table:
        if not self._filters:
            return batch
        masks = [_mask(batch, name, self._values[name]) for name in self._filters]
        return batch.filter(pa.array(np.logical_and.reduce(masks)))

    def _condition(self) -> Condition | None:
        """The filters of a series in SQL, for counting."""
        if not self._filters:
            return None
        columns = {column.name: column for column in self.query.spec.columns}
        parts = [
            f"{decoded(columns[_COLUMN.get(name, name)])} {'>=' if name in _LOWER_BOUNDS else '='} ?"
            for name in self._filters
        ]
        return Condition(" AND ".join(parts), tuple(self._values[name] for name in self._filters))

    def _check_markets(self) -> None:
        """Refuse a question about markets of which none is recorded, or listed by the exchange."""
        query = self.query
        if query.codes is None and query.entity_ids is None:
            return
        kinds = {spec.entity_type: spec for spec in load_tables().values() if spec.layout == "entities"}
        lists = [kinds[kind] for kind in query.spec.entity_types]
        for spec in dict.fromkeys([query.spec, *lists]):
            if self.store.exists(query.provider, spec) and _knows(self.store, query, spec):
                return
        for name, asked in (("entity_ids", query.entity_ids), ("codes", query.codes)):
            if asked is not None:
                raise _not_found(self.store, query, name, asked, lists)


class _Totals:
    """The totals that are dear to count, by digest. Used by any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> int | None:
        with self._lock:
            return self._known.get(key)

    def put(self, key: str, total: int) -> None:
        with self._lock:
            self._known[key] = total
            while len(self._known) > _TOTALS_KEPT:
                self._known.popitem(last=False)


_totals: Final = _Totals()


def _needed(spec: TableSpec, filters: list[str]) -> list[str]:
    """Columns that the filters and the cursor need."""
    columns = [_COLUMN.get(name, name) for name in filters]
    return [*columns, "timestamp", "entity_id", *(column.name for column in spec.keys)]


def _mask(batch: pa.Table, name: str, value: Any) -> npt.NDArray[np.bool_]:
    column = batch[_COLUMN.get(name, name)]
    if name in LISTED:
        wanted = pa.array([text.lower() for text in listed(name, value) or ()], pa.string())
        found = pc.is_in(column, value_set=wanted)
    elif name in _LOWER_BOUNDS:
        found = pc.greater_equal(column, value)
    else:
        found = pc.equal(column, value)
    mask: npt.NDArray[np.bool_] = pc.fill_null(found, False).to_numpy()
    return mask


def _check_provider(store: Store, query: Query) -> None:
    """Providers are the venues, and whatever rows were imported under another name."""
    provider = query.provider
    if provider in venues():
        return
    if not _PROVIDER.fullmatch(provider) or not store.exists(provider, query.spec):
        raise unknown_value("provider", provider, venues())


def _knows(store: Store, query: Query, spec: TableSpec) -> bool:
    """Whether a table has any of the markets asked for."""
    if spec.layout == "entities":
        asked = Query(
            spec, query.provider, entity_ids=query.entity_ids, codes=query.codes, columns=("code",), limit=1
        )
        return bool(read(store, asked).num_rows)
    with store.reading(query.provider, spec) as connection:
        return bool(History(connection, spec).series(entity_ids=query.entity_ids, codes=query.codes))


def _not_found(
    store: Store, query: Query, name: str, asked: tuple[str, ...], lists: list[TableSpec]
) -> PairNotFound:
    column = "code" if name == "codes" else "entity_id"
    known = [text for spec in lists for text in _texts(store, query.provider, spec, column)]
    wanted = ", ".join(asked)[:80]
    nearest = unknown_value(name, asked[0][:80], known)
    what = "currencies" if query.spec.entity_type == ASSET else "markets"
    return PairNotFound(
        f"parameter {name!r} is {wanted!r}: {query.provider} lists no such {what}, or they are not recorded",
        suggestions=(
            *nearest.suggestions,
            f"see what is known at /api/data/{lists[0].class_name}?provider={query.provider}",
            "record them first: zvt-crypto record",
        ),
        parameter=name,
        value=wanted,
        provider=query.provider,
        nearest=nearest.details["nearest"],
    )


def _texts(store: Store, provider: str, spec: TableSpec, column: str) -> list[str]:
    if not store.exists(provider, spec):
        return []
    found: list[str] = read(store, Query(spec, provider, columns=(column,)))[column].to_pylist()
    return found
