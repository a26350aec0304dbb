import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata  # noqa: F401
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import disk_bytes
from zvt_crypto.store.layout import WRITTEN, count_statement, upsert_statement
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity, Page, SeriesWriter, check

SPEC = tables["cryptopair_1m_kdata"]
BTC = Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT")
FAST = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}

DECIMAL = st.decimals("0.00000001", 10**7, places=8).map(float)
ANY_FLOAT = st.floats(1e-12, 1e12)
PRICE = st.one_of(DECIMAL, ANY_FLOAT, st.integers(1, 10**6).map(float))


def batch(ts, prices, volume=1.0, turnover=None, trade_count=None):
    n = len(ts)
    columns = {"ts": pa.array(ts, pa.int64())}
    columns |= {name: pa.array(prices, pa.float64()) for name in ("open", "high", "low", "close")}
    columns["volume"] = pa.array(np.full(n, volume))
    columns["turnover"] = pa.array([turnover] * n, pa.float64())
    columns["trade_count"] = pa.array([trade_count] * n, pa.int64())
    return pa.table(columns)


def stored(store):
    return read(store, Query(SPEC, "binance", entity_ids=(BTC.entity_id,)))


@pytest.fixture
def writer(store):
    with store.connect("binance", SPEC) as connection:
        yield SeriesWriter(connection, SPEC)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), PRICE, PRICE), min_size=1, max_size=8), max_size=5),
)
@hypothesis_settings(max_examples=60, **FAST)
def test_what_was_written_last_comes_back_to_the_bit(writer, store, pages):
    with writer.connection.transaction():
        writer.connection.run("DELETE FROM rows")
        writer.connection.run("UPDATE entities SET price_scale = NULL, volume_scale = NULL")
    writer._known_scales.clear()
    key = writer.entity_key(BTC)
    expected = {}
    for page in pages:
        rows = {minute * 60_000: (price, volume) for minute, price, volume in page}
        checked = check(
            SPEC,
            pa.table(
                {
                    "ts": list(rows),
                    **{name: [p for p, _ in rows.values()] for name in ("open", "high", "low", "close")},
                    "volume": [v for _, v in rows.values()],
                    "turnover": [p * v for p, v in rows.values()],
                    "trade_count": [1 for _ in rows],
                }
            ),
        )
        assert not checked.rejected
        writer.write_page(key, checked.batch)
        expected |= rows
    found = stored(store)
    assert found["timestamp"].cast(pa.int64()).to_pylist() == sorted(expected)
    for i, ts in enumerate(sorted(expected)):
        price, volume = expected[ts]
        row = found.slice(i, 1).to_pylist()[0]
        assert (row["open"], row["high"], row["low"], row["close"]) == (price,) * 4
        assert (row["volume"], row["turnover"]) == (volume, price * volume)
        assert row["vwap"] == price * volume / volume


def test_the_same_page_twice_changes_nothing(writer, store):
    key = writer.entity_key(BTC)
    page = batch([0, 60_000], [1.5, 2.5], turnover=3.0, trade_count=7)
    writer.write_page(key, page, answered=[(0, 120_000)])
    before, changes = stored(store), writer.connection.value("SELECT total_changes()")
    writer.connection.write(upsert_statement(SPEC, key), writer._encode(page, writer._read_scales(key)))
    assert writer.connection.value("SELECT total_changes()") == changes
    assert stored(store).equals(before)


def test_rows_and_coverage_are_stored_together_or_not_at_all(writer, store):
    key = writer.entity_key(BTC)
    with pytest.raises(TypeError):
        writer.write_page(key, batch([0], [1.0]), answered=[(0, 60_000), None])
    assert stored(store).num_rows == 0
    assert coverage.covered(writer.connection, key) == []
    writer.write_page(key, batch([0], [1.23456]), answered=[(0, 60_000)])
    assert stored(store)["open"].to_pylist() == [1.23456]


def test_rows_are_counted_as_they_are_committed(writer, store):
    key = writer.entity_key(BTC)
    assert writer.connection.value(WRITTEN) == 0
    writer.write_page(key, batch([0, 60_000], [1.0, 2.0]))
    writer.write_pages([Page(key, batch([60_000], [2.5])), Page(key, batch([120_000], [3.0]))])
    with pytest.raises(ZeroDivisionError), writer.connection.transaction():
        writer.connection.run(count_statement(1))
        raise ZeroDivisionError
    with store.connect("binance", SPEC) as again:
        SeriesWriter(again, SPEC).write_page(key, batch([], []), answered=[(0, 60_000)])
        assert again.value(WRITTEN) == 4


def test_a_scale_chosen_in_a_page_that_failed_is_not_remembered(writer, store):
    key = writer.entity_key(BTC)
    with pytest.raises(TypeError):
        writer.write_page(key, batch([0], [1e7]), answered=[None])
    writer.write_page(key, batch([0], [1.23456]))
    assert stored(store)["open"].to_pylist() == [1.23456]


def test_real_decimals_take_at_most_sixty_bytes_a_candle(writer, store):
    rng = np.random.default_rng(7)
    n = 50_000
    close = np.round(45_000 + np.cumsum(rng.normal(0, 5, n)), 2)
    volume = np.round(rng.gamma(2, 6, n), 5)
    page = pa.table(
        {
            "ts": 1_700_000_040_000 + np.arange(n) * 60_000,
            "open": close,
            "high": close + 1.5,
            "low": close - 1.5,
            "close": close,
            "volume": volume,
            "turnover": np.round(volume * close, 8),
            "trade_count": rng.integers(100, 5_000, n),
        }
    )
    key = writer.entity_key(BTC)
    for start in range(0, n, 1_000):
        writer.write_page(key, check(SPEC, page.slice(start, 1_000)).batch)
    writer.connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert disk_bytes(store.path("binance", SPEC)) / n <= 60
    assert stored(store)["close"].to_numpy().tolist() == close.tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"open": float("nan")}, "not a number"),
        ({"close": float("inf")}, "not a number"),
        ({"volume": None}, "not a number"),
        ({"low": -1.0}, "not positive"),
        ({"volume": -1.0}, "negative"),
        ({"high": 0.5}, "high below"),
        ({"low": 1.5}, "low above"),
        ({"ts": 61_000}, "grid"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_true_are_set_aside_and_named(change, reason):
    good = batch([0, 60_000, 120_000], [1.0, 1.0, 1.0]).to_pylist()
    good[1] |= change
    checked = check(SPEC, pa.Table.from_pylist(good, schema=SPEC.schema))
    assert checked.batch["ts"].to_pylist() == [0, 120_000]
    error = checked.error("btcusdt 1m")
    assert isinstance(error, DataQualityFailure)
    assert reason in str(error) and "1 rows" in str(error) and "1970-01-01T00:01" in str(error)


def test_disordered_and_doubled_rows_are_put_right():
    checked = check(SPEC, batch([120_000, 0, 60_000, 0], [3.0, 1.0, 2.0, 9.0]))
    assert checked.batch["ts"].to_pylist() == [0, 60_000, 120_000]
    assert checked.batch["open"].to_pylist() == [9.0, 2.0, 3.0]
    assert checked.error("x") is None


@pytest.mark.parametrize("count", [4_095, 4_096, 4_096 + 17, 9_000])
def test_large_batches_come_back_as_small_ones_do(store, writer, count):
    """Rows are laid side by side where there are many: none may be lost, doubled or take another's values."""
    rng = np.random.default_rng(count)
    prices = rng.choice([1.5, 2.25, 1e-9, 123456.789, 1 / 3], count)
    rows = batch([i * 60_000 for i in range(count)], prices, volume=2.5)
    some = pa.array(rng.random(count) < 0.3)
    rows = rows.set_column(
        rows.schema.get_field_index("turnover"),
        "turnover",
        pa.array(rng.random(count), mask=np.asarray(some)),
    )
    key = writer.entity_key(BTC)
    writer.write_page(key, check(SPEC, rows).batch)
    for name in ("open", "close", "volume", "turnover", "trade_count"):
        assert stored(store)[name].to_pylist() == rows[name].to_pylist(), name
    changed = rows.set_column(
        rows.schema.get_field_index("volume"), "volume", pa.array(np.arange(count) + 0.5)
    )
    writer.write_page(key, check(SPEC, changed).batch)
    found = stored(store)
    assert found.num_rows == count and found["volume"].to_pylist() == changed["volume"].to_pylist()
    assert found["close"].to_pylist() == rows["close"].to_pylist()


class TestStreamedPages:
    """Rows of a stream, which wait for the exchange's answer."""

    def streamed(self, writer, minutes, price, **more):
        key = writer.entity_key(BTC)
        ts = [minute * 60_000 for minute in minutes]
        rows = check(SPEC, batch(ts, [price] * len(ts))).batch
        spans = tuple((at, at + 60_000) for at in ts)
        writer.write_pages([Page(key, rows, source=coverage.STREAM, streamed=spans, **more)])
        return key

    def closes(self, store):
        rows = stored(store)
        ts = rows["timestamp"].cast(pa.int64()).to_pylist()
        return dict(zip([at // 60_000 for at in ts], rows["close"].to_pylist(), strict=True))

    def test_they_are_noted_and_the_answer_replaces_them(self, writer, store):
        key = self.streamed(writer, [1, 2, 3], 5.0)
        assert coverage.covered(writer.connection, key, coverage.STREAMED) == [(60_000, 240_000)]
        assert coverage.covered(writer.connection, key) == []
        writer.write_page(key, check(SPEC, batch([120_000], [7.0])).batch, answered=[(60_000, 180_000)])
        assert self.closes(store) == {1: 5.0, 2: 7.0, 3: 5.0}
        assert coverage.covered(writer.connection, key, coverage.STREAMED) == [(180_000, 240_000)]

    def test_they_do_not_replace_the_answer(self, writer, store):
        """They may have waited on disk while the exchange answered."""
        key = writer.entity_key(BTC)
        answer = check(SPEC, batch([60_000, 120_000], [7.0, 8.0])).batch
        writer.write_page(key, answer, answered=[(60_000, 240_000)])
        self.streamed(writer, [1, 2, 3, 4], 5.0)
        # The exchange has no candle of minute 3.
        assert self.closes(store) == {1: 7.0, 2: 8.0, 4: 5.0}
        assert coverage.covered(writer.connection, key, coverage.STREAMED) == [(240_000, 300_000)]
        assert coverage.covered(writer.connection, key) == [(60_000, 240_000)]

    def test_a_page_that_is_answered_as_a_whole_changes_nothing(self, writer, store):
        key = self.streamed(writer, [1, 2], 5.0)
        writer.write_page(key, SPEC.schema.empty_table(), answered=[(0, 600_000)])
        before = self.closes(store)
        self.streamed(writer, [1, 2], 6.0)
        assert self.closes(store) == before == {1: 5.0, 2: 5.0}

    def test_what_is_entered_with_them_is_entered_all_the_same(self, writer):
        key = self.streamed(writer, [1, 2], 5.0, answered=((60_000, 120_000),))
        assert coverage.answered_by(writer.connection, key) == {"stream": [(60_000, 120_000)]}
        assert coverage.covered(writer.connection, key, coverage.STREAMED) == [(120_000, 180_000)]
