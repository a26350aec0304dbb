"""Trades, funding events and order books of Binance and OKX: what is gone, and what there never was."""

import pytest
from venue_helpers import after_the_clocks, order_book, parts_of, spans

from zvt_crypto.core.errors import NotSupported, PairNotFound
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument

BINANCE_SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
BINANCE_PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
OKX_SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT")
OKX_LINEAR = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC-USDT-SWAP", contract_size=0.01)
MARKETS = [("binance", BINANCE_SPOT), ("binance", BINANCE_PERP), ("okx", OKX_SPOT), ("okx", OKX_LINEAR)]
T = parse_time("2024-06-10T12:00:00Z")


@pytest.mark.parametrize(
    ("provider", "feed", "instrument", "days"),
    [
        ("binance", "trades", BINANCE_PERP, 365),
        ("okx", "trades", OKX_SPOT, 89),
        ("okx", "funding", OKX_LINEAR, 89),
    ],
)
def test_what_a_venue_no_longer_has_is_in_no_stretch(asked, box, provider, feed, instrument, days):
    oldest = box.market.now() - days * DAY_MS

    def parts_until(end):
        return asked(
            after_the_clocks(parts_of(feed, instrument, oldest - DAY_MS, end), box), provider=provider
        )

    gone = parts_until(oldest - HOUR_MS)
    assert spans(gone) == [(oldest - HOUR_MS, oldest - HOUR_MS)] and not box.requests
    assert [part.rows.num_rows for part in gone] == [sum(part.requests for part in gone)] == [0]
    parts = parts_until(oldest + MINUTE_MS)
    first, last = min(start for start, _ in spans(parts)), max(stop for _, stop in spans(parts))
    # The exchange's time goes on while it is asked.
    assert oldest <= first < last == oldest + MINUTE_MS


@pytest.mark.parametrize("feed", ["trades", "funding", "book"])
@pytest.mark.parametrize(("provider", "instrument"), MARKETS, ids=lambda v: getattr(v, "symbol", v))
def test_unknown_markets_are_named(asked, provider, instrument, feed):
    if feed == "funding" and instrument.entity_type == "cryptopair":
        return
    nowhere = Instrument(instrument.entity_type, "nope", "NOPE/USDT", "NOPE")
    use = order_book(nowhere, 5) if feed == "book" else parts_of(feed, nowhere, T - HOUR_MS, T)
    with pytest.raises(PairNotFound, match="NOPE/USDT"):
        asked(use, provider=provider)


@pytest.mark.parametrize(("provider", "instrument"), MARKETS[::2], ids=lambda v: getattr(v, "symbol", v))
def test_pairs_have_no_funding_events(asked, box, provider, instrument):
    with pytest.raises(NotSupported, match="BTC/USDT"):
        asked(after_the_clocks(parts_of("funding", instrument, T - DAY_MS, T), box), provider=provider)
    assert not box.requests
