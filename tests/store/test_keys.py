"""Rows that an entity and a time do not tell apart: trades, by their ids."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.store import keys
from zvt_crypto.store.reader import Query, cursor_of, read, stream
from zvt_crypto.store.writer import Entity, SeriesWriter, check

load_tables()
SPEC = tables["cryptotrade"]
ENTITIES = [Entity(f"cryptopair_binance_{code}", code, None) for code in ("btcusdt", "ethusdt")]

ID = st.one_of(
    st.integers(0, 10**20).map(str),
    st.sampled_from(["0", "00", "007", "7", "-7", "1e3", " 5", "5 ", "٣", "a", "B", "ab", "é", "a_b", "9" * 18, "9" * 19]),
    st.uuids().map(str),
)  # fmt: skip
TRADE = st.tuples(st.integers(0, 4), ID, st.sampled_from([1.5, 2.25, 0.1]))
FAST = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def batch(trades):
    ts, ids, prices = zip(*trades, strict=True) if trades else ((), (), ())
    columns = [pa.array(ts, pa.int64()), pa.array(ids, pa.string()), pa.array(prices, pa.float64())]
    columns += [pa.array([1.0] * len(ts)), pa.array(["buy"] * len(ts), pa.string())]
    return pa.table([*columns, pa.nulls(len(ts), pa.int64())], schema=SPEC.schema)


def kept_order(trade):
    """Time, then numbers as numbers, then text by its bytes."""
    ts, text = trade[0], trade[1]
    is_plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and len(text) <= 18
    return (ts, 0, int(text), b"") if is_plain else (ts, 1, 0, text.encode())


@pytest.fixture
def writer(store):
    with store.connect("binance", SPEC) as connection:
        yield SeriesWriter(connection, SPEC)


def shown(rows):
    return [(row["timestamp"].microsecond // 1000, row["trade_id"]) for row in rows.to_pylist()]


@given(st.lists(st.lists(TRADE, max_size=12), max_size=4), st.integers(1, 5))
@hypothesis_settings(max_examples=80, **FAST)
def test_trades_come_back_once_in_order_page_by_page(writer, store, pages, limit):
    with writer.connection.transaction():
        writer.connection.run("DELETE FROM rows")
    expected = {}
    for number, page in enumerate(pages):
        entity = ENTITIES[number % 2]
        checked = check(SPEC, batch(page))
        assert not checked.rejected
        writer.write_page(writer.entity_key(entity), checked.batch)
        expected |= {(entity.entity_id, ts, trade_id): price for ts, trade_id, price in page}
    rows = read(store, Query(SPEC, "binance"))
    wanted = sorted(expected, key=lambda k: (k[1], k[0], kept_order(k[1:])))
    assert [
        (r["entity_id"], r["timestamp"].microsecond // 1000, r["trade_id"]) for r in rows.to_pylist()
    ] == wanted
    assert rows["price"].to_pylist() == [expected[key] for key in wanted]
    for order in ("asc", "desc"):
        whole = read(store, Query(SPEC, "binance", order=order)).to_pylist()
        seen, after = [], None
        for _ in range(len(whole) + 1):
            page = read(store, Query(SPEC, "binance", order=order, limit=limit, after=after))
            seen += page.to_pylist()
            after = cursor_of(page, SPEC)
            if after is None:
                break
        assert seen == whole
        streamed = [
            row for part in stream(store, Query(SPEC, "binance", order=order), 2) for row in part.to_pylist()
        ]
        assert streamed == whole


@given(st.lists(ID, max_size=20))
def test_numbers_are_kept_as_numbers_and_come_back_as_they_were(ids):
    parts = keys.kept_parts(pa.table({"trade_id": pa.array(ids, pa.string())}), "trade_id")
    back = [str(value) for part in parts for value in part["trade_id"].to_pylist()]
    assert sorted(back) == sorted(ids)


@given(st.lists(ID, min_size=1, max_size=20, unique=True))
@hypothesis_settings(max_examples=40, **FAST)
def test_the_view_keeps_ids_by_the_same_rule(writer, store, ids):
    """What a user's INSERT makes of an id must be what our writer makes of it, or a trade is there twice."""
    connection = writer.connection
    with connection.transaction():
        connection.run("DELETE FROM rows")
    writer.write_page(writer.entity_key(ENTITIES[0]), check(SPEC, batch([(1, i, 1.5) for i in ids])).batch)
    rows = pa.table({"e": [ENTITIES[0].entity_id] * len(ids), "t": [1] * len(ids), "i": ids})
    with connection.transaction():
        connection.write(
            "INSERT INTO cryptotrade (entity_id, timestamp, trade_id, price, volume) VALUES (?, ?, ?, 7, 1)",
            rows,
        )
    found = read(store, Query(SPEC, "binance"))
    assert sorted(found["trade_id"].to_pylist()) == sorted(ids)
    assert set(found["price"].to_pylist()) == {7.0}
    with connection.transaction():
        connection.write("DELETE FROM cryptotrade WHERE trade_id = ?", pa.table({"i": ids[:1]}))
    assert sorted(read(store, Query(SPEC, "binance"))["trade_id"].to_pylist()) == sorted(ids[1:])


def test_an_id_that_starts_again_is_another_trade(writer, store):
    """Some venues count anew after a restart: the time tells the two apart."""
    key = writer.entity_key(ENTITIES[0])
    writer.write_page(key, check(SPEC, batch([(1, "5", 1.5), (900, "5", 2.25)])).batch)
    rows = read(store, Query(SPEC, "binance"))
    assert (
        rows["price"].to_pylist() == [1.5, 2.25]
        and rows["id"].to_pylist() == ["cryptopair_binance_btcusdt_5"] * 2
    )
    assert read(store, Query(SPEC, "binance", ids=("cryptopair_binance_btcusdt_5",), end=5)).num_rows == 1


def test_rows_without_an_id_or_a_side_that_is_none_are_told():
    bad = batch([(1, "5", 1.5), (2, "", 1.5)]).set_column(4, "side", pa.array(["bid", "sell"]))
    assert check(SPEC, bad).rejected == {"trade without an id": [2], "side is neither buy nor sell": [1]}
