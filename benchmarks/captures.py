"""The recorded streams of exchanges, as each side of the benchmark of streams reads them.

Binance and OKX send today what they sent when they were recorded. Kraken and Coinbase do not: the same trades
and books are written in the layout of their present streams (Kraken v2, Coinbase Advanced Trade), which is what
a reader understands; cryptofeed reads Kraken as it was recorded.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final

from benchmarks.measure import ROOT

_PAIRS: Final = {
    "binance": (("NKN", "USDT"), ("BLZ", "ETH"), ("LRC", "BTC"), ("RUNE", "EUR")),
    "futures": (("SUSHI", "USDT"), ("AKRO", "USDT"), ("KEEP", "USDT"), ("CTK", "USDT")),
}
FOLDER: Final = ROOT / ".." / "shared" / "real" / "captures"
#: Frames of trades in one pass.
TRADES: Final = 20_000


def venues() -> list[dict[str, Any]]:
    """What each venue sent.

    Returns:
        Of each venue ``name``; ``provider`` and ``entity_type`` as we call them; ``cryptofeed`` and ``ccxt``,
        the names of their classes; ``markets``, the venue's name, ccxt's and cryptofeed's of each; ``trades``,
        frames; ``begin`` and ``updates``, frames of order books, or for ``begin`` answers over REST with the
        market of each; and ``old``, the last three in the layout of their day where that is another.
    """
    return [_binance(), _binance_futures(), _okx(), _coinbase(), _kraken()]


def _lines(name: str) -> list[str]:
    with gzip.open(FOLDER / f"{name}.gz", "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def _frames(name: str) -> list[str]:
    """What the exchange sent."""
    return [line.split(": ", 1)[1] for line in _lines(name) if line[:1].isdigit()]


def _looped(frames: list[str]) -> list[str]:
    """The frames again and again; none of them holds more than a few trades."""
    return list(itertools.islice(itertools.cycle(frames), TRADES))


def _binance() -> dict[str, Any]:
    markets = [(f"{base}{quote}", f"{base}/{quote}", f"{base}-{quote}") for base, quote in _PAIRS["binance"]]
    return _of_binance("Binance", "BINANCE", "cryptopair", "Binance", "binance", markets)


def _binance_futures() -> dict[str, Any]:
    markets = [
        (f"{base}{quote}", f"{base}/{quote}:{quote}", f"{base}-{quote}-PERP")
        for base, quote in _PAIRS["futures"]
    ]
    name = "Binance futures"
    return _of_binance(name, "BINANCE_FUTURES", "cryptoperp", "BinanceFutures", "binanceusdm", markets)


def _of_binance(
    name: str, capture: str, entity_type: str, cryptofeed: str, ccxt: str, markets: list[tuple[str, str, str]]
) -> dict[str, Any]:
    frames = _frames(f"{capture}.ws.1.0")
    answers = (line.split(": ", 1) for line in _lines(f"{capture}.http.0.0") if line)
    begin = [(url.split("symbol=")[1].split("&")[0], text) for url, text in answers]
    return {
        "name": name,
        "provider": "binance",
        "entity_type": entity_type,
        "cryptofeed": cryptofeed,
        "ccxt": ccxt,
        "markets": markets,
        "trades": _looped([frame for frame in frames if '"e":"aggTrade"' in frame]),
        "begin": begin,
        "updates": [frame for frame in frames if '"e":"depthUpdate"' in frame],
    }


def _okx() -> dict[str, Any]:
    frames = [frame for frame in _frames("OKX.ws.1.0") if '"data"' in frame]
    books = [frame for frame in frames if '"channel":"books"' in frame]
    return {
        "name": "OKX",
        "provider": "okx",
        "entity_type": "cryptopair",
        "cryptofeed": "OKX",
        "ccxt": "okx",
        "markets": [
            ("BTC-USDT", "BTC/USDT", "BTC-USDT"),
            ("UNI-USD-SWAP", "UNI/USD:UNI", "UNI-USD-PERP"),
            ("BTC-USD-220527", "BTC/USD:BTC-220527", "BTC-USD-22K27"),
        ],
        "trades": _looped([frame for frame in frames if '"channel":"trades"' in frame]),
        "begin": [(None, frame) for frame in books if '"snapshot"' in frame],
        "updates": [frame for frame in books if '"update"' in frame],
    }


def _coinbase() -> dict[str, Any]:
    messages = [json.loads(frame) for frame in _frames("COINBASE.ws.28.0")]
    of_type = {kind: [m for m in messages if m["type"] == kind] for kind in ("match", "snapshot", "l2update")}
    trades = itertools.islice(itertools.cycle(of_type["match"]), TRADES)
    pairs = sorted({message["product_id"] for message in of_type["snapshot"]})
    number = itertools.count()
    return {
        "name": "Coinbase",
        "provider": "coinbase",
        "entity_type": "cryptopair",
        "cryptofeed": "Coinbase",
        "ccxt": "coinbase",
        "markets": [(pair, pair.replace("-", "/"), pair) for pair in pairs],
        "trades": [_advanced("market_trades", count, _match(trade)) for count, trade in enumerate(trades)],
        "begin": [(None, _advanced("l2_data", next(number), _whole(book))) for book in of_type["snapshot"]],
        "updates": [_advanced("l2_data", next(number), _changes(book)) for book in of_type["l2update"]],
    }


def _advanced(channel: str, number: int, event: dict[str, Any]) -> str:
    frame = {
        "channel": channel,
        "client_id": "",
        "timestamp": "2021-04-17T16:43:37.100000000Z",
        "sequence_num": number,
        "events": [event],
    }
    return json.dumps(frame, separators=(",", ":"))


def _match(trade: dict[str, Any]) -> dict[str, Any]:
    kept = {name: trade[name] for name in ("product_id", "price", "size", "time")}
    told = {"trade_id": str(trade["trade_id"]), "side": trade["side"].upper(), **kept}
    return {"type": "update", "trades": [told]}


def _whole(book: dict[str, Any]) -> dict[str, Any]:
    sides = (("bid", "bids"), ("offer", "asks"))
    levels = [_level(side, *level) for side, key in sides for level in book[key]]
    return {"type": "snapshot", "product_id": book["product_id"], "updates": levels}


def _changes(book: dict[str, Any]) -> dict[str, Any]:
    names = {"buy": "bid", "sell": "offer"}
    levels = [_level(names[side], price, amount) for side, price, amount in book["changes"]]
    return {"type": "update", "product_id": book["product_id"], "updates": levels}


def _level(side: str, price: str, amount: str) -> dict[str, str]:
    time = "2021-04-17T16:43:37.075687Z"
    return {"side": side, "event_time": time, "price_level": price, "new_quantity": amount}


def _kraken() -> dict[str, Any]:
    trades = [f for f in _frames("KRAKEN.ws.48.0") if f.startswith("[")]
    books = [f for f in _frames("KRAKEN.ws.50.0") if f.startswith("[")]
    snapshots = [frame for frame in books if '{"as":' in frame]
    updates = [frame for frame in books if '{"as":' not in frame]
    pairs = sorted({json.loads(frame)[-1] for frame in snapshots})
    looped = _looped(trades)
    number = itertools.count(1)
    return {
        "name": "Kraken",
        "provider": "kraken",
        "entity_type": "cryptopair",
        "cryptofeed": "Kraken",
        "ccxt": "kraken",
        "markets": [(pair, _today(pair), _today(pair).replace("/", "-")) for pair in pairs],
        "depth": 1000,
        "trades": [_v2_trades(json.loads(frame), number) for frame in looped],
        "begin": [(None, _v2_book(frame)) for frame in snapshots],
        "updates": list(map(_v2_book, updates)),
        "old": {"trades": looped, "begin": [(None, frame) for frame in snapshots], "updates": updates},
    }


def _today(pair: str) -> str:
    return pair.replace("XBT", "BTC")


def _v2_trades(message: list[Any], number: Iterator[int]) -> str:
    _, rows, _, pair = message
    told = (
        f'{{"symbol":"{_today(pair)}","side":"{"buy" if side == "b" else "sell"}","price":{price},"qty":{volume},'
        f'"ord_type":"{"limit" if kind == "l" else "market"}","trade_id":{next(number)},"timestamp":"{_iso(time)}"}}'
        for price, volume, time, side, kind, _ in rows
    )
    return f'{{"channel":"trade","type":"update","data":[{",".join(told)}]}}'


def _v2_book(frame: str) -> str:
    """A book, whose numbers keep their digits: the checksum is made of them."""
    _, *parts, _, pair = json.loads(frame)
    told: dict[str, Any] = {name: value for part in parts for name, value in part.items()}
    is_snapshot = "as" in told
    bids, asks = (told.get(name, []) for name in (("bs", "as") if is_snapshot else ("b", "a")))
    newest = max(level[2] for level in [*bids, *asks])
    sides = ",".join(f'"{name}":[{_v2_levels(side)}]' for name, side in (("bids", bids), ("asks", asks)))
    # Snapshots had none.
    checksum = told.get("c") or _checksum(bids, asks)
    return (
        f'{{"channel":"book","type":"{"snapshot" if is_snapshot else "update"}","data":[{{"symbol":"{_today(pair)}",'
        f'{sides},"checksum":{checksum},"timestamp":"{_iso(newest)}"}}]}}'
    )


def _v2_levels(levels: list[list[str]]) -> str:
    return ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount, *_ in levels)


def _checksum(bids: list[list[str]], asks: list[list[str]]) -> int:
    texts = (text for level in [*asks[:10], *bids[:10]] for text in level[:2])
    return zlib.crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())


def _iso(seconds: str) -> str:
    return f"{datetime.fromtimestamp(float(seconds), timezone.utc):%Y-%m-%dT%H:%M:%S.%f}Z"
