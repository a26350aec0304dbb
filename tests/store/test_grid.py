"""Resampling and filling as a query asks for them; the rules themselves are tested in tests/core."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from two_processes import FIRST, MINUTE, SPEC, candles

from zvt_crypto.core.bars import fill_forward, resample
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.tables import tables
from zvt_crypto.store import coverage
from zvt_crypto.store.reader import Query, cursor_of, read, stream
from zvt_crypto.store.writer import Entity, SeriesWriter

FAST = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
HOUR = 60 * MINUTE
#: Minute of an hour at which the candles of the tests begin.
BEGIN = FIRST // HOUR * HOUR
ROWS = 70_000


def write(store, code, minutes, answered=None, seed=5):
    with store.connect("binance", SPEC) as connection:
        writer = SeriesWriter(connection, SPEC)
        key = writer.entity_key(Entity(f"cryptopair_binance_{code}", code, code))
        ts = BEGIN + np.asarray(minutes, np.int64) * MINUTE
        rows = candles(ts, seed)
        spans = [] if answered is None else [(BEGIN + answered[0] * MINUTE, BEGIN + answered[1] * MINUTE)]
        writer.write_page(key, rows, answered=spans)
    return rows


def minutes_of(batch):
    return ((batch["timestamp"].cast(pa.int64()).to_numpy() - BEGIN) // MINUTE).tolist()


@pytest.fixture
def table(store):
    """Two symbols with holes over two chunks."""
    rng = np.random.default_rng(11)
    kept = np.flatnonzero(rng.random(ROWS) < 0.7)
    return {
        "btcusdt": write(store, "btcusdt", kept),
        "ethusdt": write(store, "ethusdt", np.arange(60_000, 66_000, 7), seed=8),
    }


@pytest.mark.parametrize("level", ["5m", "15m", "1h", "4h", "1d"])
def test_bars_of_a_query_are_those_of_all_rows(store, table, level):
    for code, rows in table.items():
        step = {"5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}[level] * MINUTE
        bars = resample(SPEC, rows, step, int(rows["ts"][-1].as_py()) + MINUTE)
        found = read(store, Query(SPEC, "binance", codes=(code,), resample=level, unfinished="mark"))
        assert found["timestamp"].cast(pa.int64()).equals(bars["ts"])
        for name in (*(c.name for c in SPEC.columns), "is_finished"):
            assert found[name].combine_chunks().equals(bars[name].combine_chunks()), name
        assert set(found["level"].to_pylist()) == {level}
        only = read(store, Query(SPEC, "binance", codes=(code,), resample=level))
        assert only.equals(found.filter(found["is_finished"]).drop(["is_finished"]))


def test_rows_of_the_future_enter_no_bar(store):
    write(store, "btcusdt", range(0, 120))
    asked = {"codes": ("btcusdt",), "resample": "1h", "columns": ("timestamp", "close", "trade_count")}
    whole = read(store, Query(SPEC, "binance", **asked))
    assert minutes_of(whole) == [0, 60]
    # Ends are exclusive here: the candles that open before minute 90.
    until = {"end": BEGIN + 90 * MINUTE}
    assert minutes_of(read(store, Query(SPEC, "binance", **asked, **until))) == [0]
    marked = read(store, Query(SPEC, "binance", **asked, **until, unfinished="mark"))
    assert marked["is_finished"].to_pylist() == [True, False]
    plain = read(store, Query(SPEC, "binance", columns=("trade_count",), start=BEGIN + HOUR, **until))
    assert marked["trade_count"][1].as_py() == sum(plain["trade_count"].to_pylist())


@pytest.mark.parametrize(("last", "finished"), [(59, False), (60, True), (61, True)])
def test_a_bar_is_over_when_its_last_candle_is_within_the_range(store, last, finished):
    write(store, "btcusdt", range(0, 200))
    end = BEGIN + last * MINUTE
    bars = read(store, Query(SPEC, "binance", resample="1h", unfinished="mark", end=end))
    assert bars["is_finished"].to_pylist()[0] is finished
    # As query_data gives an inclusive end: the candle that opens one minute earlier is the last.
    inclusive = Query(SPEC, "binance", resample="1h", unfinished="mark", end=end - MINUTE + 1)
    assert read(store, inclusive)["is_finished"].to_pylist()[0] is finished


def test_a_quiet_end_of_a_bar_is_known_from_the_ledger(store):
    write(store, "btcusdt", range(0, 100))
    write(store, "ethusdt", range(0, 100), answered=(0, 130))
    bars = read(store, Query(SPEC, "binance", resample="1h"))
    assert bars["code"].to_pylist() == ["btcusdt", "ethusdt", "ethusdt"]


def test_bars_that_open_before_the_range_are_left_out(store):
    write(store, "btcusdt", range(0, 240))
    query = Query(SPEC, "binance", resample="1h", start=BEGIN + 30 * MINUTE, end=BEGIN + 200 * MINUTE)
    assert minutes_of(read(store, query)) == [60, 120]


def test_filled_rows_are_told_from_real_ones(store):
    rows = write(store, "btcusdt", [0, 1, 4, 5], answered=(0, 8))
    found = read(store, Query(SPEC, "binance", fill="ffill"))
    assert minutes_of(found) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found["is_filled"].to_pylist() == [False, False, True, True, False, False, True, True]
    real = found.filter(pa.array(~np.array(found["is_filled"].to_pylist())))
    for column in SPEC.columns:
        assert real[column.name].combine_chunks().equals(rows[column.name].combine_chunks())
    close = rows["close"][1].as_py()
    assert [found[n][2].as_py() for n in ("open", "high", "low", "close")] == [close] * 4
    assert (found["volume"][2].as_py(), found["change_pct"][2].as_py()) == (0.0, 0.0)
    assert (
        found["id"][2].as_py()
        == "cryptopair_binance_btcusdt_"
        + str(found["timestamp"][2]).replace(" ", "T").removesuffix(".000")
        + "Z"
    )


def test_nothing_is_filled_beyond_what_is_known(store):
    write(store, "btcusdt", [3, 5])
    for end in (None, BEGIN + 100 * MINUTE):
        assert minutes_of(read(store, Query(SPEC, "binance", fill="ffill", end=end))) == [3, 4, 5]


def test_a_range_that_begins_in_a_hole_is_filled_from_the_row_before(store):
    rows = write(store, "btcusdt", [0, 10])
    query = Query(SPEC, "binance", fill="ffill", start=BEGIN + 4 * MINUTE, end=BEGIN + 7 * MINUTE)
    found = read(store, query)
    assert minutes_of(found) == [4, 5, 6]
    assert found["close"].to_pylist() == [rows["close"][0].as_py()] * 3


def test_resampled_and_filled(store):
    write(store, "btcusdt", [*range(0, 60), *range(200, 300)])
    found = read(store, Query(SPEC, "binance", resample="1h", fill="ffill", unfinished="mark"))
    assert minutes_of(found) == [0, 60, 120, 180, 240]
    assert found["is_filled"].to_pylist() == [False, True, True, False, False]
    assert found["is_finished"].to_pylist() == [True, True, True, True, True]
    assert found.column_names[-2:] == ["is_finished", "is_filled"]


@given(
    level=st.sampled_from([None, "5m", "1h", "1d"]),
    fill=st.sampled_from(["none", "ffill"]),
    unfinished=st.sampled_from(["drop", "mark"]),
    start=st.one_of(st.none(), st.integers(-100, ROWS)),
    length=st.one_of(st.none(), st.integers(1, ROWS)),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 3_000),
    rows=st.integers(3_000, 100_000),
)
@hypothesis_settings(max_examples=40, **FAST)
def test_limits_cursors_streams_and_orders_are_parts_of_the_same_answer(
    store, table, level, fill, unfinished, start, length, order, limit, rows
):
    if level is None and fill == "none":
        fill = "ffill"
    first = None if start is None else BEGIN + start * MINUTE
    given_query = {
        "start": first,
        "end": None if length is None else (first or BEGIN) + length * MINUTE,
        "resample": level,
        "fill": fill,
        "unfinished": unfinished,
    }
    whole = read(store, Query(SPEC, "binance", **given_query))
    if order == "desc":
        whole = whole.take(pa.array(np.arange(whole.num_rows)[::-1]))
    some = read(store, Query(SPEC, "binance", **given_query, order=order, limit=limit))
    assert some.equals(whole.slice(0, limit))
    after = cursor_of(some, SPEC)
    rest = read(store, Query(SPEC, "binance", **given_query, order=order, after=after))
    assert rest.equals(whole.slice(limit))
    batches = list(stream(store, Query(SPEC, "binance", **given_query, order=order), rows=rows))
    assert pa.concat_tables([whole.slice(0, 0), *batches]).equals(whole)


def test_what_cannot_be_put_on_a_grid_is_refused():
    for wrong, words in (
        ({"resample": "10m"}, "unknown level '10m'"),
        ({"fill": "bfill"}, "unknown fill 'bfill'"),
        ({"resample": "1h", "unfinished": "keep"}, "unknown unfinished"),
        ({"resample": "1h", "ids": ("x",)}, "chosen by their ids"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            Query(SPEC, "binance", **wrong)
    with pytest.raises(InvalidArgument, match="do not add up"):
        Query(tables["cryptopair_1h_kdata"], "binance", resample="15m")
    with pytest.raises(InvalidArgument, match="no level"):
        Query(tables["cryptopair"], "binance", fill="ffill")


def test_the_ledger_and_the_fill_rule_agree_with_the_core(store):
    rows = write(store, "btcusdt", [2, 9, 11], answered=(0, 20))
    with store.connect("binance", SPEC) as connection:
        assert coverage.covered(connection, 1) == [(BEGIN, BEGIN + 20 * MINUTE)]
    flat = fill_forward(SPEC, rows, MINUTE, BEGIN, BEGIN + 20 * MINUTE, None)
    found = read(store, Query(SPEC, "binance", fill="ffill"))
    assert found["close"].combine_chunks().equals(flat["close"].combine_chunks())
    assert found["is_filled"].combine_chunks().equals(flat["is_filled"].combine_chunks())
