"""Binance's recorded streams, word for word; order books begin with recorded answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import orjson

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.sandbox.binance_stream import wrapped
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.stream_captures import Key, Message, Replay, Trade, decimals, listing_time
from zvt_crypto.sandbox.streams import Frame, Session, Subscription

_DATA = '"data":'


class _BinanceReplay(Replay):
    """What both API families share.

    Attributes:
        list_path: Path of the list of instruments.
    """

    list_path: ClassVar[str]

    def key_of(self, text: str) -> Key | None:
        """See ``Replay``."""
        name = orjson.loads(text).get("stream")
        return _key(name) if isinstance(name, str) else None

    def key(self, subscription: Subscription) -> Key:
        """See ``Replay``."""
        return _key(subscription.channel)

    def frame(self, session: Session, subscription: Subscription, message: Message) -> Frame:
        """See ``Replay``; the stream's name is what was subscribed to."""
        event = message.text[message.text.index(_DATA) + len(_DATA) : -1]
        return wrapped(session, subscription, [event])[0]

    def instruments(self) -> Iterable[Instrument]:
        """See ``Replay``."""
        body = self.answers.find(self.rest_hosts[0], self.list_path, {})
        if body is None:
            raise InvalidArgument(
                f"the recorded streams of {self.rest_hosts[0]} lack its {self.list_path}",
                suggestions=("give the file with the recorded answer, too",),
            )
        recorded = {symbol for symbol, _ in self._messages}
        return [self.instrument(e) for e in orjson.loads(body)["symbols"] if e["symbol"] in recorded]

    def trades(self, instrument: Instrument) -> Iterable[Trade]:
        """See ``Replay``."""
        for message in self._messages.get((instrument.base + instrument.quote, "aggTrade"), ()):
            data = orjson.loads(message.text)["data"]
            yield Trade(data["T"], 0, data["a"], float(data["p"]), float(data["q"]), not data["m"])

    @abstractmethod
    def instrument(self, entry: Mapping[str, Any]) -> Instrument:
        """The instrument of an entry of the list."""

    def _instrument(self, entry: Mapping[str, Any], settle: str | None) -> Instrument:
        filters = {one["filterType"]: one for one in entry["filters"]}
        return Instrument(
            entry["baseAsset"],
            entry["quoteAsset"],
            settle,
            decimals(filters["PRICE_FILTER"]["tickSize"]),
            decimals(filters["LOT_SIZE"]["stepSize"]),
            listing_time(self.clock),
        )


class BinanceSpotReplay(_BinanceReplay):
    """Spot."""

    recorded_hosts = hosts = ("stream.binance.com",)
    rest_hosts = ("api.binance.com",)
    list_path = "/api/v3/exchangeInfo"

    def instrument(self, entry: Mapping[str, Any]) -> Instrument:
        """See above."""
        return self._instrument(entry, None)


class BinanceFuturesReplay(_BinanceReplay):
    """USD-M futures."""

    recorded_hosts = hosts = ("fstream.binance.com",)
    rest_hosts = ("fapi.binance.com",)
    list_path = "/fapi/v1/exchangeInfo"

    def instrument(self, entry: Mapping[str, Any]) -> Instrument:
        """See above."""
        return self._instrument(entry, entry["marginAsset"])


def _key(name: str) -> Key:
    """Market and channel; the changes of an order book are the same, however often they are sent."""
    symbol, _, channel = name.partition("@")
    return symbol.upper(), "depth" if channel.startswith("depth@") else channel
