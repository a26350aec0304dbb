"""Trades, funding events and order books from a socket to the table."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest
from conftest_recorders import NOW, Recorder, tables

from zvt_crypto.core.errors import InvalidArgument, NotSupported, PairNotFound
from zvt_crypto.core.levels import iso, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import open_venue
from zvt_crypto.recorders.entities import select_entities
from zvt_crypto.recorders.feeds import feed_of, with_intervals
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.store import coverage

load_tables()
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
BTC, BTC_PERP = "cryptopair_binance_btcusdt", "cryptoperp_binance_btcusdt"

END = NOW


def spans_of(recorder, name, entity_id, provider="binance"):
    with recorder.store.connect(provider, tables.find(name)) as connection:
        key = connection.value("SELECT key FROM entities WHERE entity_id = ?", (entity_id,))
        return coverage.covered(connection, key)


def wanted_trades(market, symbol, start, end):
    return market.trades(TradeSpan(symbol, start, end))


@pytest.mark.parametrize("provider", ["binance", "okx"])
def test_trades_equal_the_market_and_a_second_run_asks_only_for_what_is_new(recorder, box, market, provider):
    start, end = END - 20 * MINUTE, END - 5_000
    report = recorder.record("CryptoTrade", provider=provider, start=start, end=end)
    assert report.exit_code == 0, [o.errors for o in report.failed]
    found = recorder.rows("CryptoTrade", f"cryptopair_{provider}_btcusdt", provider)
    wanted = wanted_trades(market, "BTC/USDT", start, end)
    assert found["trade_id"].to_pylist() == wanted.id.astype(str).tolist()
    assert found["ts"].to_pylist() == wanted.ts.tolist()
    assert found["price"].to_pylist() == wanted.price.tolist()
    assert found["volume"].to_pylist() == pytest.approx(wanted.volume.tolist())
    assert found["side"].to_pylist() == np.where(wanted.is_buy, "buy", "sell").tolist()
    covered = spans_of(recorder, "CryptoTrade", f"cryptopair_{provider}_btcusdt", provider)
    assert covered == [(start, end)]
    box.forget_requests()
    assert recorder.record("CryptoTrade", provider=provider, start=start, end=end).requests == 0
    longer = recorder.record("CryptoTrade", provider=provider, start=start - MINUTE, end=end)
    assert 0 < longer.rows < 2 * len(wanted_trades(market, "BTC/USDT", start - MINUTE, start)) + 2100


def test_pairs_and_perpetuals_lie_in_one_table(recorder, market):
    start = END - 2 * MINUTE
    codes = ("btcusdt", "btcusdt-perp", "ETH/USDT:USDT")
    report = recorder.record("CryptoTrade", codes=codes, start=start, end=END - 5_000)
    assert [o.entity_id for o in report.outcomes] == [BTC, BTC_PERP, "cryptoperp_binance_ethusdt"]
    assert report.exit_code == 0
    perps = recorder.rows("CryptoTrade", BTC_PERP)
    assert (
        perps["price"].to_pylist()
        == wanted_trades(market, "BTC/USDT:USDT", start, END - 5_000).price.tolist()
    )


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("CryptoPair1hKdata", {}), ("CryptoTrade", {"entity_type": "cryptopair"})],
)
def test_names_of_another_kind_of_market_are_unknown_and_never_mean_all_or_nothing(recorder, name, chosen):
    report = recorder.record(name, codes=("btcusdt-perp",), start=END - HOUR, **chosen)
    (outcome,) = report.outcomes
    assert isinstance(outcome.errors[0], PairNotFound) and report.rows == 0


def test_a_kind_of_market_that_the_venue_has_not_is_told(recorder):
    with pytest.raises(NotSupported, match="no candles of cryptoperp"):
        recorder.record("CryptoPerp1hKdata", provider="coinbase", codes=None, start=END - HOUR)


def test_an_empty_page_in_the_middle_of_history_loses_nothing(recorder, box, market):
    start, end = END - 10 * MINUTE, END - 5_000
    box.faults = ["empty_rows,path=aggTrades,after=3,times=1"]
    assert recorder.record("CryptoTrade", start=start, end=end).exit_code == 0
    wanted = wanted_trades(market, "BTC/USDT", start, end)
    assert recorder.rows("CryptoTrade", BTC).num_rows == len(wanted)


def test_a_removed_trade_is_fetched_again(recorder, market):
    start, end = END - 2 * MINUTE, END - 5_000
    recorder.record("CryptoTrade", start=start, end=end)
    before = recorder.rows("CryptoTrade", BTC)
    with recorder.store.connect("binance", tables["cryptotrade"]) as connection, connection.transaction():
        connection.run(f"DELETE FROM cryptotrade WHERE trade_id = '{before['trade_id'][7].as_py()}'")
    assert recorder.rows("CryptoTrade", BTC).num_rows == before.num_rows - 1
    assert recorder.record("CryptoTrade", start=start, end=end).exit_code == 0
    assert recorder.rows("CryptoTrade", BTC).equals(before)


def test_funding_events_have_their_own_intervals(recorder, market):
    start, end = parse_time("2024-04-28"), parse_time("2024-05-03")
    report = recorder.record("CryptoFunding", codes=("dogeusdt",), start=start, end=end)
    assert report.exit_code == 0, [o.errors for o in report.failed]
    found = recorder.rows("CryptoFunding", "cryptoperp_binance_dogeusdt")
    wanted = market.fundings("DOGE/USDT:USDT", start, end)
    assert found["ts"].to_pylist() == wanted.ts.tolist() and any(ts % 1000 for ts in wanted.ts.tolist())
    assert found["funding_rate"].to_pylist() == wanted.rate.tolist()
    assert found["mark_price"].to_pylist() == wanted.mark_price.tolist()
    hours = found["funding_interval_hours"].to_pylist()
    change = [iso(ts)[:13] for ts in found["ts"].to_pylist()].index("2024-05-01T01")
    assert set(hours[:change]) == {8.0} and set(hours[change:]) == {1.0}


def test_an_interval_does_not_depend_on_where_a_run_began(recorder):
    for start in ("2024-05-02", "2024-04-30"):
        recorder.record(
            "CryptoFunding", codes=("btcusdt",), start=parse_time(start), end=parse_time("2024-05-04")
        )
    hours = recorder.rows("CryptoFunding", BTC_PERP)["funding_interval_hours"].to_pylist()
    assert hours == [8.0] * 12


def test_the_first_event_of_all_has_no_interval():
    ts = [1_000, 28_801_007, 28_801_007, 61_200_000]
    rows = pa.table({"ts": ts, "funding_rate": [0.1, 0.2, 0.3, 0.4], "mark_price": [1.0] * 4})
    made = with_intervals(rows.take([3, 1, 2, 0]))
    assert made["ts"].to_pylist() == [1_000, 28_801_007, 61_200_000]
    assert made["funding_interval_hours"].to_pylist() == [None, 8.0, 9.0]
    assert with_intervals(rows.slice(0, 0)).num_rows == 0


def test_order_books_are_what_is_there_now(recorder, market):
    for _ in range(2):
        report = recorder.record("CryptoOrderbook", codes=("btcusdt", "btcusdt-perp"), depth=20)
        assert report.exit_code == 0, [o.errors for o in report.failed]
    found = recorder.rows("CryptoOrderbook", BTC_PERP)
    assert found.num_rows == 1, "the sandbox's clock stands still, so the book is the same"
    row, book = found.to_pylist()[0], market.book("BTC/USDT:USDT", 20, NOW)
    assert (row["best_bid"], row["best_ask"], row["depth"]) == (book.bids[0, 0], book.asks[0, 0], 20)
    assert row["bids"].startswith("[[") and row["bids"].count("],[") == 19


def test_a_depth_that_the_venue_has_not_is_told_before_anything_is_asked_or_made(recorder, box):
    chosen = Selection("okx", (tables.find("CryptoOrderbook"),), codes=("btcusdt",), depth=5000)
    run = Run(recorder.settings, chosen)
    with pytest.raises(InvalidArgument, match="at most"):
        run.start()
    assert run.report.outcomes == [] and list(box.requests) == []
    assert not recorder.store.exists("okx", tables.find("CryptoOrderbook"))


def test_only_newest_trades_are_told_as_such(recorder, market):
    start = END - 6 * HOUR
    report = recorder.record("CryptoTrade", provider="kucoin", start=start)
    (outcome,) = report.outcomes
    assert outcome.rows > 50 and isinstance(outcome.errors[0], NotSupported)
    assert "newest 100 trades" in outcome.errors[0].one_line() and report.exit_code == 3
    covered = spans_of(recorder, "CryptoTrade", "cryptopair_kucoin_btcusdt", "kucoin")
    assert len(covered) == 1
    wanted = wanted_trades(market, "BTC/USDT", covered[0][0], min(covered[0][1], NOW + 1))
    found = recorder.rows("CryptoTrade", "cryptopair_kucoin_btcusdt", "kucoin")
    inside = [ts for ts in found["ts"].to_pylist() if ts >= covered[0][0]]
    assert inside == wanted.ts.tolist()


def test_only_newest_candles_are_told_as_such(recorder):
    start = NOW - 3 * DAY
    report = recorder.record("CryptoPair1mKdata", provider="kraken", start=start)
    (outcome,) = report.outcomes
    assert outcome.rows == 720 and "newest 720 candles" in outcome.errors[0].one_line()
    hours = recorder.record("CryptoPair1hKdata", provider="kraken", start=start)
    assert hours.exit_code == 0 and hours.rows == 71


def test_an_answer_tells_nothing_of_candles_that_the_venue_has_dropped(recorder):
    """As when minutes pass between the plan of many markets and a request."""
    recorder.record("CryptoPair", provider="kraken", codes=None)
    [row], _ = select_entities(recorder.store, "kraken", tables["cryptopair"], codes=["btcusdt"])
    last = NOW - NOW % MINUTE

    async def parts(start, end):
        async with open_venue("kraken", recorder.settings) as venue:
            feed = feed_of(venue, tables["cryptopair_1m_kdata"])
            return [part async for part in feed.fetch(venue.instrument(row), start, end)]

    [part] = asyncio.run(parts(last - 730 * MINUTE, last))
    assert (part.start, part.stop, part.rows.num_rows) == (last - 720 * MINUTE, last, 720)
    [part] = asyncio.run(parts(last - 20 * MINUTE, last))
    assert (part.start, part.stop, part.rows.num_rows) == (last - 20 * MINUTE, last, 20)


def test_nothing_after_the_end_of_trading_is_asked(tmp_path):
    """EOS/USDT trades until 2025-05-20T03:00Z; the sandbox's clock is later."""
    now = parse_time("2025-06-01")
    with Sandbox(SimulatedMarket(seed=3, now=now)) as box:
        recorder = Recorder(box.url, tmp_path)
        report = recorder.record("CryptoPair1hKdata", codes=("eosusdt",), start=parse_time("2025-05-18"))
        assert report.exit_code == 0 and report.rows == 51
        trades = recorder.record(
            "CryptoTrade", codes=("eosusdt",), start=parse_time("2025-05-20T02:50:00Z"), end=now
        )
        assert trades.exit_code == 0 and trades.rows > 0
