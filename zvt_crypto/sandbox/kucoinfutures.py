"""KuCoin futures (api-futures.kucoin.com), market data of linear and inverse perpetuals.

Follows https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-klines and the pages beside it,
and ``.../funding-fees/get-public-funding-history``. What KuCoin does not document is simulated thus: ``from``
and ``to`` are inclusive; of the candles between both the first 500 are answered, of the funding events the
newest 100; the value of an inverse contract is in coins.

A lot is the smallest quantity of the simulated market, which is KuCoin's own only for bitcoin. Lots of
inverse contracts are whole dollars at KuCoin; here they have decimals, because the simulated market trades
coins. Not there: dated futures, contracts that are delisted (KuCoin does not list them), orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import kucoin_info
from zvt_crypto.sandbox.events import Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.kucoin import (
    FOREVER,
    NEWEST_TRADES,
    KucoinApi,
    depth_of,
    failure,
    mandatory,
    nanoseconds,
    number,
    success,
    taker_side,
    traded,
)
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Minutes of a candle.
GRANULARITIES: Final = ("1", "5", "15", "30", "60", "120", "240", "480", "720", "1440", "10080")
_MOST_CANDLES: Final = 500
_MOST_PAYMENTS: Final = 100
_STABLE: Final = ("USDT", "USDC")
#: Before the ids of the orders that a trade fills.
ORDER_IDS: Final = 236_679_660_000_000_000


class KucoinFutures(KucoinApi):
    """api-futures.kucoin.com."""

    name = "kucoin futures"
    hosts = ("api-futures.kucoin.com",)
    streams = "wss://ws-api-futures.kucoin.com/"
    row_paths = ("/api/v1/kline/query", "/api/v1/trade/history", "/api/v1/contract/funding-rates")
    weights: ClassVar[Mapping[str, int]] = {
        "/api/v1/bullet-public": 10,
        "/api/v1/timestamp": 2,
        "/api/v1/status": 4,
        "/api/v1/trade/history": 5,
        "/api/v1/contract/funding-rates": 5,
        "/api/v1/level2/depth20": 5,
        "/api/v1/level2/depth100": 10,
    }

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        is_linear = instrument.settle in _STABLE and instrument.settle == instrument.quote
        return instrument.active and (is_linear or instrument.inverse)

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``; bitcoin is XBT here, and XBTUSDM is settled in it."""
        return f"{'XBT' if instrument.base == 'BTC' else instrument.base}{instrument.quote}M"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            **super().routes(),
            "/api/v1/contracts/active": self._contracts,
            "/api/v1/kline/query": self._klines,
            "/api/v1/trade/history": self._trades,
            "/api/v1/contract/funding-rates": self._fundings,
            "/api/v1/level2/depth{size}": self._book,
        }

    def unknown_symbol(self, name: str, path: str) -> Refused:
        """See ``KucoinApi``."""
        return Refused(failure("404000", "The contract information you requested does not exist."))

    def _contracts(self, call: Call) -> Answer:
        contracts = [kucoin_info.contract(name, i, call.now) for name, i in self.listed.items()]
        return success(orjson.dumps(contracts))

    def _klines(self, call: Call) -> Answer:
        instrument = self.wanted(call)
        granularity = mandatory(call.query, "granularity")
        if granularity not in GRANULARITIES:
            raise Refused(failure("400100", "granularity is invalid"))
        start, end = number(call.query, "from"), number(call.query, "to")
        span = Span(
            instrument.symbol,
            int(granularity) * MINUTE_MS,
            start or 0,
            FOREVER if end is None else end + 1,
            limit=_MOST_CANDLES,
            newest=start is None,
        )
        rows = self.pages.page(span, call.now, call.damage, self.name, lambda r: candle_rows(r, instrument))
        return success(rows)

    def _trades(self, call: Call) -> Answer:
        instrument = self.wanted(call)
        span = TradeSpan(instrument.symbol, limit=NEWEST_TRADES, newest=True)
        return success(trade_rows(call.damaged(self.market.trades(span, call.now)), instrument))

    def _fundings(self, call: Call) -> Answer:
        instrument = self.wanted(call)
        for name in ("from", "to"):
            mandatory(call.query, name)
        end = min(number(call.query, "to") or 0, call.now) + 1
        # As far back as so many payments can lie.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        start = max(number(call.query, "from") or 0, end - (_MOST_PAYMENTS + 1) * longest)
        events = self.market.fundings(instrument.symbol, start, end, call.now)
        newest = call.damaged(events.take(slice(max(len(events) - _MOST_PAYMENTS, 0), None)))
        return success(funding_rows(newest, self.native(instrument)))

    def _book(self, call: Call) -> Answer:
        depth = depth_of(self, call)
        instrument = self.wanted(call)
        book = self.market.book(instrument.symbol, depth, call.now)
        head = f'{{"sequence":{book.sequence},"symbol":"{self.native(instrument)}","bids":'.encode()
        bids, asks = level_rows(book.bids, instrument), level_rows(book.asks, instrument)
        return success(head + bids + b',"asks":' + asks + f',"ts":{book.ts * 1_000_000}}}'.encode())


def candle_rows(rows: Candles, instrument: Instrument) -> bytes:
    """Candles as KuCoin writes those of contracts: seven numbers, the oldest first, none without trades."""
    rows = traded(rows)
    if instrument.inverse:
        lots, value = rows.turnover, rows.volume
    else:
        lots, value = rows.volume / kucoin_info.lot_size(instrument), rows.turnover
    prices = [decimal_text(getattr(rows, n), None, rows.nan_text) for n in ("open", "high", "low", "close")]
    amounts = [lots_text(lots, instrument, rows.nan_text), decimal_text(value, None, rows.nan_text)]
    texts = [decimal_text(rows.ts), *prices, *amounts]
    separated = [part for text in texts for part in (",", text)]
    return json_rows("[", *separated[1:], "]")


def trade_rows(rows: Trades, instrument: Instrument) -> bytes:
    """Trades as KuCoin writes those of contracts, the newest first; the side is the taker's."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    ids = decimal_text(newest_first.id)
    return json_rows(
        '{"sequence":',
        ids,
        ',"contractId":1,"tradeId":"',
        ids,
        '","makerOrderId":"',
        decimal_text(ORDER_IDS + 2 * newest_first.id),
        '","takerOrderId":"',
        decimal_text(ORDER_IDS + 2 * newest_first.id + 1),
        '","ts":',
        nanoseconds(newest_first),
        ',"size":',
        size_text(newest_first.price, newest_first.volume, instrument, rows.nan_text),
        ',"price":"',
        decimal_text(newest_first.price, None, rows.nan_text),
        '","side":"',
        taker_side(newest_first),
        '"}',
    )


def funding_rows(rows: Fundings, name: str) -> bytes:
    """Funding events as KuCoin writes them, the newest first."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    return json_rows(
        f'{{"symbol":"{name}","fundingRate":',
        decimal_text(newest_first.rate, None, rows.nan_text),
        ',"timepoint":',
        decimal_text(newest_first.ts),
        "}",
    )


def level_rows(levels: Array, instrument: Instrument) -> bytes:
    """One side of an order book: price and lots as numbers, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    return json_rows("[", decimal_text(price), ",", size_text(price, volume, instrument), "]")


def size_text(price: Array, volume: Array, instrument: Instrument, nan_text: str = "NaN") -> pa.Array:
    """Lots of each trade or level."""
    size = price * volume if instrument.inverse else volume / kucoin_info.lot_size(instrument)
    return lots_text(size, instrument, nan_text)


def lots_text(lots: Array, instrument: Instrument, nan_text: str = "NaN") -> pa.Array:
    """Lots: whole numbers but those of inverse contracts."""
    digits = instrument.turnover_digits if instrument.inverse else 0
    return decimal_text(np.round(lots, digits), digits if digits == 0 else None, nan_text)
