"""The messages of KuCoin's public streams, decoded by type.

https://www.kucoin.com/docs-new/3470072w0 (trades of pairs) and the pages beside it. Numbers come as text or
plain; both are read.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from zvt_crypto.core.levels import HOUR_MS
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Message, Topic, Trades


class Fill(msgspec.Struct, gc=False):
    """A trade of a pair; ``ns`` is epoch nanoseconds, the side is the taker's."""

    id: str = msgspec.field(name="sequence")
    ns: int = msgspec.field(name="time")
    price: float
    size: float
    side: Literal["buy", "sell"]


class Execution(msgspec.Struct, gc=False):
    """As ``Fill``, of a contract; the size is in lots."""

    id: str = msgspec.field(name="tradeId")
    ns: int = msgspec.field(name="ts")
    price: float
    size: float
    side: Literal["buy", "sell"]


class Candle(msgspec.Struct, gc=False, array_like=True):
    """A candle. Of contracts, ``turnover`` is the lots, and ``volume`` is wrong, as KuCoin says itself."""

    seconds: int
    open: float
    close: float
    high: float
    low: float
    volume: float
    turnover: float


class _CandleState(msgspec.Struct, gc=False):
    candles: Candle


class _Depth(msgspec.Struct, gc=False):
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    timestamp: int
    #: Only books of contracts have one.
    sequence: int | None = None


class _MarkPrice(msgspec.Struct, gc=False, rename="camel"):
    mark_price: float
    timestamp: int


class _FundingRate(msgspec.Struct, gc=False, rename="camel"):
    #: Milliseconds between two such messages.
    granularity: int
    funding_rate: float
    timestamp: int


class _Push(msgspec.Struct, gc=False, tag_field="subject"):
    """What a topic tells; ``topic`` is its name, such as ``/market/match:BTC-USDT``."""

    topic: str


class _FillPush(_Push, gc=False, tag="trade.l3match"):
    data: Fill

    def message(self, topic: Topic) -> Message | None:
        return Trades(topic, (self.data,))


class _ExecutionPush(_Push, gc=False, tag="match"):
    data: Execution

    def message(self, topic: Topic) -> Message | None:
        return Trades(topic, (self.data,))


class _CandlePush(_Push, gc=False, tag="trade.candles.update"):
    data: _CandleState

    def message(self, topic: Topic) -> Message | None:
        return Candles(topic, (self.data.candles,))


class _ContractCandlePush(_CandlePush, gc=False, tag="candle.stick"):
    pass


class _DepthPush(_Push, gc=False, tag="level2"):
    data: _Depth

    def message(self, topic: Topic) -> Message | None:
        data = self.data
        return BookUpdate(topic, True, data.bids, data.asks, last=data.sequence, ts=data.timestamp)


class _MarkPricePush(_Push, gc=False, tag="mark.index.price"):
    data: _MarkPrice

    def message(self, topic: Topic) -> Message | None:
        return Funding(topic, self.data.timestamp, mark_price=self.data.mark_price)


class _FundingRatePush(_Push, gc=False, tag="funding.rate"):
    data: _FundingRate

    def message(self, topic: Topic) -> Message | None:
        # Every minute the rate to come is told, and after each payment the one that was paid.
        if self.data.granularity >= HOUR_MS:
            return None
        return Funding(topic, self.data.timestamp, rate=self.data.funding_rate)


class Welcome(msgspec.Struct, gc=False, tag_field="type", tag="welcome"):
    """The beginning of a connection."""


class Pong(msgspec.Struct, gc=False, tag_field="type", tag="pong"):
    """The answer to a ping of the client."""


class Acknowledged(msgspec.Struct, gc=False, tag_field="type", tag="ack"):
    """A frame of the client is accepted; ``id`` is that of the frame."""

    id: str | int


class Refusal(msgspec.Struct, gc=False, tag_field="type", tag="error"):
    """A frame of the client, or the client itself, is turned down; ``data`` says why."""

    code: int
    data: str
    id: str | int = ""


Push: TypeAlias = (
    _FillPush
    | _ExecutionPush
    | _CandlePush
    | _ContractCandlePush
    | _DepthPush
    | _MarkPricePush
    | _FundingRatePush
)

decode_push: Final = msgspec.json.Decoder(Push, strict=False).decode
decode_answer: Final = msgspec.json.Decoder(Welcome | Pong | Acknowledged | Refusal, strict=False).decode
