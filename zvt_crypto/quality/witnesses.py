"""Evidence about absent candles out of the store: trades, and other markets at the same times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import orjson

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality import evidence
from zvt_crypto.quality.evidence import Seen, TradesSeen, Witness
from zvt_crypto.quality.gaps import Array, Gaps, Span, is_in, on_grid
from zvt_crypto.quality.series import RecordedSeries, covered_trades, recorded_series
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.sqlite import Connection

#: Other markets of a venue that are looked at, those with the longest record first.
_MOST_PEERS: Final = 8

#: Open times of the candles in holes (JSON pairs of times) that have rows, with how many. The holes lead, so
#: that each is one search in the primary key.
_ROWS_IN_HOLES: Final = (
    "SELECT r.ts - r.ts % {step:d} AS slot, count(*) AS n FROM json_each(?) h CROSS JOIN rows r"
    " ON r.entity = {key:d} AND r.ts >= json_extract(h.value, '$[0]')"
    " AND r.ts < json_extract(h.value, '$[1]') GROUP BY slot ORDER BY slot"
)


def seen_by_others(store: Store, series: RecordedSeries, ts: Array, absent: Gaps) -> Seen:
    """Everything recorded that tells about absent candles."""
    step = series.spec.step
    slots = absent.opens()
    _, counts = np.unique(ts // evidence.bucket_ms(step), return_counts=True)
    here: list[Witness] = []
    elsewhere: list[Witness] = []
    for provider in _providers(store, series.spec):
        peers, same = _witnesses(store, series, provider, absent, slots)
        here += peers
        elsewhere += same
    return Seen(slots, _trades(store, series, absent, slots), here, elsewhere, evidence.usual_fill(counts))


def _providers(store: Store, spec: TableSpec) -> list[str]:
    if not store.data_path.is_dir():
        return []
    folders = sorted(path.name for path in store.data_path.iterdir() if path.is_dir())
    return [name for name in folders if store.exists(name, spec)]


def _trades(store: Store, series: RecordedSeries, absent: Gaps, slots: Array) -> TradesSeen | None:
    trades, spans = covered_trades(store, series)
    if trades is None:
        return None
    step = series.spec.step
    with store.connect(series.provider, trades.spec) as connection:
        times, counts = _rows_in(connection, trades.key, absent, step)
    count = np.zeros(len(slots), np.int64)
    count[np.searchsorted(slots, times)] = counts
    return TradesSeen(_whole(slots, step, spans), count)


def _witnesses(
    store: Store, series: RecordedSeries, provider: str, absent: Gaps, slots: Array
) -> tuple[list[Witness], list[Witness]]:
    """Other markets of the same venue, and the same instrument at others, in one provider's table."""
    here, elsewhere = [], []
    for other in recorded_series(store, provider, series.spec):
        same_venue = provider == series.provider and other.exchange == series.exchange
        if same_venue and other.entity_id != series.entity_id:
            here.append(other)
        elif other.code == series.code and other.exchange != series.exchange:
            elsewhere.append(other)
    if not here and not elsewhere:
        return [], []
    with store.connect(provider, series.spec) as connection, connection.snapshot():
        known = {other.key: coverage.covered(connection, other.key) for other in (*here, *elsewhere)}
        here.sort(key=lambda other: -_length(known[other.key], int(slots[0]), int(slots[-1])))

        def witness(other: RecordedSeries) -> Witness:
            return _witness(connection, other, known[other.key], absent, slots)

        return [witness(o) for o in here[:_MOST_PEERS]], [witness(o) for o in elsewhere]


def _witness(
    connection: Connection, other: RecordedSeries, spans: Iterable[Span], absent: Gaps, slots: Array
) -> Witness:
    step = other.spec.step
    times, _ = _rows_in(connection, other.key, absent, step)
    has_candle = np.zeros(len(slots), bool)
    has_candle[np.searchsorted(slots, times)] = True
    first = connection.value(f"SELECT min(ts) FROM rows WHERE entity = {other.key:d}")
    is_listed = np.zeros(len(slots), bool) if first is None else slots >= first
    bucket = evidence.bucket_ms(step)
    # As many candles again on both sides tell what is usual.
    margin = 24 * bucket
    counts = connection.query(
        f"SELECT count(*) AS n FROM rows WHERE entity = {other.key:d} AND ts >= {int(slots[0]) - margin:d}"
        f" AND ts < {int(slots[-1]) + margin:d} GROUP BY ts / {bucket:d} ORDER BY ts / {bucket:d}"
    )
    fill = evidence.usual_fill(counts["n"].to_numpy())
    return Witness(other.exchange, _whole(slots, step, spans) & is_listed, has_candle, fill)


def _rows_in(connection: Connection, key: int, holes: Gaps, step: int) -> tuple[Array, Array]:
    """Open times of the candles in holes in which an entity has rows, and how many."""
    asked = orjson.dumps(holes.spans()).decode()
    found = connection.query(_ROWS_IN_HOLES.format(step=step, key=key), (asked,))
    return found["slot"].to_numpy().astype(np.int64), found["n"].to_numpy().astype(np.int64)


def _whole(slots: Array, step: int, spans: Iterable[Span]) -> Array:
    """Which slots lie wholly in spans."""
    lower, upper = on_grid(spans, 1)
    whole: Array = is_in(slots, lower, upper) & is_in(slots + step - 1, lower, upper)
    return whole


def _length(spans: Iterable[Span], start: int, end: int) -> int:
    return sum(max(0, min(upper, end) - max(lower, start)) for lower, upper in spans)
