"""Healing holes: what can be had is fetched, what cannot be is proven and written into the ledger.

A repair may be killed at any moment: rows, rebuilt candles and proofs are committed each for itself, and the
next repair asks for what is not proven yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import NotSupported, RetriableError, SkippableError, ZvtCryptoError
from zvt_crypto.core.levels import DAY_MS, iso, merge_spans
from zvt_crypto.core.trade_bars import candles_from_trades
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.quality.gaps import CONTRADICTED, EMPTY_THERE, KINDS, NO_TRADE, Array, Span, is_in, on_grid
from zvt_crypto.quality.holes import Holes, find_holes
from zvt_crypto.quality.rows import stored_table
from zvt_crypto.quality.series import RecordedSeries, covered_trades
from zvt_crypto.recorders.report import Outcome, Progress
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.store import coverage, proofs
from zvt_crypto.store.engine import Store
from zvt_crypto.store.proofs import Proof
from zvt_crypto.store.writer import Page, SeriesWriter, check

#: Makes a run, as ``Run`` does.
MakeRun: TypeAlias = Callable[[Settings, Selection, "Progress | None"], Run]

#: Missing funding events closer together than this are asked for at once.
_FUNDING_WIDTH: Final = 30 * DAY_MS


@dataclass(slots=True)
class Repair:
    """What became of the holes of a series.

    Attributes:
        series: The series.
        before: Its holes when the repair began.
        after: What is left of them.
        asked: Stretches of time that the exchange was asked for.
        rebuilt: Candles made of recorded trades.
        proved: Holes that are proven now, and were not.
        requests: Requests that it took.
        errors: What went wrong.
    """

    series: RecordedSeries
    before: Holes
    after: Holes
    asked: list[Span] = field(default_factory=list)
    rebuilt: int = 0
    proved: int = 0
    requests: int = 0
    errors: list[ZvtCryptoError] = field(default_factory=list)

    @property
    def healed(self) -> int:
        """Rows that are there now, and were missing."""
        return self.after.rows - self.before.rows

    @property
    def remaining(self) -> int:
        """Missing rows that another repair may bring, or prove."""
        left = self.after.can_be_healed | self.after.is_unproven
        return int(self.after.gaps.missing[left].sum())


def repair(
    settings: Settings,
    chosen: Sequence[RecordedSeries],
    *,
    start: int | None = None,
    end: int | None = None,
    again: bool = False,
    from_trades: bool = True,
    progress: Progress | None = None,
    make_run: MakeRun = Run,
) -> list[Repair]:
    """Heal the holes of series of candles or funding events.

    Holes are asked for in requests that hold as many of them as fit. What then is still empty is proven;
    holes that recorded trades show to be empty are so without a request.

    Args:
        settings: Limits and paths.
        chosen: The series.
        start: First time, epoch ms; see ``find_holes``.
        end: End of the times, exclusive.
        again: Ask for what is proven, too.
        from_trades: Make candles of recorded trades where the exchange has trades and no candle.
        progress: Is told what happens.
        make_run: Makes the runs that ask the exchange; what their start raises ends the repair, but for
            errors of single exchanges.

    Returns:
        One for each series, in order. What goes wrong with a series is in its errors.

    Raises:
        FatalError: Nothing more can be stored or fetched; what was committed stays.
    """
    store = Store(settings)
    made = [_begun(store, series, start, end) for series in chosen]
    asked: dict[int, tuple[Span, ...]] = {
        number: tuple(_to_ask(one, again)) for number, one in enumerate(made)
    }
    for group in _groups(made):
        wanted = {number: asked[number] for number in group if asked[number]}
        if wanted:
            _ask(made, wanted, lambda selection: make_run(settings, selection, progress))
    for one in made:
        _settle(store, one, from_trades=from_trades)
    return made


def _begun(store: Store, series: RecordedSeries, start: int | None, end: int | None) -> Repair:
    holes = find_holes(store, series, start, end)
    return Repair(series, holes, holes)


def _groups(made: Sequence[Repair]) -> list[list[int]]:
    """Positions of the series that one run can record."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for number, one in enumerate(made):
        series = one.series
        groups.setdefault((series.provider, series.exchange, series.spec.name), []).append(number)
    return list(groups.values())


def _to_ask(one: Repair, again: bool) -> list[Span]:
    """Stretches of time to ask for, each about one request with as many holes as fit."""
    holes = one.before
    wanted = holes.can_be_healed | (holes.gaps.of(*EMPTY_THERE) if again else holes.is_unproven)
    if not again:
        wanted &= ~_shown_empty(holes)
    if not wanted.any():
        return []
    # Trades are asked for by themselves: what lies between two holes is not worth a request.
    width = 0 if one.series.spec.feed == "trades" else _FUNDING_WIDTH
    if one.series.spec.feed == "candles":
        entity_type = one.series.entity_type
        capabilities = venue_class(one.series.provider, _exchange(one.series)).capabilities
        width = capabilities.candle_page[entity_type] * one.series.spec.step
    return _clustered(holes.gaps.take(wanted).spans(), width)


def _shown_empty(holes: Holes) -> Array:
    """Which holes are empty because all trades of their time are recorded, and there are none."""
    no_trades = [{"trades_covered": True, "trades": 0} in found for found in holes.evidence]
    shown: Array = np.array(no_trades, bool) & holes.gaps.of(NO_TRADE)
    return shown


def _clustered(spans: Sequence[Span], width: int) -> list[Span]:
    clusters: list[Span] = []
    for start, end in spans:
        if clusters and end - clusters[-1][0] <= width:
            clusters[-1] = (clusters[-1][0], end)
        else:
            clusters.append((start, end))
    return clusters


def _exchange(series: RecordedSeries) -> str | None:
    """The exchange, where the provider serves many."""
    return None if series.exchange == series.provider else series.exchange


def _ask(
    made: Sequence[Repair], wanted: dict[int, tuple[Span, ...]], make_run: Callable[[Selection], Run]
) -> None:
    some = [made[number] for number in wanted]
    exchange = _exchange(some[0].series)
    selection = Selection(
        some[0].series.provider,
        (some[0].series.spec,),
        entity_ids=tuple(one.series.entity_id for one in some),
        exchanges=None if exchange is None else (exchange,),
        start=min(spans[0][0] for spans in wanted.values()),
        end=max(spans[-1][1] for spans in wanted.values()),
        force=True,
        spans={made[number].series.entity_id: spans for number, spans in wanted.items()},
    )
    try:
        report = make_run(selection).start()
    except (RetriableError, SkippableError) as error:
        for one in some:
            one.errors.append(error)
        return
    outcomes: dict[str, Outcome] = {outcome.entity_id: outcome for outcome in report.outcomes}
    for one in some:
        outcome = outcomes.get(one.series.entity_id)
        if outcome is not None:
            one.asked = merge_spans(outcome.answered)
            one.requests += outcome.requests
            one.errors += outcome.errors


def _settle(store: Store, one: Repair, *, from_trades: bool) -> None:
    """Rebuild what trades tell, and write down what is proven; each in a transaction of its own."""

    def find() -> Holes:
        return find_holes(store, one.series, one.before.start, one.before.end)

    if one.asked:
        _believe_removed(store, one)
    holes = find() if one.asked else one.before
    if from_trades and one.series.spec.feed == "candles" and holes.gaps.count(CONTRADICTED):
        one.rebuilt = _rebuild(store, one, holes)
        holes = find()
    one.proved = _prove(store, one, holes)
    one.after = find()
    if not one.remaining:
        # A run that finds nothing where rows were removed tells so; that is proven now.
        one.errors = [error for error in one.errors if not isinstance(error, NotSupported)]


def _believe_removed(store: Store, one: Repair) -> None:
    """Rows that were removed here and are not at the exchange either are no longer marked as missing."""
    with store.connect(one.series.provider, one.series.spec) as connection, connection.transaction():
        for start, end in one.asked:
            connection.run(
                f"DELETE FROM removed WHERE entity = {one.series.key:d} AND ts >= {start:d} AND ts < {end:d}"
            )


def _rebuild(store: Store, one: Repair, holes: Holes) -> int:
    """Candles of trades, where all trades of the hole are recorded and the exchange was asked again."""
    spec, step = one.series.spec, one.series.spec.step
    opens = holes.gaps.take(holes.gaps.of(CONTRADICTED)).opens()
    trades, spans = covered_trades(store, one.series)
    if trades is None:
        return 0
    lower, upper = on_grid(spans, 1)
    asked = on_grid(one.asked, 1)
    opens = opens[is_in(opens, lower, upper) & is_in(opens + step - 1, lower, upper) & is_in(opens, *asked)]
    parts = []
    for begin, stop in merge_spans((ts, ts + step) for ts in opens.tolist()):
        parts.append(candles_from_trades(stored_table(store, trades, begin, stop), step))
    if not parts:
        return 0
    found = pa.concat_tables(parts)
    # What a venue counts as a trade, and what it lists as one, are not always the same.
    found = found.set_column(
        found.schema.get_field_index("trade_count"), "trade_count", pa.nulls(found.num_rows, pa.int64())
    )
    batch = check(spec, found.select(spec.schema.names).cast(spec.schema)).batch
    times = batch["ts"].to_pylist()
    spans = merge_spans((ts, ts + step) for ts in times)
    now = _now_ms()
    made = [Proof(*span, proofs.REBUILT, ({"from": trades.spec.name},), now) for span in spans]
    with store.connect(one.series.provider, spec) as connection:
        writer = SeriesWriter(connection, spec)
        writer.entity_key(one.series.entity)
        page = Page(one.series.key, batch, tuple(spans), source=coverage.TRADES)
        writer.write_pages([page])
        with connection.transaction():
            proofs.add(connection, one.series.key, made)
    return int(batch.num_rows)


def _prove(store: Store, one: Repair, holes: Holes) -> int:
    """Enter the holes that were asked for again and stayed empty, or that trades show to be empty."""
    lower, upper = on_grid(one.asked, 1)
    was_asked = is_in(holes.gaps.start, lower, upper) & is_in(holes.gaps.end - 1, lower, upper)
    settled = holes.gaps.of(*EMPTY_THERE) & (was_asked | (_shown_empty(holes) & ~holes.is_proven))
    now = _now_ms()
    entries = []
    for position in np.flatnonzero(settled).tolist():
        asked = [{"asked_again": iso(now)}] if was_asked[position] else []
        kind = KINDS[holes.gaps.kind_code[position]]
        span = (int(holes.gaps.start[position]), int(holes.gaps.end[position]))
        entries.append(Proof(*span, kind, (*holes.evidence[position], *asked), now))
    if entries:
        with store.connect(one.series.provider, one.series.spec) as connection, connection.transaction():
            proofs.add(connection, one.series.key, entries)
    return int((settled & ~holes.is_proven).sum())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
