"""What can be said of a recorded series without asking anybody: an object for files and programs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, ceil_ms, floor_ms, iso, merge_spans, subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.core.trade_bars import candles_from_trades
from zvt_crypto.quality.comparison import Comparison, compare
from zvt_crypto.quality.gaps import AFTER_DELISTING, BEFORE_LISTING, Span
from zvt_crypto.quality.holes import Holes, find_holes
from zvt_crypto.quality.rows import stored_rows, stored_table
from zvt_crypto.quality.series import RecordedSeries, covered_trades
from zvt_crypto.store.engine import Store

#: Relative difference between a candle and its trades that rounding explains.
TOLERANCE: Final = 1e-9
#: What of a candle its trades tell. Their number does not count: venues list aggregates of trades.
_FROM_TRADES: Final = ("open", "high", "low", "close", "volume", "turnover")
#: A mean price so many times beyond the prices themselves is one of another unit.
_UNIT_FACTOR: Final = 2.0
_FORMAT: Final = 1


def certify(
    store: Store,
    series: RecordedSeries,
    *,
    made_at: int,
    versions: Mapping[str, str],
    start: int | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """The certificate of a series of candles, funding events or trades.

    ``complete`` is true where the exchange answered for the whole span, nothing that it has is known to be
    missing, all rows are sound, and recorded trades tell the same as the candles; ``reasons`` says what is in
    the way. The hash depends on the rows in the span alone.

    Args:
        store: Where it is.
        series: The series.
        made_at: Now, epoch ms UTC.
        versions: Of the program and what it stands on, by name.
        start: First time, epoch ms; see ``find_holes``.
        end: End of the times, exclusive.

    Raises:
        StoreCorrupt: A file is damaged.
    """
    holes = find_holes(store, series, start, end)
    health = _examine(store, holes)
    rebuilt = _against_trades(store, holes)
    reasons = [*_hole_reasons(holes), *health.reasons(), *_trade_reasons(rebuilt)]
    return {
        "format": _FORMAT,
        "provider": series.provider,
        "exchange": series.exchange,
        "entity_id": series.entity_id,
        "code": series.code,
        "table": series.spec.name,
        "level": series.spec.level,
        "start": iso(holes.start),
        "end": iso(holes.end),
        "rows": holes.rows,
        "rows_expected": _expected(holes),
        "coverage": answered_share(holes),
        "gaps": holes.by_kind(),
        "gaps_proven": int(holes.is_proven.sum()),
        "duplicates": health.duplicates,
        "off_grid": health.off_grid,
        "not_positive_prices": health.not_positive,
        "turnover_unlike_price": health.wrong_unit,
        "broken_rules": health.broken,
        "candles_against_trades": None if rebuilt is None else _rebuilt_facts(rebuilt),
        "sha256": health.sha256(),
        "complete": not reasons,
        "reasons": reasons,
        "versions": dict(versions),
        "made_at": iso(made_at),
    }


def answered_share(holes: Holes) -> float:
    """Share of the market's time in the span that the exchange answered for; 1 where there is no time."""
    alive = [(holes.start, holes.end)]
    if isinstance(holes.gaps.step, int):
        beyond = holes.gaps.take(holes.gaps.of(BEFORE_LISTING, AFTER_DELISTING))
        alive = subtract_spans(alive, beyond.spans())
    total = _length(alive)
    return 1 - _length(subtract_spans(alive, holes.answered)) / total if total else 1.0


def _expected(holes: Holes) -> int | None:
    """Rows that the span would have if the market had traded all the time; None for trades."""
    if holes.series.spec.feed == "trades":
        return None
    alive = ~holes.gaps.of(BEFORE_LISTING, AFTER_DELISTING)
    return holes.rows + int(holes.gaps.missing[alive].sum())


def _length(spans: list[Span]) -> int:
    return sum(end - start for start, end in spans)


@dataclass(slots=True)
class Health:
    """What one pass over the rows finds."""

    spec: TableSpec
    duplicates: int = 0
    off_grid: int = 0
    not_positive: int = 0
    wrong_unit: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    _digests: dict[tuple[str, int], Any] = field(default_factory=dict)
    _last: int = -1

    def take(self, rows: pa.Table) -> None:
        """Look at the next rows."""
        ts = rows["ts"].to_numpy()
        if not self.spec.keys:
            self.duplicates += int(np.count_nonzero(np.diff(ts, prepend=self._last) == 0))
        self._last = int(ts[-1])
        self.off_grid += int(np.count_nonzero(ts % self.spec.step))
        prices = [column.name for column in self.spec.columns if column.unit == "price"]
        if prices:
            values = np.array([rows[name].to_numpy() for name in prices])
            self.not_positive += int((values <= 0).any(axis=0).sum())
        if self.spec.feed == "candles":
            self.wrong_unit += int(_of_wrong_unit(rows).sum())
        for rule in self.spec.rules:
            bad = int(rule.bad(rows).sum())
            if bad:
                self.broken[rule.name] = self.broken.get(rule.name, 0) + bad
        for name in rows.column_names:
            for part, content in enumerate(_bytes(rows[name])):
                self._digests.setdefault((name, part), hashlib.sha256()).update(content)

    def sha256(self) -> str:
        """Hash of the rows: of the columns' own, by name, each over its values in order of time."""
        whole = hashlib.sha256()
        for name in self.spec.schema.names:
            for part in range(2):
                digest = self._digests.get((name, part), hashlib.sha256())
                whole.update(name.encode() + b"\0" + digest.digest())
        return whole.hexdigest()

    def reasons(self) -> list[str]:
        """What keeps the series from being complete."""
        found = [f"{_counted(count, 'row')}: {rule}" for rule, count in self.broken.items()]
        if self.duplicates:
            found.append(f"{_counted(self.duplicates, 'row')} doubled")
        if self.wrong_unit:
            found.append(f"{_counted(self.wrong_unit, 'row')}: turnover is not volume times price")
        return found


def _of_wrong_unit(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Candles whose turnover by volume is far from their prices: one of the two is in contracts, say."""
    low, high, volume, turnover = (
        np.asarray(rows[name].to_numpy(), np.float64) for name in ("low", "high", "volume", "turnover")
    )
    # What is not traded, or NULL (NaN here), tells nothing; tiny amounts are rounded by the venue.
    is_told = (volume > 0) & (turnover > 0)
    price = np.divide(turnover, volume, out=np.full(len(low), np.nan), where=is_told)
    bad: npt.NDArray[np.bool_] = (price < low / _UNIT_FACTOR) | (price > high * _UNIT_FACTOR)
    return bad


def _bytes(column: pa.ChunkedArray) -> tuple[Any, Any]:
    """A column in two parts that depend on no machine: of each row its validity and value, and all texts.

    The value of a text is its length in bytes, so that no two series of texts look alike.
    """
    texts: Any = b""
    kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
    if pa.types.is_string(column.type):
        encoded = pc.fill_null(column, "").cast(pa.binary()).combine_chunks()
        whole = pa.ListArray.from_arrays(pa.array([0, len(encoded)], pa.int32()), encoded)
        texts = pc.binary_join(whole, b"")[0].as_buffer()
        numbers = pc.binary_length(encoded)
    else:
        numbers = pc.fill_null(column, 0)
    values = np.empty(len(column), np.dtype([("valid", "u1"), ("value", kind)]))
    values["valid"] = np.asarray(pc.is_valid(column))
    values["value"] = np.asarray(numbers)
    return values.tobytes(), texts


def _examine(store: Store, holes: Holes) -> Health:
    health = Health(holes.series.spec)
    for rows in stored_rows(store, holes.series, holes.start, holes.end):
        health.take(rows)
    return health


def _against_trades(store: Store, holes: Holes) -> Comparison | None:
    """Recorded candles against those that recorded trades add up to; None where there are no trades."""
    series = holes.series
    if series.spec.feed != "candles":
        return None
    trades, spans = covered_trades(store, series)
    if trades is None:
        return None
    step = series.spec.step
    found = Comparison()
    for begin, stop in merge_spans((max(a, holes.start), min(b, holes.end)) for a, b in spans):
        first, last = ceil_ms(begin, step), floor_ms(stop, step)
        for lower in range(first, last, DAY_MS):
            upper = min(lower + DAY_MS, last)
            rebuilt = candles_from_trades(stored_table(store, trades, lower, upper), step)
            recorded = stored_table(store, series, lower, upper)
            found.add(
                compare(series.spec, recorded, rebuilt, columns=_FROM_TRADES, tolerance=TOLERANCE).result
            )
    return found


def _rebuilt_facts(found: Comparison) -> dict[str, Any]:
    facts = found.as_dict()
    return {
        "compared": facts["compared"],
        "differing": facts["changed"],
        "candles_without_trades": facts["vanished"],
        "trades_without_candle": facts["lacking"],
        "tolerance": TOLERANCE,
        "worst_relative_difference": facts["worst_relative_difference"],
        "columns": facts["columns"],
        "examples": facts["examples"],
        "not_compared": ["trade_count"],
    }


def _hole_reasons(holes: Holes) -> list[str]:
    found = []
    can_be_healed = holes.can_be_healed
    is_trades = holes.series.spec.feed == "trades"
    if can_be_healed.any() and not is_trades:
        missing = int(holes.gaps.missing[can_be_healed].sum())
        holes_of = _counted(int(can_be_healed.sum()), "hole")
        found.append(f"{holes_of} of {_counted(missing, 'row')} can be healed")
    share = answered_share(holes)
    if is_trades and share < 1:
        found.append(f"{share:.4%} of the time is recorded")
    return found


def _trade_reasons(found: Comparison | None) -> list[str]:
    if found is None or not found.differing:
        return []
    return [f"{_counted(found.differing, 'candle')} unlike those of the recorded trades"]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
