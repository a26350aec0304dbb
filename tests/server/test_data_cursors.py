"""Cursors: page after page gives every row once, in order, whatever is recorded meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from recorded_market import FIRST, Recorder, candles, trades

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import level_ms
from zvt_crypto.server.app import create_app
from zvt_crypto.store.engine import Store


def pages(client, table, between=lambda number: None, **given):
    """All pages of a question; ``between`` is called after each."""
    found = []
    cursor = None
    while True:
        asked = {"provider": "binance", **given} | ({"cursor": cursor} if cursor else {})
        answer = client.get(f"/api/data/{table}", query_string=asked)
        assert answer.status_code == 200, answer.text
        page = answer.json
        found.append(page)
        assert page["page"] == len(found)
        assert len(page["data"]) <= page["page_size"]
        cursor = page["next"]
        if cursor is None:
            return found
        assert len(page["data"]) == page["page_size"]
        between(len(found))


def ids(found):
    return [row["id"] for page in found for row in page["data"]]


TABLES = [
    ("CryptoPair1mKdata", {"codes": "btcusdt", "limit": 700}),
    ("CryptoPair1mKdata", {"limit": 1_000}),
    ("CryptoTrade", {"limit": 1_001}),
    ("CryptoTrade", {"limit": 333, "side": "sell"}),
    ("CryptoTrade", {"limit": 7, "min_volume": 0.0395, "codes": "ethusdt"}),
    ("CryptoFunding", {"limit": 50}),
    ("CryptoFunding", {"limit": 40, "funding_interval_hours": 8}),
    ("CryptoPair", {"limit": 2}),
    ("CryptoPerp", {"limit": 1, "settlement_symbols": "usdt"}),
    ("CryptoPair1mKdata", {"limit": 10, "resample": "1h", "unfinished": "mark"}),
    ("CryptoPair1mKdata", {"limit": 999, "fill": "ffill"}),
    ("CryptoOrderbook", {"limit": 5}),
]


@pytest.mark.parametrize("order", ["timestamp_asc", "timestamp_desc"])
@pytest.mark.parametrize(("table", "given"), TABLES)
def test_pages_are_the_whole_question(client, table, given, order):
    found = pages(client, table, **given, order=order)
    whole = pages(client, table, **{**given, "limit": 10_000}, order=order)
    assert len(whole) == 1
    assert ids(found) == ids(whole)
    assert len(set(ids(found))) == len(ids(found)) == whole[0]["total"] > 0
    assert {page["total"] for page in found} == {whole[0]["total"]}


def test_instruments_without_a_time_are_on_a_page_too(client):
    """okx does not tell when btcusdt was listed."""
    for order in ("timestamp_asc", "timestamp_desc"):
        found = pages(client, "CryptoPair", provider="okx", limit=1, order=order)
        assert len(found) == 4
        assert len(set(ids(found))) == 4


@pytest.mark.parametrize("order", ["timestamp_asc", "timestamp_desc"])
def test_candles_that_arrive_between_pages(client, recorder, order):
    """New candles at the end, candles in holes and a new market: what was there is answered once, in order."""
    given = {"limit": 500, "order": order}
    before = ids(pages(client, "CryptoPair1mKdata", **given))

    def record(number):
        later = FIRST + (3_000 + 10 * number) * level_ms("1m")
        recorder.series("binance", "CryptoPair1mKdata", "btcusdt", candles("1m", 10, first=later))
        hole = candles("1m", 1, first=FIRST + (99 + number) * level_ms("1m"))
        recorder.series("binance", "CryptoPair1mKdata", "btcusdt", hole)
        recorder.series("binance", "CryptoPair1mKdata", f"new{number}usdt", candles("1m", 3))

    found = ids(pages(client, "CryptoPair1mKdata", between=record, **given))
    assert len(set(found)) == len(found)
    recorded = set(before)
    assert [row for row in found if row in recorded] == before
    assert len(found) > len(before)


@pytest.mark.parametrize("order", ["timestamp_asc", "timestamp_desc"])
def test_trades_that_arrive_between_pages(client, recorder, order):
    given = {"limit": 301, "order": order, "codes": "btcusdt"}
    before = ids(pages(client, "CryptoTrade", **given))

    def record(number):
        # Of times that were there already, with ids beyond the old ones, and later ones.
        rows = trades(
            40, begin=10_000 + 100 * number, first=FIRST - (10_000 + 100 * number) // 4 * 250 + 60_000
        )
        recorder.series("binance", "CryptoTrade", "btcusdt", rows, entity_type="cryptopair")
        later = trades(40, begin=20_000 + 100 * number)
        recorder.series("binance", "CryptoTrade", "btcusdt", later, entity_type="cryptopair")

    found = ids(pages(client, "CryptoTrade", between=record, **given))
    assert len(set(found)) == len(found)
    recorded = set(before)
    assert [row for row in found if row in recorded] == before


def one_time(keys, code):
    count = len(keys)
    return pa.table(
        {
            "ts": [FIRST] * count,
            "trade_id": [str(key) for key in keys],
            "price": [1.0] * count,
            "volume": [1.0] * count,
            "side": ["buy"] * count,
            "nanosecond": pa.nulls(count, pa.int64()),
        }
    )


KEYS = st.lists(st.sampled_from([*range(40), "a", "b1", "007", "Z"]), min_size=1, max_size=25, unique=True)


@hypothesis_settings(max_examples=40)
@given(
    rows=st.dictionaries(st.sampled_from(["aausdt", "bbusdt", "ccusdt"]), KEYS, min_size=1),
    later=st.dictionaries(st.sampled_from(["aausdt", "bbusdt", "ccusdt", "ddusdt"]), KEYS),
    limit=st.integers(1, 9),
    order=st.sampled_from(["timestamp_asc", "timestamp_desc"]),
    side=st.sampled_from([{}, {"side": "buy"}]),
)
def test_many_trades_of_one_time(rows, later, limit, order, side):
    """Any ids of any markets at one time, and more of them after the first page."""
    folder = Path(tempfile.mkdtemp())
    try:
        settings = Settings(data_path=folder)
        recorder = Recorder(Store(settings))
        for code, keys in rows.items():
            recorder.series("binance", "CryptoTrade", code, one_time(keys, code), entity_type="cryptopair")
        app = create_app(settings)
        # Many requests of one client within a minute.
        app.config["RATELIMIT_ENABLED"] = False
        client = app.test_client()
        given = {"limit": limit, "order": order, **side}
        before = ids(pages(client, "CryptoTrade", **given))
        assert len(set(before)) == len(before) == sum(map(len, rows.values()))

        def record(number):
            for code, keys in later.items() if number == 1 else ():
                recorder.series(
                    "binance", "CryptoTrade", code, one_time(keys, code), entity_type="cryptopair"
                )

        found = ids(pages(client, "CryptoTrade", between=record, **given))
        assert len(set(found)) == len(found)
        assert [row for row in found if row in set(before)] == before
    finally:
        shutil.rmtree(folder)


def test_a_cursor_holds_for_its_question_only(client):
    asked = {"provider": "binance", "codes": "btcusdt", "limit": 5}
    cursor = client.get("/api/data/CryptoTrade", query_string=asked).json["next"]

    def status(table="CryptoTrade", **changed):
        answer = client.get(f"/api/data/{table}", query_string=asked | {"cursor": cursor} | changed)
        if answer.status_code == 400:
            assert "'cursor'" in answer.json["error"]["message"]
        return answer.status_code

    assert status() == status(limit=9) == status(columns="price") == status(format="csv") == 200
    assert status(order="timestamp_desc") == status(codes="ethusdt") == status(side="buy") == 400
    assert status(table="CryptoPair1mKdata") == status(provider="okx") == status(cursor=cursor[:-2]) == 400


@given(st.text(max_size=60))
def test_no_text_for_a_cursor_makes_a_crash(text):
    from zvt_crypto.core.errors import InvalidArgument
    from zvt_crypto.server.parameters import cursor_from

    with pytest.raises(InvalidArgument):
        cursor_from(text, "question")


def test_a_stream_goes_on_after_a_cursor(client):
    asked = {"provider": "binance", "codes": "btcusdt", "columns": "id"}
    whole = client.get("/api/data/CryptoTrade", query_string=asked | {"format": "csv"}).text.splitlines()
    cursor = client.get("/api/data/CryptoTrade", query_string=asked | {"limit": 1_234}).json["next"]
    rest = client.get("/api/data/CryptoTrade", query_string=asked | {"cursor": cursor, "format": "csv"}).text
    assert rest.splitlines()[1:] == whole[1_235:]
