"""KuCoin's public streams of perpetuals (ws-api-futures.kucoin.com).

Follows https://www.kucoin.com/docs-new/3470084w0 (trades) and the pages beside it. A market that there is not
is acknowledged, and nothing comes. What KuCoin does not document is simulated thus: the rate of the next
payment is told at once, and then with the first mark price of each minute. See ``kucoin_stream`` for what is
not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.sandbox import kucoin_info
from zvt_crypto.sandbox.events import Array, Book, Trades
from zvt_crypto.sandbox.kucoin import TYPES, nanoseconds, taker_side, traded
from zvt_crypto.sandbox.kucoin_stream import (
    KucoinStreams,
    Refusal,
    candle_messages,
    candle_texts,
    message,
)
from zvt_crypto.sandbox.kucoinfutures import GRANULARITIES, ORDER_IDS, size_text
from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.streams import Feed, Frame, NextFunding, Session, Subscription
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_NO_LIMIT: Final = 1 << 31


class KucoinFuturesStreams(KucoinStreams):
    """ws-api-futures.kucoin.com."""

    name = "kucoin futures streams"
    hosts = ("ws-api-futures.kucoin.com",)
    rest = "api-futures.kucoin.com"
    channels: ClassVar[dict[str, Feed]] = {
        "/contractMarket/execution": "trades",
        "/contractMarket/limitCandle": "candles",
        "/contract/instrument": "funding",
    }
    books: ClassVar[dict[str, int]] = {
        "/contractMarket/level2Depth5": 5,
        "/contractMarket/level2Depth50": 50,
    }
    types = frozenset(name for name, ms in TYPES.items() if str(ms // MINUTE_MS) in GRANULARITIES)
    most = _NO_LIMIT

    def unknown_market(self, topic: str) -> None:
        """See ``KucoinStreams``."""

    def unknown_channel(self, topic: str) -> Refusal:
        """See ``KucoinStreams``."""
        return Refusal(404, "topic does not exist")

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; each trade has a message."""
        instrument, name = self.named(subscription)
        sizes = size_text(rows.price, rows.volume, instrument)
        texts = (decimal_text(rows.price), sizes, taker_side(rows), nanoseconds(rows))
        columns = (rows.id.tolist(), *(column.to_pylist() for column in texts))
        return [
            message(
                subscription,
                "match",
                f'{{"symbol":"{name}","sequence":{number},"side":"{side}","size":{size},"price":"{price}",'
                f'"takerOrderId":"{ORDER_IDS + 2 * number + 1}","makerOrderId":"{ORDER_IDS + 2 * number}",'
                f'"tradeId":"{number}","ts":{ns}}}'.encode(),
            )
            for number, price, size, side, ns in zip(*columns, strict=True)
        ]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; the last two values of a candle are both its lots."""
        instrument, _ = self.named(subscription)
        rows = traded(rows)
        lots = rows.turnover if instrument.inverse else rows.volume / kucoin_info.lot_size(instrument)
        lots = np.round(lots, instrument.turnover_digits if instrument.inverse else 0)
        values = candle_texts(rows, lots, lots)
        return candle_messages(session, subscription, "candle.stick", values, 1)

    def book(self, instrument: Instrument, book: Book) -> bytes:
        """See ``KucoinStreams``."""
        bids, asks = (_level_rows(side, instrument) for side in (book.bids, book.asks))
        state = f'"sequence":{book.sequence},"timestamp":{book.ts},"ts":{book.ts}'.encode()
        return b'{"bids":' + bids + b"," + state + b',"asks":' + asks + b"}"

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``; mark price and rate come apart."""
        mark, rate = decimal_text(np.array([funding.mark_price, funding.rate])).to_pylist()
        prices = f'{{"markPrice":{mark},"indexPrice":{mark},"granularity":1000,"timestamp":{funding.ts}}}'
        frames = [message(subscription, "mark.index.price", prices.encode())]
        minute = funding.ts // MINUTE_MS
        if session.state.get(subscription.channel) != minute:
            session.state[subscription.channel] = minute
            data = f'{{"granularity":60000,"fundingRate":{rate},"timestamp":{funding.ts}}}'
            frames.append(message(subscription, "funding.rate", data.encode()))
        return frames


def _level_rows(levels: Array, instrument: Instrument) -> bytes:
    """One side of an order book: prices as text and lots as numbers, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    return json_rows('["', decimal_text(price), '",', size_text(price, volume, instrument), "]")
