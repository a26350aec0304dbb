"""Every venue's trades, funding events and order books, through the real ccxt client over a socket."""

import json

import numpy as np
import pyarrow as pa
import pytest
from places import NOW, PLACES, symbol_of, venue_of

from zvt_crypto.core.errors import DataQualityFailure, NotSupported, ProviderUnavailable, RateLimitExceeded
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import funding, orderbooks, trades
from zvt_crypto.exchanges import schemas
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.store.writer import check

assert funding and orderbooks and trades
#: Asked for where a venue lists it: paid each eight hours until ``FUNDING_CHANGE``, each hour from then on.
CHANGING = "DOGE/USDT:USDT"
FUNDING_CHANGE = parse_time("2024-05-01")
#: More than a thousand events of it up to now, within three months.
FUNDING_START = parse_time("2024-03-20")
#: Venues whose funding times are coarser than a millisecond: what their times are multiples of, in ms.
FUNDING_STEP = {"kraken": HOUR_MS, "ccxt:gate": 1000}
#: Distance of the market's bursts of trades; there are about seven trades in one.
BURST_MS = 500
#: Digits that venues with more than milliseconds write: nanoseconds per unit.
NANOSECOND_UNITS = (1, 10, 100, 1000, 10_000, 100_000)

TRADES = [(name, kind) for name, kind in PLACES if kind in venue_of(name).capabilities.trades]
TRADE_HISTORY = [
    (name, kind) for name, kind in TRADES if venue_of(name).capabilities.trades[kind] == "history"
]
FUNDING = [
    (name, kind) for name, kind in PLACES if kind == "cryptoperp" and venue_of(name).capabilities.funding
]
FUNDING_HISTORY = [(name, kind) for name, kind in FUNDING if venue_of(name).capabilities.funding == "history"]
BOOKS = [(name, kind) for name, kind in PLACES if kind in venue_of(name).capabilities.book_depths]


class CrowdedMarket(SimulatedMarket):
    """Trades come in bursts of several in one millisecond, so that pages are cut inside of one."""

    def _make_hour_trades(self, symbol, hour):
        rows = super()._make_hour_trades(symbol, hour)
        return rows.with_columns(ts=rows.ts // BURST_MS * BURST_MS)


@pytest.fixture(scope="module")
def market():
    return CrowdedMarket(seed=11, now=NOW)


async def all_of(parts):
    return [part async for part in parts]


def wanted_trades(market, name, instrument):
    """The market's trades of about three pages, and the span that holds them."""
    capabilities = venue_of(name).capabilities
    kind = instrument.entity_type
    # Pages of the past may go on beyond the end; what is newest ends there.
    end = NOW - MINUTE_MS if capabilities.trades[kind] == "history" else NOW
    count = capabilities.trade_page[kind] * 5 // 2
    newest = market.trades(TradeSpan(instrument.symbol, 0, end, limit=count, newest=True), NOW)
    start = int(newest.ts[0])
    return market.trades(TradeSpan(instrument.symbol, start, end), NOW), start, end


@pytest.fixture
def fetched_trades(with_venue, market):
    """The parts of a span of about three pages, and what should be in them."""

    def run(name, kind, **options):
        async def use(venue, instrument):
            wanted, start, end = wanted_trades(market, name, instrument)
            parts = await all_of(venue.fetch_trades(instrument, start, end))
            return parts, wanted, start, end

        return with_venue(name, kind, use, **options)

    return run


def stretches(parts):
    """What the parts say is complete, in order of time and without what is empty; they must not overlap."""
    found = sorted((part.start, part.stop) for part in parts if part.start != part.stop)
    assert all(start < stop for start, stop in found)
    assert all(stop <= start for (_, stop), (start, _) in zip(found, found[1:], strict=False))
    return found


def assert_tiled(parts, start, end):
    found = stretches(parts)
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(stop == start for (_, stop), (start, _) in zip(found, found[1:], strict=False))


def assert_complete_as_it_comes(parts, wanted_ts, key):
    """Once a part has come, all rows of its stretch are in it or in a part before it."""
    seen = {}
    for part in parts:
        seen |= dict(zip(part.rows[key].to_pylist(), part.rows["ts"].to_pylist(), strict=True))
        got = sum(part.start <= ts < part.stop for ts in seen.values())
        assert got == int(np.sum((wanted_ts >= part.start) & (wanted_ts < part.stop)))


def distinct(parts, key):
    """All rows, once each; rows with the same key must be equal."""
    rows = {}
    for row in pa.concat_tables([part.rows for part in parts]).to_pylist():
        assert rows.setdefault(row[key], row) == row
    return list(rows.values())


def expected_rows(wanted):
    sides = np.where(wanted.is_buy, "buy", "sell").tolist()
    columns = (wanted.id, wanted.ts, wanted.nanosecond, wanted.price, wanted.volume)
    names = ("trade_id", "ts", "nanosecond", "price", "volume", "side")
    values = zip(*(column.tolist() for column in columns), sides, strict=True)
    return [dict(zip(names, row, strict=True)) for row in values]


def assert_same_trades(rows, wanted):
    """The rows are the market's, in any order; ids that are numbers are the market's too."""
    theirs = expected_rows(wanted)
    assert len(rows) == len(theirs)
    if all(row["trade_id"].isdigit() for row in rows):
        ours = sorted(rows, key=lambda row: int(row["trade_id"]))
        assert [int(row["trade_id"]) for row in ours] == [row["trade_id"] for row in theirs]
    else:

        def order(row):
            return row["ts"], row["price"], row["side"], row["volume"]

        ours, theirs = sorted(rows, key=order), sorted(theirs, key=order)
    for name in ("ts", "side"):
        assert [row[name] for row in ours] == [row[name] for row in theirs], name
    for name in ("price", "volume"):
        assert [row[name] for row in ours] == pytest.approx([row[name] for row in theirs], rel=1e-9), name
    finer = [row["nanosecond"] for row in ours]
    if any(value is not None for value in finer):
        whole = np.array([row["nanosecond"] for row in theirs])
        assert any(finer == (whole // unit * unit).tolist() for unit in NANOSECOND_UNITS)


def test_feeds_answer_in_the_columns_of_the_tables():
    assert schemas.TRADES.equals(tables["cryptotrade"].schema)
    assert schemas.ORDER_BOOK.equals(tables["cryptoorderbook"].schema)
    stored = tables["cryptofunding"].schema
    # The interval follows from the event before, which a page does not have.
    at = stored.get_field_index("funding_interval_hours")
    assert schemas.FUNDING.equals(stored.remove(at))


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_capabilities_agree_with_each_other(name, kind):
    capabilities = venue_of(name).capabilities
    assert set(capabilities.trades) | set(capabilities.book_depths) <= set(capabilities.entity_types)
    assert set(capabilities.trade_page) == set(capabilities.trades)
    assert all(page > 0 for page in (*capabilities.trade_page.values(), capabilities.funding_page))
    assert all(list(depths) == sorted(set(depths)) for depths in capabilities.book_depths.values())
    assert all(depths and depths[0] > 0 for depths in capabilities.book_depths.values())


@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_what_a_venue_does_not_serve_is_said(with_venue, name, kind):
    async def use(venue, instrument):
        capabilities = venue.capabilities
        if kind not in capabilities.trades:
            with pytest.raises(NotSupported, match=instrument.symbol):
                await all_of(venue.fetch_trades(instrument, NOW - DAY_MS, NOW))
        if kind == "cryptopair" or not capabilities.funding:
            with pytest.raises(NotSupported, match=instrument.symbol):
                await all_of(venue.fetch_funding(instrument, NOW - DAY_MS, NOW))
        if kind not in capabilities.book_depths:
            with pytest.raises(NotSupported, match=instrument.symbol):
                await venue.fetch_order_book(instrument, 10)

    with_venue(name, kind, use)


@pytest.mark.parametrize(("name", "kind"), TRADE_HISTORY)
def test_trades_of_several_pages_are_the_markets(fetched_trades, name, kind):
    parts, wanted, start, end = fetched_trades(name, kind)
    assert len(parts) > 1 and len(set(wanted.ts.tolist())) < len(wanted) / 3
    assert_same_trades(distinct(parts, "trade_id"), wanted)
    assert_tiled(parts, start, end)
    assert_complete_as_it_comes(parts, wanted.ts, "trade_id")


@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_the_newest_trades_are_complete_up_to_the_end(fetched_trades, name, kind):
    parts, wanted, start, end = fetched_trades(name, kind)
    rows = distinct(parts, "trade_id")
    found = stretches(parts)
    assert found[-1][1] == end and found[0][0] >= start
    assert_complete_as_it_comes(parts, wanted.ts, "trade_id")
    covered = (wanted.ts >= found[0][0]) & (wanted.ts < end)
    assert_same_trades([row for row in rows if found[0][0] <= row["ts"] < end], wanted.take(covered))


@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_trades_pass_the_checks_of_their_table(fetched_trades, name, kind):
    parts, _, _, _ = fetched_trades(name, kind)
    for part in parts:
        assert part.rows.schema.equals(schemas.TRADES)
        assert part.requests >= 1
    checked = check(tables["cryptotrade"], pa.concat_tables([part.rows for part in parts]))
    assert not checked.rejected and checked.batch.num_rows == len(distinct(parts, "trade_id"))


@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_a_past_without_trades(with_venue, market, name, kind):
    """A venue that no longer has that time says so with no stretch at all."""

    async def use(venue, instrument):
        listed = market.instrument(instrument.symbol).listed
        start, end = listed - 2 * DAY_MS, listed - DAY_MS
        return await all_of(venue.fetch_trades(instrument, start, end)), start, end

    parts, start, end = with_venue(name, kind, use)
    assert parts and sum(part.rows.num_rows for part in parts) == 0
    if stretches(parts):
        assert venue_of(name).capabilities.trades[kind] == "history"
        assert_tiled(parts, start, end)


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_disorder_among_trades_loses_nothing(fetched_trades, name, kind, fault):
    parts, wanted, _, end = fetched_trades(name, kind, faults=[fault])
    found = stretches(parts)
    inside = [row for row in distinct(parts, "trade_id") if found[0][0] <= row["ts"] < end]
    assert_same_trades(inside, wanted.take((wanted.ts >= found[0][0]) & (wanted.ts < end)))
    if (name, kind) in TRADE_HISTORY:
        assert len(inside) == len(wanted)


@pytest.mark.parametrize(("name", "kind"), TRADE_HISTORY)
def test_a_page_of_trades_that_repeats_is_named(fetched_trades, name, kind):
    with pytest.raises(DataQualityFailure, match="same page again"):
        fetched_trades(name, kind, faults=["repeat"])


@pytest.mark.parametrize(("name", "kind"), TRADE_HISTORY)
def test_an_empty_page_amid_trades_is_not_believed(fetched_trades, name, kind):
    parts, wanted, start, end = fetched_trades(name, kind, faults=["empty_rows,times=1,after=1"])
    assert_same_trades(distinct(parts, "trade_id"), wanted)
    assert_tiled(parts, start, end)
    assert sum(part.requests for part in parts) == len(parts) + 1


PASSING = ["status:429,times=2,retry_after=0.02", "status:503,times=2", "html:502,times=2", "cut,times=2",
           "cut:close,times=2", "disconnect,times=2", "maintenance,times=2"]  # fmt: skip
LASTING = {
    "status:429,retry_after=0.01": RateLimitExceeded,
    "status:500": ProviderUnavailable,
    "cut": ProviderUnavailable,
    "disconnect": ProviderUnavailable,
}


def amid(fault, places, place):
    """The fault, from the second request on where there is one."""
    return f"{fault},after=1" if place in places else fault


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_what_passes_amid_trades_is_retried(fetched_trades, name, kind, fault):
    parts, wanted, _, end = fetched_trades(name, kind, faults=[amid(fault, TRADE_HISTORY, (name, kind))])
    found = stretches(parts)
    assert found[-1][1] == end
    assert_complete_as_it_comes(parts, wanted.ts, "trade_id")
    if (name, kind) in TRADE_HISTORY:
        assert_same_trades(distinct(parts, "trade_id"), wanted)


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize(("name", "kind"), TRADES)
def test_what_lasts_amid_trades_is_named(with_venue, market, name, kind, fault):
    """What came before the failure is there already."""
    came = []

    async def use(venue, instrument):
        _, start, end = wanted_trades(market, name, instrument)
        async for part in venue.fetch_trades(instrument, start, end):
            came.append(part)

    with pytest.raises(LASTING[fault]) as caught:
        with_venue(name, kind, use, faults=[amid(fault, TRADE_HISTORY, (name, kind))], attempts=2)
    assert caught.value.details["attempts"] == 2
    assert len(came) == ((name, kind) in TRADE_HISTORY)
    line = caught.value.one_line()
    assert "\n" not in line and len(line) < 600 and "http://" not in line


@pytest.fixture
def fetched_funding(with_venue, market):
    """The parts of a span with more than a thousand events, what should be in them, and the symbol."""

    def run(name, kind, start=FUNDING_START, end=NOW, **options):
        async def use(venue, instrument):
            parts = await all_of(venue.fetch_funding(instrument, start, end))
            return parts, market.fundings(instrument.symbol, start, end, NOW), instrument.symbol

        return with_venue(name, kind, use, symbols=(CHANGING, symbol_of(name, kind)), **options)

    return run


def assert_same_fundings(rows, wanted, name):
    """Times are the venue's own, which the market has to the millisecond."""
    step = FUNDING_STEP.get(name, 1)
    ours = sorted(rows, key=lambda row: row["ts"])
    assert [row["ts"] // step for row in ours] == (wanted.ts // step).tolist()
    rates = [row["funding_rate"] for row in ours]
    assert rates == pytest.approx(wanted.rate.tolist(), rel=1e-9, abs=1e-12)
    marks = [row["mark_price"] for row in ours]
    if any(mark is not None for mark in marks):
        assert marks == pytest.approx(wanted.mark_price.tolist(), rel=1e-9)


def assert_funding_is_right(parts, wanted, name):
    rows = distinct(parts, "ts")
    found = stretches(parts)
    assert found[-1][1] == NOW
    covered = (wanted.ts >= found[0][0]) & (wanted.ts < NOW)
    assert covered.any()
    assert_same_fundings([row for row in rows if row["ts"] >= found[0][0]], wanted.take(covered), name)
    if venue_of(name).capabilities.funding == "history":
        assert_tiled(parts, FUNDING_START, NOW)


@pytest.mark.parametrize(("name", "kind"), FUNDING)
def test_funding_events_of_several_pages_are_the_markets(fetched_funding, name, kind):
    parts, wanted, symbol = fetched_funding(name, kind)
    assert_funding_is_right(parts, wanted, name)
    if name not in FUNDING_STEP:
        assert_complete_as_it_comes(parts, wanted.ts, "ts")
        assert any(ts % 1000 for ts in wanted.ts.tolist())
    if (name, kind) in FUNDING_HISTORY and symbol == CHANGING:
        page = venue_of(name).capabilities.funding_page
        assert sum(part.requests for part in parts) > 1 or page > len(wanted)
        distances = set(np.rint(np.diff(wanted.ts) / HOUR_MS).astype(int).tolist())
        assert distances == {1, 8} and FUNDING_START < FUNDING_CHANGE < NOW


@pytest.mark.parametrize(("name", "kind"), FUNDING)
def test_funding_events_pass_the_checks_of_their_table(fetched_funding, name, kind):
    spec = tables["cryptofunding"]
    parts, _, _ = fetched_funding(name, kind)
    assert all(part.rows.schema.equals(schemas.FUNDING) for part in parts)
    rows = pa.concat_tables([part.rows for part in parts])
    rows = rows.append_column("funding_interval_hours", pa.nulls(rows.num_rows, pa.float64()))
    checked = check(spec, rows)
    assert not checked.rejected and checked.batch.num_rows == len(distinct(parts, "ts")) > 0


@pytest.mark.parametrize(("name", "kind"), FUNDING)
def test_a_past_without_funding(fetched_funding, market, name, kind):
    first = min(i.listed for i in market.instruments.values())
    start, end = first - 40 * DAY_MS, first - 10 * DAY_MS
    parts, wanted, _ = fetched_funding(name, kind, start, end)
    assert parts and len(wanted) == 0 and sum(part.rows.num_rows for part in parts) == 0
    if stretches(parts):
        assert venue_of(name).capabilities.funding == "history"
        assert_tiled(parts, start, end)


FUNDING_PASSING = ["duplicate", "reorder", "status:429,times=2,retry_after=0.02", "cut,times=2"]


@pytest.mark.parametrize("fault", FUNDING_PASSING)
@pytest.mark.parametrize(("name", "kind"), FUNDING)
def test_what_passes_amid_funding_events_loses_nothing(fetched_funding, name, kind, fault):
    parts, wanted, _ = fetched_funding(name, kind, faults=[fault])
    assert_funding_is_right(parts, wanted, name)


@pytest.mark.parametrize(("name", "kind"), FUNDING_HISTORY)
def test_an_empty_answer_of_funding_events_is_not_believed(fetched_funding, name, kind):
    parts, wanted, _ = fetched_funding(name, kind, faults=["empty_rows,times=1"])
    assert_funding_is_right(parts, wanted, name)


@pytest.mark.parametrize(("name", "kind"), FUNDING_HISTORY)
def test_a_page_of_funding_events_that_repeats_is_named(fetched_funding, market, name, kind):
    """Where one page holds all events, it may repeat."""
    if name.startswith("ccxt:"):
        pytest.skip("ccxt leaves out rows before the start, so that the page looks like none")
    if venue_of(name).capabilities.funding_page < len(market.fundings(CHANGING, FUNDING_START, NOW)):
        with pytest.raises(DataQualityFailure, match="same page again"):
            fetched_funding(name, kind, faults=["repeat"])
    else:
        parts, wanted, _ = fetched_funding(name, kind, faults=["repeat"])
        assert_funding_is_right(parts, wanted, name)


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize(("name", "kind"), FUNDING)
def test_what_lasts_amid_funding_events_is_named(fetched_funding, name, kind, fault):
    with pytest.raises(LASTING[fault]) as caught:
        fetched_funding(name, kind, faults=[fault], attempts=2)
    assert caught.value.details["attempts"] == 2


def depths_to_ask(name, kind):
    """The first and the last depth; where any will do up to one, an odd one too."""
    depths = venue_of(name).capabilities.book_depths[kind]
    return sorted({min(7, depths[0]), depths[0]} if len(depths) == 1 else {depths[0], depths[-1]})


@pytest.mark.parametrize(("name", "kind"), BOOKS)
def test_an_order_book_is_deep_sorted_and_not_crossed(with_venue, market, name, kind):
    async def use(venue, instrument):
        rows = [await venue.fetch_order_book(instrument, depth) for depth in depths_to_ask(name, kind)]
        return rows, market.instrument(instrument.symbol)

    rows, instrument = with_venue(name, kind, use)
    close = float(market.candles(instrument.symbol, "1m", NOW - NOW % MINUTE_MS, NOW, NOW).close[-1])
    usual = instrument.daily_turnover / 20_000 / close
    for row, depth in zip(rows, depths_to_ask(name, kind), strict=True):
        assert row.num_rows == 1 and row.schema.equals(schemas.ORDER_BOOK)
        assert not check(tables["cryptoorderbook"], row).rejected
        book = row.to_pylist()[0]
        bids, asks = (np.array(json.loads(book[side])) for side in ("bids", "asks"))
        assert book["depth"] == depth and bids.shape == asks.shape == (depth, 2)
        assert (np.diff(bids[:, 0]) < 0).all() and (np.diff(asks[:, 0]) > 0).all()
        assert (book["best_bid"], book["best_ask"]) == (bids[0, 0], asks[0, 0])
        assert book["best_bid"] < book["best_ask"]
        assert book["best_bid"] == pytest.approx(close, rel=1e-3)
        assert book["sequence"] is None or book["sequence"] > 0
        assert abs(book["ts"] - NOW) < MINUTE_MS
        # The market's volumes are spread around this one in base currency; contracts would be far off.
        assert 0.2 < np.concatenate([bids, asks])[:, 1].mean() / usual < 5


@pytest.mark.parametrize(
    "fault", ["status:429,times=2,retry_after=0.02", "cut,times=2", "disconnect,times=2"]
)
@pytest.mark.parametrize(("name", "kind"), BOOKS)
def test_what_passes_before_an_order_book_is_retried(with_venue, name, kind, fault):
    async def use(venue, instrument):
        return await venue.fetch_order_book(instrument, depths_to_ask(name, kind)[0])

    assert with_venue(name, kind, use, faults=[fault]).num_rows == 1


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize(("name", "kind"), BOOKS)
def test_what_lasts_before_an_order_book_is_named(with_venue, name, kind, fault):
    async def use(venue, instrument):
        return await venue.fetch_order_book(instrument, depths_to_ask(name, kind)[0])

    with pytest.raises(LASTING[fault]) as caught:
        with_venue(name, kind, use, faults=[fault], attempts=2)
    assert caught.value.details["attempts"] == 2
