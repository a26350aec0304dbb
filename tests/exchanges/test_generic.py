"""The provider of every other exchange: which it takes, and what it makes of ccxt's unified answers."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
from aiohttp import web
from venue_helpers import candles, order_book, parts_of

from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
)
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, MINUTE_MS, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Instrument, venue_class, venues
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.generic import candles_asked_for
from zvt_crypto.recorders.entities import entity_spec, record_entities, select_entities
from zvt_crypto.sandbox import gate_info
from zvt_crypto.sandbox.instruments import INSTRUMENTS
from zvt_crypto.store.engine import Store

PROVIDER = "ccxt:gate"
START = parse_time("2024-03-01")
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC_USDT")
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTC_USDT", contract_size=0.01)
INVERSE = Instrument("cryptoperp", "btcusd_btc", "BTC/USD:BTC", "BTC_USD", contract_size=1.0, inverse=True)


@pytest.mark.parametrize("exchange", ["bitget", "gate", "mexc", "hyperliquid", "foxbit"])
def test_a_class_is_made_of_what_ccxt_says(exchange):
    kind = venue_class("ccxt", exchange)
    assert kind is venue_class("ccxt", exchange) is kind.of_exchange(exchange)
    assert (kind.name, kind.exchange, kind.serves_many) == ("ccxt", exchange, False)
    assert set(kind.ccxt_ids) == set(kind.capabilities.entity_types) == set(kind.capabilities.candle_page)
    assert set(kind.ccxt_ids.values()) == {exchange}
    assert set(kind.capabilities.levels) == set(LEVEL_MS)
    assert set(kind.capabilities.trades.values()) == {"recent"}


def test_capabilities_of_the_exchanges_that_it_is_proven_on():
    bitget, gate = (venue_class("ccxt", name).capabilities for name in ("bitget", "gate"))
    assert bitget.candle_page == {"cryptopair": 200, "cryptoperp": 200}
    assert gate.candle_page == {"cryptopair": 1000, "cryptoperp": 1999}
    assert gate.candle_reach == {"cryptopair": 9_999, "cryptoperp": 9_999}
    assert (bitget.candle_reach, bitget.funding, gate.funding) == ({}, "recent", "history")
    assert venue_class("ccxt", "foxbit").capabilities.entity_types == ("cryptopair",)


def test_dated_futures_and_options_are_not_loaded():
    assert venue_class("ccxt", "gate").ccxt_options == {"gate": {"fetchMarkets": {"types": ["spot", "swap"]}}}
    assert venue_class("ccxt", "htx").ccxt_options == {"htx": {}}


@pytest.mark.parametrize(
    ("provider", "exchange", "said"),
    [
        ("ccxt", None, "name one by its id in ccxt, such as bitget, gate"),
        ("ccxt", "bitgett", "unknown exchange of provider ccxt 'bitgett'. did you mean bitget"),
        ("ccxt", "__init__", "unknown exchange"),
        ("ccxt", "binance", "use provider binance"),
        ("ccxt", "binanceusdm", "use provider binance"),
        ("okx", "gate", "provider okx serves the exchange okx, not 'gate'"),
    ],
)
def test_what_it_does_not_serve_is_refused(provider, exchange, said):
    with pytest.raises(InvalidArgument) as caught:
        venue_class(provider, exchange)
    assert said in caught.value.one_line()


def test_an_exchange_may_be_named_where_there_is_only_one():
    assert venue_class("okx", "okx") is venue_class("okx") is venues()["okx"]


def test_the_known_exchanges_are_told_without_loading_them():
    code = """
import sys
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.exchanges.base import venue_class
try:
    venue_class("ccxt", "gata")
except InvalidArgument as error:
    print(error.one_line())
print(sorted(name for name in sys.modules if name.startswith("ccxt.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, loaded = done.stdout.splitlines()
    assert "gate" in said and loaded == "[]"


class Gate:
    """A server with Gate's lists, which answers everything else as told."""

    def __init__(self, body):
        self.body = body if isinstance(body, str) else json.dumps(body)
        self.asked = []

    async def handle(self, request):
        path = request.path.removeprefix("/api.gateio.ws/api/v4/")
        return web.Response(text=self.answer(path, request), content_type="application/json")

    def answer(self, path, request):
        spot = [i for i in INSTRUMENTS if i.symbol == "BTC/USDT"]
        contracts = {"usdt": "BTC/USDT:USDT", "btc": "BTC/USD:BTC"}
        if path == "spot/currency_pairs":
            return json.dumps([gate_info.pair("BTC_USDT", i) for i in spot])
        if path.endswith("/contracts"):
            listed = [i for i in INSTRUMENTS if i.symbol == contracts[path.split("/")[1]]]
            return json.dumps([gate_info.contract(f"{i.base}_{i.quote}", i, START, 42_000.0) for i in listed])
        if path in ("spot/currencies", "margin/currency_pairs"):
            return "[]"
        if path == "spot/time":
            return json.dumps({"server_time": START})
        self.asked.append((path, dict(request.query)))
        return self.body


@pytest.fixture
def answered(served):
    """What a venue of Gate makes of an answer: ``await use(venue)``, and the requests it made for it."""

    def run(body, use):
        server = Gate(body)
        return served(server, use), server.asked

    return run


def page(instrument, start=START):
    return candles(instrument, start, start + 2 * MINUTE_MS)


SPOT_ROWS = [
    ["1709251200", "6227.070147198573", "61000.5", "61100", "60900.25", "61050", "0.102", "true"],
    ["1709251260", "0", "61000.5", "61000.5", "61000.5", "61000.5", "0", "false"],
]


def test_candles_of_a_pair(answered):
    table, [(path, query)] = answered(SPOT_ROWS, page(SPOT))
    assert (path, query["interval"], query["from"], query["to"]) == (
        "spot/candlesticks",
        "1m",
        "1709251200",
        "1709251260",
    )
    assert table.to_pylist()[0] == {
        "ts": START,
        "open": 61050.0,
        "high": 61100.0,
        "low": 60900.25,
        "close": 61000.5,
        "volume": 0.102,
        "turnover": None,
        "trade_count": None,
    }
    assert table["ts"].to_pylist() == [START, START + 60_000]


def test_candles_of_contracts_are_in_base_currency(answered):
    row = {"t": 1709251200, "o": "61050", "h": "61100", "l": "60900", "c": "61000", "v": 305, "sum": "1"}
    linear, _ = answered([row], page(PERP))
    assert (linear["volume"].to_pylist(), linear["turnover"].to_pylist()) == ([3.05], [None])
    inverse, _ = answered([row], page(INVERSE))
    assert inverse["volume"].to_pylist() == [pytest.approx(305 / 61000)]
    assert inverse["turnover"].to_pylist() == [305.0]


def test_rows_before_what_was_asked_are_none(answered):
    table, _ = answered(SPOT_ROWS, page(SPOT, START + HOUR_MS))
    assert table.num_rows == 0


def asked_for(times, start, end, page=3, newest=100):
    candles = pa.table({"ts": pa.array(times, pa.int64())})
    return candles_asked_for(candles, start, end, page, newest)["ts"].to_pylist()


def test_candles_beside_what_was_asked_for():
    assert asked_for([], 10, 20) == []
    assert asked_for([7, 8, 10, 15], 10, 20) == [10, 15]
    # Without a bound, an exchange goes on to the first candles that it has: there are none before.
    assert asked_for([30, 31, 32], 10, 20) == []
    # But the newest page instead of an old one says nothing of it, and is left for the paging to find.
    assert asked_for([99, 100, 101], 10, 20) == [99, 100, 101]
    assert asked_for([100, 101], 10, 20) == []
    # An exchange that was told the end sends nothing beyond it.
    assert asked_for([30, 31], 10, None) == [30, 31]


def test_candles_that_count_nobody_knows_what_are_not_asked_for(quick):
    kind = venue_class("ccxt", "mexc")
    # It has no client to ask with.
    venue = kind(None)
    with pytest.raises(NotSupported, match="count contracts") as caught:
        asyncio.run(page(PERP)(venue))
    assert "0.01" in caught.value.message and caught.value.suggestions


def test_trades_of_a_pair(answered):
    rows = [
        {"id": "12", "create_time": "1709251201", "create_time_ms": "1709251201378.105000",
         "currency_pair": "BTC_USDT", "side": "sell", "amount": "0.5", "price": "61000.5"},
        {"id": "11", "create_time": "1709251200", "create_time_ms": "1709251200001.900000",
         "currency_pair": "BTC_USDT", "side": "buy", "amount": "0.25", "price": "61001"},
    ]  # fmt: skip
    [part], [(path, query)] = answered(rows, parts_of("trades", SPOT, START, START + DAY_MS))
    assert (path, query) == ("spot/trades", {"currency_pair": "BTC_USDT", "limit": "1000"})
    assert part.rows.to_pylist() == [
        {"ts": START + 1, "trade_id": "11", "price": 61001.0, "volume": 0.25, "side": "buy", "nanosecond": None},
        {"ts": START + 1378, "trade_id": "12", "price": 61000.5, "volume": 0.5, "side": "sell", "nanosecond": None},
    ]  # fmt: skip
    # The oldest millisecond may have had more trades than those of the page.
    assert (part.start, part.stop, part.requests) == (START + 2, START + DAY_MS, 1)


def test_trades_of_contracts_are_in_base_currency(answered):
    row = {
        "id": 7,
        "create_time": 1709251200.707,
        "create_time_ms": 1709251200.707,
        "size": -105,
        "price": "60000",
    }
    row["contract"] = "BTC_USDT"
    [part], _ = answered([row], parts_of("trades", PERP, START, START + DAY_MS))
    [trade] = part.rows.to_pylist()
    assert (trade["ts"], trade["side"], trade["volume"]) == (START + 707, "sell", 1.05)
    row["contract"] = "BTC_USD"
    [part], _ = answered([row], parts_of("trades", INVERSE, START, START + DAY_MS))
    assert part.rows["volume"].to_pylist() == [105 / 60000]


def test_trades_without_ids_get_some(answered):
    row = {
        "create_time_ms": "1709251200500.0",
        "currency_pair": "BTC_USDT",
        "side": "buy",
        "amount": "2",
        "price": "3",
    }
    [part], _ = answered([row, row], parts_of("trades", SPOT, START, START + DAY_MS))
    assert part.rows["trade_id"].to_pylist() == [f"{START + 500}-3-2-buy-{n}" for n in (0, 1)]


def test_an_order_book(answered):
    book = {
        "id": 9,
        "current": START / 1000 + 0.745,
        "bids": [{"s": 100, "p": "60999"}, {"s": 50, "p": "60998"}],
        "asks": [{"s": 200, "p": "61001"}],
    }

    table, [(path, query)] = answered(book, order_book(PERP, 1))
    assert (path, query["contract"], query["limit"]) == ("futures/usdt/order_book", "BTC_USDT", "20")
    [row] = table.to_pylist()
    assert (row["sequence"], row["depth"], row["best_bid"], row["best_ask"]) == (9, 1, 60999.0, 61001.0)
    assert (json.loads(row["bids"]), json.loads(row["asks"])) == ([[60999.0, 1.0]], [[61001.0, 2.0]])
    assert START <= row["ts"] < START + 1000


def test_funding_events(answered):
    rows = [{"t": START // 1000, "r": "-0.0003"}]
    [part], asked = answered(rows, parts_of("funding", PERP, START, START + HOUR_MS))
    assert part.rows.to_pylist() == [{"ts": START, "funding_rate": -0.0003, "mark_price": None}]
    assert (part.start, part.stop, part.requests) == (START, START + HOUR_MS, len(asked))
    assert asked[0][1] == {"contract": "BTC_USDT", "limit": "100", "from": "1709251200", "to": "1709254799"}


@pytest.mark.parametrize("body", ["[1, 2]", '[["x"]]', '{"label": 5, "message": null}'])
def test_an_answer_of_another_form_is_named(answered, body):
    with pytest.raises(ProviderUnavailable) as caught:
        answered(body, page(SPOT))
    assert caught.value.details["attempts"] == 3


def test_rows_without_a_time_are_refused(answered):
    row = {"id": "1", "currency_pair": "BTC_USDT", "side": "buy", "amount": "2", "price": "3"}
    with pytest.raises(ProviderUnavailable, match="gate sent rows without a time"):
        answered([row], parts_of("trades", SPOT, START, START + DAY_MS))


@pytest.mark.parametrize(
    ("provider", "symbol"), [("ccxt:bitget", "BTC/USDX"), ("ccxt:gate", "BTC/USDX:USDT")]
)
def test_an_unknown_symbol_is_answered_with_the_nearest(asked, provider, symbol):
    kind = "cryptoperp" if ":" in symbol else "cryptopair"
    unknown = Instrument(kind, "btcusdx", symbol, "BTC_USDX", contract_size=1.0)
    with pytest.raises(PairNotFound, match="unknown (bitget|gate) symbol") as caught:
        asked(page(unknown), provider=provider)
    assert "BTC/USDT" in caught.value.one_line()


def test_a_symbol_that_bitget_took_away_since(asked):
    async def use(venue):
        query = {"symbol": "X", "granularity": "1h"}
        await venue.client.call("cryptopair", "publicSpotGetV2SpotMarketCandles", query)

    with pytest.raises(PairNotFound):
        asked(use, provider="ccxt:bitget")


def test_funding_between_two_seconds_is_not_what_gate_rounds_to(asked, box):
    """Gate counts seconds: what it answers for a bound inside of one may lie outside."""
    events = box.market.fundings("BTC/USDT:USDT", START, START + 2 * DAY_MS).ts // 1000 * 1000
    [part] = asked(parts_of("funding", PERP, int(events[0]) + 1, int(events[2]) + 1))
    assert sorted(part.rows["ts"].to_pylist()) == events[1:3].tolist()
    [part] = asked(parts_of("funding", PERP, int(events[0]) + 1, int(events[0]) + 500))
    assert part.rows.num_rows == 0


def test_funding_of_bitget_is_its_newest_page(asked, box):
    now = box.market.now()
    events = box.market.fundings("BTC/USDT:USDT", now - 60 * DAY_MS, now, now).ts[-100:]
    [part] = asked(parts_of("funding", PERP, now - 60 * DAY_MS, now), provider="ccxt:bitget")
    assert part.rows["ts"].to_pylist() == events.tolist()
    assert (part.start, part.stop) == (events[0] + 1, now)


@pytest.mark.parametrize(("levels", "step"), [(("1m", "4h"), 4 * HOUR_MS), ((), None)])
def test_the_listing_where_there_are_no_daily_candles(quick, box, levels, step):
    bitget = venue_class("ccxt", "bitget")
    kind = type("Coarse", (bitget,), {"capabilities": replace(bitget.capabilities, levels=levels)})
    pepe = Instrument("cryptopair", "pepeusdt", "PEPE/USDT", "PEPEUSDT")

    async def ask():
        async with Client(kind, quick(box.url)) as client:
            return await kind(client).find_listing(pepe)

    listed = box.market.instrument("PEPE/USDT").listed
    assert asyncio.run(ask()) == (None if step is None else listed // step * step)


@pytest.mark.parametrize("exchange", ["bitget", "gate"])
def test_entities_carry_the_exchange_and_lie_with_the_provider(asked, quick, box, exchange):
    load_tables()
    store = Store(quick(box.url))

    async def record(venue):
        return [await record_entities(store, venue, entity_spec(k)) for k in ("cryptopair", "cryptoperp")]

    for outcome in asked(record, provider=f"ccxt:{exchange}"):
        assert not outcome.errors and outcome.rows > 3 and outcome.entity_id.endswith(f"_{exchange}")
    [row], errors = select_entities(store, "ccxt", entity_spec("cryptopair"), codes=["BTC/USDT"])
    assert (row["id"], row["exchange"], errors) == (f"cryptopair_{exchange}_btcusdt", exchange, [])
    [row], _ = select_entities(store, "ccxt", entity_spec("cryptoperp"), codes=["BTC/USDT:USDT"])
    assert row["contract_size"] == {"bitget": 1.0, "gate": 0.01}[exchange]
