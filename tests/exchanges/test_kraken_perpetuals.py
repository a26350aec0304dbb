"""Kraken's perpetuals in our columns: recorded answers value by value, pages, fees and the clock."""

import json

import numpy as np
import pytest
from venue_helpers import candles, instruments, order_book, parts_of, rows_of

from zvt_crypto.core.errors import DataQualityFailure, ProviderUnavailable
from zvt_crypto.core.levels import MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument

PROVIDER = "kraken"
LINEAR = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "PF_XBTUSD", contract_size=1.0)
INVERSE = Instrument("cryptoperp", "btcusd-btc", "BTC/USD:BTC", "PI_XBTUSD", contract_size=1.0, inverse=True)
#: A moment in epoch seconds.
NOON = 1_762_776_000


@pytest.mark.real_data
def test_recorded_candles_of_an_inverse_contract_are_read(queried, payload):
    raw = json.loads(payload("futures_candles_trade"))["candles"]
    start, end = raw[0]["time"], raw[-1]["time"] + 3_600_000

    page, [query] = queried(candles(INVERSE, start, end, "1h"), payload("futures_candles_trade"))
    assert query == {"from": str(start // 1000), "to": str(end // 1000 - 1)}
    assert page.num_rows == len(raw) == 3
    for row, theirs in zip(page.to_pylist(), raw, strict=True):
        assert row == {
            "ts": theirs["time"],
            **{name: float(theirs[name]) for name in ("open", "high", "low", "close")},
            "volume": float(theirs["volume"]) / float(theirs["close"]),
            "turnover": float(theirs["volume"]),
            "trade_count": None,
        }


@pytest.mark.parametrize("volume", ["1.25", 1.25])
def test_linear_contracts_count_base_currency(told, volume):
    prices = {"open": "100.5", "high": "102", "low": "99", "close": "101"}
    row = {"time": NOON * 1000, **prices, "volume": volume}

    page, _ = told(
        candles(LINEAR, NOON * 1000, NOON * 1000 + MINUTE_MS),
        json.dumps({"candles": [row], "more_candles": False}),
    )
    [ours] = page.to_pylist()
    assert (ours["volume"], ours["turnover"], ours["trade_count"]) == (1.25, None, None)
    assert [ours[name] for name in prices] == [float(price) for price in prices.values()]


@pytest.mark.real_data
@pytest.mark.parametrize("instrument", [LINEAR, INVERSE])
def test_recorded_executions_are_read(queried, payload, instrument):
    answer = json.loads(payload("futures_public_executions"))
    raw = [element["event"]["Execution"]["execution"] for element in answer["elements"]]
    times = [execution["timestamp"] for execution in raw]
    del answer["continuationToken"]
    use = parts_of("trades", instrument, min(times), max(times) + 1)
    [part], [query] = queried(use, json.dumps(answer))
    assert query == {
        "since": str(min(times) - 1),
        "before": str(max(times) + 1),
        "sort": "asc",
        "count": "1000",
    }
    assert part.rows.num_rows == len(raw) == 3
    for row, theirs in zip(part.rows.to_pylist(), raw, strict=True):
        quantity, price = float(theirs["quantity"]), float(theirs["price"])
        assert row == {
            "ts": theirs["timestamp"],
            "trade_id": theirs["uid"],
            "price": price,
            "volume": quantity / price if instrument.inverse else quantity,
            "side": theirs["takerOrder"]["direction"].lower(),
            "nanosecond": None,
        }


def execution(number, ts, **changed):
    order = {"direction": "Sell"}
    fields = {"uid": f"u{number}", "takerOrder": order, "timestamp": ts, "quantity": "2", "price": "10"}
    return {"uid": "e", "timestamp": ts, "event": {"Execution": {"execution": fields | changed}}}


def executions(elements, token=None):
    body = {"elements": elements, "len": len(elements)} | ({"continuationToken": token} if token else {})
    return json.dumps(body)


def test_pages_of_executions_follow_the_token(queried):
    start = NOON * 1000
    first = [execution(1, start), execution(2, start + 5), execution(3, start + 5)]
    second = [execution(4, start + 5), execution(5, start + 5, takerOrder=None)]
    parts, queries = queried(
        parts_of("trades", LINEAR, start, start + 100), executions(first, "abc"), executions(second)
    )
    assert [row["trade_id"] for row in rows_of(parts)] == ["u1", "u2", "u3", "u4", "u5"]
    assert [row["side"] for row in rows_of(parts)] == ["sell"] * 4 + [None]
    # The moment in which the first page ends is complete only with the second one.
    assert [(part.start, part.stop) for part in parts] == [(start, start + 5), (start + 5, start + 100)]
    assert [query.get("continuation_token") for query in queries] == [None, "abc"]


def test_executions_of_another_range_are_named(told):
    old = executions([execution(1, NOON * 1000 - 60_000)])
    with pytest.raises(DataQualityFailure, match="with trades of 2025-11-10T11:59:00Z: the same page again"):
        told(parts_of("trades", LINEAR, NOON * 1000, NOON * 1000 + 10), old)


@pytest.mark.parametrize(
    "body", ["{}", '{"elements":[{}]}', '{"elements":[{"event":{"Execution":[]}}]}', "[]"]
)
def test_what_is_no_execution_is_an_error(told, body):
    with pytest.raises(ProviderUnavailable):
        told(parts_of("trades", LINEAR, NOON * 1000, NOON * 1000 + 10), body, max_attempts=1)


@pytest.mark.real_data
def test_recorded_funding_events_are_read(queried, payload):
    raw = json.loads(payload("futures_historical_funding_rates"))["rates"]
    start, end = parse_time("2025-07-11"), parse_time("2025-07-12")

    [part], [query] = queried(
        parts_of("funding", LINEAR, start, end), payload("futures_historical_funding_rates")
    )
    assert query == {"symbol": "PF_XBTUSD"}
    assert (part.start, part.stop) == (start, end)
    assert part.rows.to_pylist() == [
        {"ts": parse_time(row["timestamp"]), "funding_rate": row["relativeFundingRate"], "mark_price": None}
        for row in raw[:2]
    ]


@pytest.mark.real_data
@pytest.mark.parametrize("instrument", [LINEAR, INVERSE])
def test_a_recorded_order_book_of_a_contract_is_read(told, payload, instrument):
    book, _ = told(order_book(instrument, 2), payload("futures_orderbook"))
    [row] = book.to_pylist()
    levels = {"bids": [[105900.0, 0.5], [105850.0, 1.2]], "asks": [[105950.0, 0.3], [106000.0, 0.7]]}
    for side, wanted in levels.items():
        found = np.array(json.loads(row[side]))
        if instrument.inverse:
            wanted = [[price, dollars / price] for price, dollars in wanted]
        assert found == pytest.approx(np.array(wanted), rel=1e-12)
    assert (row["ts"], row["sequence"], row["depth"]) == (parse_time("2025-07-11T12:00:00Z"), None, 2)


FEES = {
    "result": "success",
    "feeSchedules": [
        {
            "uid": "723888f7-0a8e-4183-8648-f920a22339e3",
            "name": "Perpetual",
            "tiers": [
                {"makerFee": 0.02, "takerFee": 0.05, "usdVolume": 0.0},
                {"makerFee": 0.015, "takerFee": 0.04, "usdVolume": 100000.0},
            ],
        }
    ],
    "serverTime": "2025-07-11T12:00:00.250Z",
}


@pytest.mark.real_data
def test_recorded_contracts_are_read(told, payload):
    found, _ = told(instruments("cryptoperp"), payload("futures_instruments"), json.dumps(FEES))
    rows = {row["native_id"]: row for row in found.batch.to_pylist()}
    assert set(rows) == {"PI_XBTUSD", "PF_ETHUSD", "PF_PEPEUSD", "PF_AAPLxUSD"} and not found.conflicts
    inverse, linear = rows["PI_XBTUSD"], rows["PF_ETHUSD"]
    assert (inverse["code"], inverse["symbol"]) == ("btcusd-btc", "BTC/USD:BTC")
    assert inverse["inverse"] and not linear["inverse"]
    assert (linear["price_step"], linear["qty_step"], linear["contract_size"]) == (0.1, 0.001, 1.0)
    assert (linear["max_leverage"], linear["funding_interval_hours"]) == (50.0, 1.0)
    assert (linear["maker_fee"], linear["taker_fee"]) == (0.0002, 0.0005)
    assert inverse["maker_fee"] is None, "its schedule is not in the list"
    assert linear["list_date"] == parse_time("2022-03-22T13:18:45Z")
    assert rows["PF_PEPEUSD"]["qty_step"] == 1000.0


@pytest.mark.parametrize("fees", ["{}", '{"feeSchedules":[{"uid":"x","tiers":[]}]}', "[]"])
@pytest.mark.real_data
def test_fees_in_another_form_are_an_error(told, payload, fees):
    with pytest.raises(ProviderUnavailable, match="no schedules of fees"):
        told(instruments("cryptoperp"), payload("futures_instruments"), fees)


@pytest.mark.parametrize(
    "body",
    ['{"orderBook":{"bids":[],"asks":[]}}', '{"serverTime":"soon","orderBook":{}}', '{"orderBook":[]}'],
)
def test_what_is_no_order_book_is_an_error(told, body):
    with pytest.raises(ProviderUnavailable):
        told(order_book(LINEAR, 2), body, max_attempts=1)


def test_the_clock_of_the_futures_counts(told):
    async def use(venue):
        return await venue.client.now("cryptoperp")

    now, _ = told(use, json.dumps(FEES))
    assert abs(now - parse_time(FEES["serverTime"])) < 60_000
    with pytest.raises(ProviderUnavailable, match="without the time"):
        told(use, '{"result":"success"}', max_attempts=1)
