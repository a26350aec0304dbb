"""OKX's recorded streams, word for word, but for the name of the channel of trades."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.stream_captures import (
    BookChange,
    Key,
    Message,
    Replay,
    Trade,
    decimals,
    listing_time,
)
from zvt_crypto.sandbox.streams import Frame, Session, Subscription

#: Channel that a client asks for -> channel in which the same was recorded.
_RECORDED: Final = {"trades": "trades", "trades-all": "trades", "books": "books"}


class OkxReplay(Replay):
    """Spot pairs and perpetual swaps; futures are left out."""

    recorded_hosts = hosts = ("ws.okx.com",)
    rest_hosts = ("www.okx.com",)

    def key_of(self, text: str) -> Key | None:
        """See ``Replay``."""
        frame = orjson.loads(text)
        if "data" not in frame:
            return None
        return frame["arg"]["channel"], frame["arg"]["instId"]

    def key(self, subscription: Subscription) -> Key:
        """See ``Replay``."""
        channel, native = subscription.argument["channel"], subscription.argument["instId"]
        return _RECORDED.get(channel, ""), native

    def frame(self, session: Session, subscription: Subscription, message: Message) -> Frame:
        """See ``Replay``."""
        channel = subscription.argument["channel"]
        return message.text.replace(f'"channel":"{_RECORDED[channel]}"', f'"channel":"{channel}"', 1)

    def instruments(self) -> Iterable[Instrument]:
        """See ``Replay``."""
        return [self._instrument(entry) for entry in self._entries().values()]

    def trades(self, instrument: Instrument) -> Iterable[Trade]:
        """See ``Replay``."""
        for message in self._messages.get(("trades", _native(instrument)), ()):
            for row in orjson.loads(message.text)["data"]:
                price = float(row["px"])
                volume = _base(float(row["sz"]), price, instrument)
                yield Trade(int(row["ts"]), 0, int(row["tradeId"]), price, volume, row["side"] == "buy")

    def book_changes(self, instrument: Instrument) -> Iterable[BookChange]:
        """See ``Replay``."""
        for message in self._messages.get(("books", _native(instrument)), ()):
            frame = orjson.loads(message.text)
            for row in frame["data"]:
                bids, asks = (_levels(row[side], instrument) for side in ("bids", "asks"))
                yield BookChange(message.ts, frame["action"] == "snapshot", bids, asks)

    def _entries(self) -> dict[str, Any]:
        """The recorded descriptions of what was recorded, futures aside."""
        entries: dict[str, Any] = {}
        recorded = {native for _, native in self._messages}
        for kind in ("SPOT", "SWAP"):
            body = self.answers.find(self.rest_hosts[0], "/api/v5/public/instruments", {"instType": kind})
            data = orjson.loads(body)["data"] if body else []
            entries |= {entry["instId"]: entry for entry in data if entry["instId"] in recorded}
        return entries

    def _instrument(self, entry: Mapping[str, str]) -> Instrument:
        base, quote = entry["instId"].split("-")[:2]
        return Instrument(
            base,
            quote,
            entry["settleCcy"] or None,
            decimals(entry["tickSz"]),
            decimals(entry["lotSz"]),
            listing_time(self.clock),
            contract_size=float(entry["ctVal"] or 1),
        )


def _native(instrument: Instrument) -> str:
    name = f"{instrument.base}-{instrument.quote}"
    return name if instrument.settle is None else f"{name}-SWAP"


def _base(size: float, price: float, instrument: Instrument) -> float:
    """A size as OKX counts it in base currency."""
    if instrument.settle is None:
        return size
    return size * instrument.contract_size / (price if instrument.inverse else 1.0)


def _levels(rows: Sequence[Sequence[str]], instrument: Instrument) -> list[tuple[float, float]]:
    levels = ((float(row[0]), float(row[1])) for row in rows)
    return [(price, _base(size, price, instrument)) for price, size in levels]
