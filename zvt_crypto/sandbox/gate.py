"""Gate (api.gateio.ws), version 4: market data of spot pairs and perpetuals.

Follows https://www.gate.com/docs/developers/apiv4/#market-k-line-chart, ``#futures-market-k-line-chart`` and
the sections beside them. What Gate does not document is simulated thus: both bounds of candles are inclusive,
and funding rates are the newest between theirs. Not there: candles of seconds, of weeks and of months
(answered as a wrong parameter), index and mark prices, dated futures and options (no rows), orders and
accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import gate_info
from zvt_crypto.sandbox.events import Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Interval -> step in ms.
INTERVALS: Final[dict[str, int]] = {
    **{f"{n}m": n * MINUTE_MS for n in (1, 5, 15, 30)},
    **{f"{n}h": n * HOUR_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": DAY_MS,
}
_OLDEST_POINT: Final = 10_000
_FOREVER: Final = 2**53
_SPOT: Final = "/api/v4/spot/"
_FUTURES: Final = "/api/v4/futures/{settle}/"
#: Settlement currencies that have an address of their own.
_SETTLES: Final = ("usdt", "btc")
_QUOTES: Final = ("USDT", "USDC", "BTC")
_NO_ROWS: Final = Answer(b"[]")


class Gate(Venue):
    """api.gateio.ws."""

    name = "gate"
    hosts = ("api.gateio.ws", "fx-api.gateio.ws", "api.gate.com")
    row_paths = (
        *(f"{_SPOT}{path}" for path in ("candlesticks", "trades")),
        *(f"{_FUTURES}{path}" for path in ("candlesticks", "trades", "funding_rate")),
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A spot pair and a contract may have the same name.
        self._listed: dict[str, dict[str, Instrument]] = {place: {} for place in ("spot", *_SETTLES)}
        for instrument in filter(self.lists, self.market.instruments.values()):
            self._listed[place_of(instrument)][self.native(instrument)] = instrument

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``; spot pairs are named by ``currency_pair``."""
        return "contract"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        if instrument.settle is None:
            return instrument.quote in _QUOTES
        return place_of(instrument) in _SETTLES

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return f"{instrument.base}_{instrument.quote}"

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """See ``Venue``."""
        if "settle" not in query:
            return self._listed["spot"].get(query.get("currency_pair", ""))
        return self._listed.get(query["settle"], {}).get(query.get("contract", ""))

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            f"{_SPOT}time": lambda call: Answer.json({"server_time": call.now}),
            f"{_SPOT}currencies": self._currencies,
            f"{_SPOT}currency_pairs": self._pairs,
            "/api/v4/margin/currency_pairs": self._margin_pairs,
            f"{_SPOT}candlesticks": self._spot_candles,
            f"{_SPOT}trades": self._spot_trades,
            f"{_SPOT}order_book": self._spot_book,
            f"{_FUTURES}contracts": self._contracts,
            f"{_FUTURES}candlesticks": self._contract_candles,
            f"{_FUTURES}trades": self._contract_trades,
            f"{_FUTURES}funding_rate": self._fundings,
            f"{_FUTURES}order_book": self._contract_book,
            "/api/v4/delivery/{settle}/contracts": lambda call: _NO_ROWS,
            "/api/v4/options/underlyings": lambda call: _NO_ROWS,
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("NOT_FOUND", "404 Not Found", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return _failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("SERVER_ERROR", "The system is under maintenance, please try again later", 503)

    def _currencies(self, call: Call) -> Answer:
        names = {name for pair in self._listed["spot"].values() for name in (pair.base, pair.quote)}
        return Answer.json([gate_info.currency(name) for name in sorted(names)])

    def _pairs(self, call: Call) -> Answer:
        return Answer.json([gate_info.pair(name, i) for name, i in self._listed["spot"].items()])

    def _margin_pairs(self, call: Call) -> Answer:
        pairs = self._listed["spot"].items()
        return Answer.json([gate_info.margin(name, i) for name, i in pairs if i.quote == "USDT"])

    def _contracts(self, call: Call) -> Answer:
        return Answer.json(
            [
                gate_info.contract(name, instrument, call.now, self._price(instrument, call.now))
                for name, instrument in self._contracts_of(call.query).items()
            ]
        )

    def _price(self, instrument: Instrument, now: int) -> float:
        last = self.market.candles(instrument.symbol, "1m", now - 2 * MINUTE_MS, now + 1, now)
        return float(last.close[-1]) if len(last) else 1.0

    def _spot_candles(self, call: Call) -> Answer:
        span = self._span(call, self._pair(call.query), 1000)
        now = call.now

        def form(rows: Candles) -> bytes:
            return spot_candle_rows(rows, span.step, now)

        return Answer(self.pages.page(span, now, call.damage, self.name, form))

    def _contract_candles(self, call: Call) -> Answer:
        instrument = self._contract(call.query)
        span = self._span(call, instrument, 2000)

        def form(rows: Candles) -> bytes:
            return contract_candle_rows(rows, instrument)

        return Answer(self.pages.page(span, call.now, call.damage, self.name, form))

    def _span(self, call: Call, instrument: Instrument, largest: int) -> Span:
        interval = call.query.get("interval", "5m")
        if interval not in INTERVALS:
            raise _wrong(f"Invalid interval: {interval}")
        step, bounded = INTERVALS[interval], "from" in call.query or "to" in call.query
        if bounded and "limit" in call.query and "from" in call.query:
            raise _wrong("limit conflicts with from and to")
        limit = _limit(call.query, 100, largest)
        end = min(_seconds(call.query, "to", _FOREVER), call.now)
        # An end alone is the last of as many candles as the limit says.
        start = _seconds(call.query, "from", end - (limit - 1) * step if bounded else 0)
        if bounded and (end - start) // step + 1 > largest:
            most = f"Maximum {largest} data points are allowed per request"
            raise _wrong(f"Candlestick range too broad. {most}")
        if bounded and start < call.now - _OLDEST_POINT * step:
            raise _wrong("Candlestick too long ago. Maximum 10000 points recently are allowed")
        return Span(instrument.symbol, step, start, end + 1, limit=None if bounded else limit, newest=True)

    def _spot_trades(self, call: Call) -> Answer:
        instrument = self._pair(call.query)
        rows = self._trades(call, instrument)
        return Answer(spot_trade_rows(rows, self.native(instrument)))

    def _contract_trades(self, call: Call) -> Answer:
        instrument = self._contract(call.query)
        rows = self._trades(call, instrument)
        return Answer(contract_trade_rows(rows, instrument, self.native(instrument)))

    def _trades(self, call: Call, instrument: Instrument) -> Trades:
        span = TradeSpan(
            instrument.symbol,
            _seconds(call.query, "from", 0),
            _seconds(call.query, "to", _FOREVER) + 1000,
            before_id=_number(call.query, "last_id", 0) or None,
            limit=_limit(call.query, 100, 1000),
            newest=True,
        )
        trades: Trades = call.damaged(self.market.trades(span, call.now))
        return trades.take(np.arange(len(trades))[::-1])

    def _fundings(self, call: Call) -> Answer:
        instrument = self._contract(call.query)
        limit = _limit(call.query, 100, 1000)
        end = min(_seconds(call.query, "to", _FOREVER) + 1000, call.now + 1)
        # As far back as so many payments can lie.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        start = max(_seconds(call.query, "from", 0), end - (limit + 1) * longest)
        events = self.market.fundings(instrument.symbol, start, end, call.now)
        newest = call.damaged(events.take(slice(max(len(events) - limit, 0), None)))
        return Answer(funding_rows(newest))

    def _spot_book(self, call: Call) -> Answer:
        instrument = self._pair(call.query)
        book = self.market.book(instrument.symbol, _limit(call.query, 10, 1000), call.now)
        asks, bids = (spot_level_rows(levels) for levels in (book.asks, book.bids))
        return _book(asks, bids, {"current": call.now, "update": book.ts}, book.sequence, call)

    def _contract_book(self, call: Call) -> Answer:
        instrument = self._contract(call.query)
        book = self.market.book(instrument.symbol, _limit(call.query, 10, 300), call.now)
        asks, bids = (contract_level_rows(levels, instrument) for levels in (book.asks, book.bids))
        times = {"current": call.now / 1000, "update": book.ts / 1000}
        return _book(asks, bids, times, book.sequence, call)

    def _pair(self, query: Mapping[str, str]) -> Instrument:
        name = _mandatory(query, "currency_pair")
        if name not in self._listed["spot"]:
            raise _refused("INVALID_CURRENCY_PAIR", f"Invalid currency pair {name}")
        return self._listed["spot"][name]

    def _contract(self, query: Mapping[str, str]) -> Instrument:
        listed, name = self._contracts_of(query), _mandatory(query, "contract")
        if name not in listed:
            raise _refused("CONTRACT_NOT_FOUND", "CONTRACT_NOT_FOUND")
        return listed[name]

    def _contracts_of(self, query: Mapping[str, str]) -> dict[str, Instrument]:
        if query["settle"] not in _SETTLES:
            raise _wrong(f"Invalid settle: {query['settle']}")
        return self._listed[query["settle"]]


def place_of(instrument: Instrument) -> str:
    """Under what address Gate has it: ``spot`` or the settlement currency."""
    return "spot" if instrument.settle is None else instrument.settle.lower()


def spot_candle_rows(rows: Candles, step: int, now: int) -> bytes:
    """Candles of pairs as Gate writes them, in order of time; whether it is finished comes last."""
    names = ("turnover", "close", "high", "low", "open", "volume")
    texts = [
        decimal_text(rows.ts // 1000),
        *(decimal_text(getattr(rows, n), None, rows.nan_text) for n in names),
    ]
    finished = pc.if_else(pa.array(rows.ts + step <= now), "true", "false")
    separated = [part for text in (*texts, finished) for part in ('","', text)]
    return json_rows('["', *separated[1:], '"]')


def contract_candle_rows(rows: Candles, instrument: Instrument) -> bytes:
    """Candles of contracts as Gate writes them, in order of time; ``v`` counts contracts."""
    texts = {name[0]: getattr(rows, name) for name in ("open", "high", "low", "close")}
    columns = {key: decimal_text(values, None, rows.nan_text) for key, values in texts.items()}
    return json_rows(
        '{"t":',
        decimal_text(rows.ts // 1000),
        *(
            part
            for key, text in columns.items()
            for part in (f',"{key}":"' if key == "o" else f'","{key}":"', text)
        ),
        '","v":',
        _counted(rows.volume, rows.turnover, instrument, rows.nan_text),
        ',"sum":"',
        decimal_text(rows.turnover, None, rows.nan_text),
        '"}',
    )


def spot_trade_rows(rows: Trades, name: str) -> bytes:
    """Trades of pairs as Gate writes them, in the order given; times have microseconds."""
    micros = pc.utf8_lpad(decimal_text(rows.nanosecond // 1000), 3, "0")
    return json_rows(
        '{"id":"',
        decimal_text(rows.id),
        '","create_time":"',
        decimal_text(rows.ts // 1000),
        '","create_time_ms":"',
        decimal_text(rows.ts),
        ".",
        micros,
        f'000","currency_pair":"{name}","side":"',
        pc.if_else(pa.array(rows.is_buy), "buy", "sell"),
        '","amount":"',
        decimal_text(rows.volume, None, rows.nan_text),
        '","price":"',
        decimal_text(rows.price, None, rows.nan_text),
        '","sequence_id":"',
        decimal_text(rows.id),
        '"}',
    )


def contract_trade_rows(rows: Trades, instrument: Instrument, name: str) -> bytes:
    """Trades of contracts as Gate writes them, in the order given: contracts, negative where sold."""
    seconds = decimal_text(rows.ts // 1000)
    time = pc.binary_join_element_wise(seconds, pc.utf8_lpad(decimal_text(rows.ts % 1000), 3, "0"), ".")
    return json_rows(
        '{"id":',
        decimal_text(rows.id),
        ',"create_time":',
        time,
        ',"create_time_ms":',
        time,
        f',"contract":"{name}","size":',
        pc.if_else(pa.array(rows.is_buy), "", "-"),
        _counted(rows.volume, rows.turnover, instrument, rows.nan_text),
        ',"price":"',
        decimal_text(rows.price, None, rows.nan_text),
        '"}',
    )


def funding_rows(rows: Fundings) -> bytes:
    """Funding rates as Gate writes them, the newest first; times are full seconds."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    return json_rows(
        '{"t":',
        decimal_text(newest_first.ts // 1000),
        ',"r":"',
        decimal_text(newest_first.rate, None, rows.nan_text),
        '"}',
    )


def spot_level_rows(levels: Array) -> bytes:
    """One side of a pair's order book: price and amount as strings, the best first."""
    price, amount = (decimal_text(np.ascontiguousarray(levels[:, i])) for i in (0, 1))
    return json_rows('["', price, '","', amount, '"]')


def contract_level_rows(levels: Array, instrument: Instrument) -> bytes:
    """One side of a contract's order book: price and contracts, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    return json_rows(
        '{"s":', _counted(volume, price * volume, instrument), ',"p":"', decimal_text(price), '"}'
    )


def _counted(volume: Array, turnover: Array, instrument: Instrument, nan_text: str = "NaN") -> pa.Array:
    """Numbers of contracts; whole at Gate, with decimals here where the simulated market trades less."""
    amount = turnover if instrument.inverse else volume
    size = gate_info.contract_size(instrument)
    return decimal_text(np.round(amount / size, 8), None, nan_text)


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    401: ("INVALID_KEY", "Invalid key provided"),
    403: ("FORBIDDEN", "Forbidden"),
    429: ("TOO_MANY_REQUESTS", "Request Rate limit Exceeded"),
    500: ("SERVER_ERROR", "Internal server error"),
}


def _book(asks: bytes, bids: bytes, times: Mapping[str, float], number: int, call: Call) -> Answer:
    head = {"id": number, **times} if call.query.get("with_id", "").lower() == "true" else dict(times)
    return Answer(orjson.dumps(head)[:-1] + b',"asks":' + asks + b',"bids":' + bids + b"}")


def _failure(label: str, message: str, status: int) -> Answer:
    return Answer.json({"label": label, "message": message}, status)


def _refused(label: str, message: str) -> Refused:
    return Refused(_failure(label, message, 400))


def _wrong(message: str) -> Refused:
    return _refused("INVALID_PARAM_VALUE", message)


def _mandatory(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise _refused("MISSING_REQUIRED_PARAM", f"Missing required parameter: {name}")
    return query[name]


def _limit(query: Mapping[str, str], usual: int, largest: int) -> int:
    limit = _number(query, "limit", usual)
    if not 0 < limit <= largest:
        raise _wrong(f"Invalid request parameter `limit` value: {limit}")
    return limit


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    value = query.get(name) or str(usual)
    if not value.isdigit():
        raise _wrong(f"Invalid request parameter `{name}` value: {value}")
    return int(value)


def _seconds(query: Mapping[str, str], name: str, usual: int) -> int:
    """A time that is asked for in seconds, as epoch ms."""
    return _number(query, name, 0) * 1000 if query.get(name) else usual
