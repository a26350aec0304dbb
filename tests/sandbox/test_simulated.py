"""The simulated market: the same whatever is asked first, and a market that could be true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.sandbox.market import COLUMNS, Candles, Span, aggregate

MARKET = SimulatedMarket(seed=7)
START = parse_time("2024-03-01")
SYMBOLS = st.sampled_from(sorted(MARKET.instruments))
TIMES = st.integers(START, START + 3 * DAY_MS)


def same(left: Candles, right: Candles) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in COLUMNS)


@settings(max_examples=60, deadline=None)
@given(SYMBOLS, st.sampled_from(sorted(LEVEL_MS)), st.tuples(TIMES, TIMES, TIMES).map(sorted))
def test_a_range_is_the_sum_of_its_parts(symbol: str, level: str, cuts: list[int]) -> None:
    a, b, c = cuts
    parts = [MARKET.candles(symbol, level, a, b), MARKET.candles(symbol, level, b, c)]
    assert same(MARKET.candles(symbol, level, a, c), Candles.concat(parts))


def test_the_order_of_questions_does_not_matter() -> None:
    one, other = SimulatedMarket(seed=3), SimulatedMarket(seed=3)
    later = one.candles("ETH/BTC", "1m", START + DAY_MS, START + 2 * DAY_MS)
    other.candles("ETH/BTC", "1m", START, START + DAY_MS)
    assert same(later, other.candles("ETH/BTC", "1m", START + DAY_MS, START + 2 * DAY_MS))


def test_another_seed_is_another_market() -> None:
    one = MARKET.candles("BTC/USDT", "1h", START, START + DAY_MS)
    other = SimulatedMarket(seed=8).candles("BTC/USDT", "1h", START, START + DAY_MS)
    assert not np.any(one.close == other.close)


@settings(max_examples=40, deadline=None)
@given(SYMBOLS, st.sampled_from(["5m", "15m", "30m", "1h", "4h", "1d"]), st.integers(0, 40))
def test_coarser_candles_are_aggregates_of_minutes(symbol: str, level: str, hours: int) -> None:
    start = START + hours * HOUR_MS
    end = start + DAY_MS
    coarse = MARKET.candles(symbol, level, start, end)
    assert len(coarse) == DAY_MS // LEVEL_MS[level] or not MARKET.instruments[symbol].active
    for number in (0, len(coarse) - 1):
        opened = int(coarse.ts[number])
        minutes = MARKET.candles(symbol, "1m", opened, opened + LEVEL_MS[level])
        assert coarse.open[number] == minutes.open[0]
        assert coarse.high[number] == minutes.high.max()
        assert coarse.low[number] == minutes.low.min()
        assert coarse.close[number] == minutes.close[-1]
        assert coarse.trade_count[number] == minutes.trade_count.sum()
        assert coarse.volume[number] == pytest.approx(minutes.volume.sum(), rel=1e-12)
        assert coarse.turnover[number] == pytest.approx(minutes.turnover.sum(), rel=1e-12)


@pytest.mark.parametrize("symbol", sorted(MARKET.instruments))
def test_candles_could_be_true(symbol: str) -> None:
    instrument = MARKET.instruments[symbol]
    rows = MARKET.candles(symbol, "1m", START - DAY_MS, START + 2 * DAY_MS)
    assert len(rows) == 3 * 1440
    assert np.array_equal(np.diff(rows.ts), np.full(len(rows) - 1, MINUTE_MS))
    assert np.all(rows.high >= np.maximum(rows.open, rows.close))
    assert np.all(rows.low <= np.minimum(rows.open, rows.close))
    assert np.all(rows.low > 0)
    assert np.all(rows.volume > 0)
    assert np.all(rows.trade_count >= 1)
    assert np.all(rows.taker_volume <= rows.volume)
    vwap = rows.turnover / rows.volume
    assert np.all((vwap <= rows.high * (1 + 1e-12)) & (vwap >= rows.low * (1 - 1e-12)))
    assert np.array_equal(rows.open[1:], rows.close[:-1]), "also across midnight"
    assert np.array_equal(np.round(rows.close, instrument.price_digits), rows.close)
    assert np.array_equal(np.round(rows.volume, instrument.quantity_digits), rows.volume)


def test_prices_of_one_asset_agree_across_pairs() -> None:
    def close(symbol: str) -> np.ndarray:
        return MARKET.candles(symbol, "1h", START, START + 10 * DAY_MS).close

    assert np.allclose(close("BTC/USDT"), close("BTC/USDT:USDT"), rtol=0.005)
    assert np.allclose(close("ETH/BTC"), close("ETH/USDT") / close("BTC/USDT"), rtol=0.005)
    assert not np.array_equal(close("BTC/USDT"), close("BTC/USDC"))


def test_nothing_before_the_listing_nor_after_the_delisting() -> None:
    eos = MARKET.instruments["EOS/USDT"]
    assert eos.delisted is not None
    first = MARKET.candles("EOS/USDT", "1d", 0, eos.listed + 3 * DAY_MS)
    assert first.ts[0] == parse_time("2018-05-28"), "the day of the listing, which began before it"
    assert MARKET.candles("EOS/USDT", "1m", 0, eos.listed + 5 * MINUTE_MS).ts[0] == eos.listed
    last = MARKET.candles("EOS/USDT", "1m", eos.delisted - HOUR_MS, eos.delisted + DAY_MS)
    assert last.ts[-1] == eos.delisted - MINUTE_MS
    assert not len(MARKET.candles("EOS/USDT", "1d", eos.delisted, eos.delisted + 9 * DAY_MS))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["1m", "5m", "1h", "1d"]), st.integers(0, DAY_MS - 1))
def test_the_last_candle_grows_until_it_is_finished(level: str, after: int) -> None:
    now = START + after
    shown = MARKET.candles("BTC/USDT", level, START, START + 2 * DAY_MS, now)
    final = MARKET.candles("BTC/USDT", level, START, START + 2 * DAY_MS)
    assert shown.ts[-1] <= now < shown.ts[-1] + LEVEL_MS[level]
    count = len(shown)
    assert same(shown.take(slice(0, -1)), final.take(slice(0, count - 1)))
    assert shown.open[-1] == final.open[count - 1]
    assert final.low[count - 1] <= shown.low[-1] <= shown.close[-1] <= shown.high[-1] <= final.high[count - 1]
    assert shown.volume[-1] < final.volume[count - 1]


def test_an_offset_moves_the_days() -> None:
    hong_kong = MARKET.bars(Span("BTC/USDT", DAY_MS, START, START + 3 * DAY_MS, offset=-8 * HOUR_MS))
    assert [t % DAY_MS for t in hong_kong.ts.tolist()] == [16 * HOUR_MS] * 3
    hours = MARKET.candles("BTC/USDT", "1h", int(hong_kong.ts[0]), int(hong_kong.ts[0]) + DAY_MS)
    assert hong_kong.high[0] == hours.high.max()


@pytest.mark.parametrize(("step", "offset"), [(3 * MINUTE_MS, 0), (3 * DAY_MS, 0), (7 * DAY_MS, 4 * DAY_MS)])
def test_steps_that_are_no_level(step: int, offset: int) -> None:
    rows = MARKET.bars(Span("BTC/USDT", step, START, START + 30 * DAY_MS, offset, limit=3))
    minutes = MARKET.candles("BTC/USDT", "1m", int(rows.ts[0]), int(rows.ts[-1]) + step)
    again = aggregate(minutes, step, offset)
    assert len(rows) == 3
    assert np.array_equal(rows.high, again.high)
    assert np.allclose(rows.volume, again.volume)


def test_limit_keeps_the_oldest_or_the_newest() -> None:
    end = START + HOUR_MS
    oldest = MARKET.bars(Span("BTC/USDT", MINUTE_MS, START, end, limit=5))
    newest = MARKET.bars(Span("BTC/USDT", MINUTE_MS, START, end, limit=5, newest=True))
    assert (oldest.ts[0], oldest.ts[-1]) == (START, START + 4 * MINUTE_MS)
    assert (newest.ts[0], newest.ts[-1]) == (end - 5 * MINUTE_MS, end - MINUTE_MS)


def test_an_unknown_symbol_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match="BTC/USTD") as caught:
        MARKET.candles("BTC/USTD", "1m", START, START + 1)
    assert "BTC/USDT" in caught.value.one_line()
