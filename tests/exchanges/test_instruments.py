"""Markets as rows: of the sandbox, of recorded answers, and with what can be wrong with them."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from zvt_crypto.core.levels import parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import entities  # noqa: F401 - registers the tables
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.instruments import SCHEMAS, assets_of, from_markets
from zvt_crypto.sandbox import Sandbox, SimulatedMarket

CAPTURES = Path(__file__).resolve().parents[2] / ".." / "shared" / "real" / "captures"


def fetch(opened, provider, entity_type):
    async def ask():
        async with opened(provider) as venue:
            return await venue.fetch_instruments(entity_type)

    found = asyncio.run(ask())
    assert found.conflicts == ()
    return {row["code"]: row for row in found.batch.to_pylist()}


@pytest.mark.parametrize("entity_type", ["cryptoasset", "cryptopair", "cryptoperp"])
def test_the_columns_are_those_of_the_table(entity_type):
    stored = tables[entity_type].schema
    ours = SCHEMAS[entity_type]
    assert {name: ours.field(name).type for name in stored.names} == dict(
        zip(stored.names, stored.types, strict=True)
    )
    assert set(ours.names) - set(stored.names) == {"code", "name", "list_date", "end_date"}


@pytest.mark.parametrize("provider", ["binance", "okx"])
@pytest.mark.parametrize("entity_type", ["cryptopair", "cryptoperp"])
def test_all_markets_of_the_sandbox_are_listed(opened, box, provider, entity_type):
    rows = fetch(opened, provider, entity_type)
    expected = {
        i.symbol
        for i in box.market.instruments.values()
        if (i.settle is None) == (entity_type == "cryptopair")
        # Other venues than these two trade for dollars; OKX does in inverse contracts.
        and (i.quote != "USD" or (provider == "okx" and i.inverse))
    }
    assert {row["symbol"] for row in rows.values()} == expected


def test_a_pair_of_binance(opened):
    row = fetch(opened, "binance", "cryptopair")["btcusdt"]
    assert row | {"maker_fee": 0.001, "taker_fee": 0.001} == row
    assert (row["symbol"], row["native_id"], row["name"]) == ("BTC/USDT", "BTCUSDT", "BTC/USDT")
    assert (row["base_symbol"], row["quote_symbol"]) == ("btc", "usdt")
    assert (row["price_step"], row["qty_step"], row["is_active"]) == (0.01, 0.00001, True)
    assert row["list_date"] is None
    assert fetch(opened, "binance", "cryptopair")["eosusdt"]["is_active"] is False


def test_a_perpetual_of_binance(opened, box):
    rows = fetch(opened, "binance", "cryptoperp")
    row = rows["btcusdt"]
    assert (row["symbol"], row["native_id"]) == ("BTC/USDT:USDT", "BTCUSDT")
    assert (row["underlying_symbol"], row["settlement_symbol"]) == ("btc", "usdt")
    assert (row["contract_size"], row["inverse"], row["price_step"]) == (1.0, False, 0.1)
    assert row["list_date"] == parse_time("2019-09-08T17:57:00Z")
    assert row["end_date"] is None
    assert (row["funding_interval_hours"], rows["solusdt"]["funding_interval_hours"]) == (8.0, 4.0)


def test_perpetuals_of_okx(opened):
    rows = fetch(opened, "okx", "cryptoperp")
    linear, inverse = rows["btcusdt"], rows["btcusd-btc"]
    assert (linear["contract_size"], linear["inverse"], linear["max_leverage"]) == (0.01, False, 100.0)
    assert (linear["max_qty"], linear["funding_interval_hours"]) == (1e8, None)
    assert (inverse["contract_size"], inverse["inverse"], inverse["settlement_symbol"]) == (
        100.0,
        True,
        "btc",
    )
    assert inverse["list_date"] == parse_time("2018-12-20T10:00:00Z")


def test_assets_are_the_currencies_of_all_markets(opened, box):
    rows = fetch(opened, "okx", "cryptoasset")
    markets = box.market.instruments.values()
    assert set(rows) == {c.lower() for i in markets for c in (i.base, i.quote, i.settle) if c}
    assert (rows["btc"]["symbol"], rows["btc"]["is_active"]) == ("BTC", True)
    assert rows["eos"]["is_active"] is False


def market(native, base, quote, **more):
    return {"id": native, "symbol": f"{base}/{quote}", "base": base, "quote": quote, "active": True, **more}


def test_markets_with_one_code_are_reported_and_left_out():
    markets = [
        market("A-1", "AB", "CD"),
        market("A-2", "ABC", "D"),
        market("B", "X", "Y"),
        market("C", "", "Y"),
    ]
    found = from_markets("venue", "cryptopair", markets, {})
    assert found.batch["code"].to_pylist() == ["xy"]
    unnamed, shared = (error.message for error in found.conflicts)
    assert shared == "venue lists 2 markets with the code 'abcd': A-1, A-2"
    assert "'C'" in unnamed


def test_markets_that_share_a_symbol_are_reported(scripted, script):
    listed = [
        {"symbol": name, "baseAsset": "BTC", "quoteAsset": "USDT", "status": "TRADING", "filters": []}
        for name in ("BTCUSDT", "BTCUSDT2")
    ]
    listed.append({**listed[0], "symbol": "ETHUSDT", "baseAsset": "ETH"})

    async def ask():
        async with scripted(script((200, json.dumps({"symbols": listed})))) as venue:
            return await venue.fetch_instruments("cryptopair")

    found = asyncio.run(ask())
    assert found.batch["code"].to_pylist() == ["ethusdt"]
    assert [error.details["code"] for error in found.conflicts] == ["btcusdt"]


def test_what_is_not_published_is_null():
    (row,) = from_markets("venue", "cryptoperp", [market("X", "A", "B")], {}).batch.to_pylist()
    given = {"code", "name", "symbol", "native_id", "base_symbol", "quote_symbol", "is_active"}
    assert {name for name, value in row.items() if value is not None} == given | {
        "margin_enabled",
        "underlying_symbol",
    }


def test_an_asset_is_active_if_one_of_its_markets_is():
    rows = assets_of(
        [market("1", "A", "B", active=False), market("2", "B", "C", settle="D")]
    ).batch.to_pylist()
    assert {row["code"]: row["is_active"] for row in rows} == {"a": False, "b": True, "c": True, "d": True}


def recorded(name, kind=""):
    for line in gzip.decompress((CAPTURES / f"{name}.0.gz").read_bytes()).decode().splitlines():
        url, _, body = line.partition(": ")
        if f"instType={kind}" in url or (not kind and "exchangeInfo" in url):
            last = json.loads(body)
    return last.get("symbols") or last["data"]


def fetch_recorded(quick, provider, entity_type, *names):
    async def ask(url):
        kind = venue_class(provider)
        async with Client(kind, quick(url)) as client:
            return await kind(client).fetch_instruments(entity_type)

    files = [CAPTURES / f"{name}.0.gz" for name in names]
    with Sandbox(SimulatedMarket(seed=1), captures=files) as box:
        return asyncio.run(ask(box.url))


@pytest.mark.real_data
def test_all_recorded_pairs_of_binance(quick):
    raw = {m["symbol"]: m for m in recorded("BINANCE")}
    found = fetch_recorded(quick, "binance", "cryptopair", "BINANCE")
    rows = {row["native_id"]: row for row in found.batch.to_pylist()}
    assert found.conflicts == ()
    assert rows.keys() == raw.keys()
    assert len(rows) > 1500
    for name, row in rows.items():
        filters = {f["filterType"]: f for f in raw[name]["filters"]}
        assert row["price_step"] == float(filters["PRICE_FILTER"]["tickSize"])
        assert row["qty_step"] == float(filters["LOT_SIZE"]["stepSize"])
        assert row["min_qty"] == float(filters["LOT_SIZE"]["minQty"])
        assert row["max_qty"] == float(filters["LOT_SIZE"]["maxQty"])
        assert row["min_notional"] == float(filters["MIN_NOTIONAL"]["minNotional"])
        assert row["is_active"] == (raw[name]["status"] == "TRADING")
        assert row["margin_enabled"] == raw[name]["isMarginTradingAllowed"]
    assert len({row["is_active"] for row in rows.values()}) == 2


@pytest.mark.real_data
def test_all_recorded_perpetuals_of_binance(quick):
    raw = {m["symbol"]: m for m in recorded("BINANCE_FUTURES")}
    found = fetch_recorded(quick, "binance", "cryptoperp", "BINANCE_FUTURES")
    rows = {row["native_id"]: row for row in found.batch.to_pylist()}
    assert found.conflicts == ()
    perpetual = {
        n for n, m in raw.items() if m["contractType"] == "PERPETUAL" or m["deliveryDate"] == 4133404800000
    }
    assert rows.keys() == perpetual
    assert perpetual < raw.keys()
    for name, row in rows.items():
        assert row["list_date"] == raw[name]["onboardDate"]
        assert row["settlement_symbol"] == raw[name]["marginAsset"].lower()
        assert row["base_symbol"] == raw[name]["baseAsset"].lower()
        ended = raw[name]["deliveryDate"] < 4133404800000
        assert row["end_date"] == (raw[name]["deliveryDate"] if ended else None)


@pytest.mark.real_data
@pytest.mark.parametrize(("entity_type", "kind"), [("cryptopair", "SPOT"), ("cryptoperp", "SWAP")])
def test_all_recorded_instruments_of_okx(quick, entity_type, kind):
    raw = {m["instId"]: m for m in recorded("OKX", kind)}
    found = fetch_recorded(quick, "okx", entity_type, "OKX")
    rows = {row["native_id"]: row for row in found.batch.to_pylist()}
    assert found.conflicts == ()
    assert rows.keys() == raw.keys()
    for name, row in rows.items():
        assert row["price_step"] == float(raw[name]["tickSz"])
        assert row["qty_step"] == float(raw[name]["lotSz"])
        assert row["min_qty"] == float(raw[name]["minSz"])
        assert row["list_date"] == int(raw[name]["listTime"])
        assert row["is_active"] == (raw[name]["state"] == "live")
        if kind == "SWAP":
            assert row["contract_size"] == float(raw[name]["ctVal"])
            assert row["inverse"] == (raw[name]["ctType"] == "inverse")
            assert row["max_leverage"] == float(raw[name]["lever"])
            base, quote = raw[name]["uly"].split("-")
            suffix = f"-{base}" if row["inverse"] else ""
            assert re.sub("%.*?-", "-", row["code"]) == f"{base}{quote}{suffix}".lower()
