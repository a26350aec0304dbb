from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.bars import fill_forward, resample
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, LEVEL_MS, MINUTE_MS
from zvt_crypto.core.tables import Column, TableSpec, tables
from zvt_crypto.domain import entities, kdata  # noqa: F401

SPEC = tables["cryptopair_1m_kdata"]
MONDAY = 1_717_372_800_000  # 2024-06-03, a multiple of every level
FOREVER = 4_000_000_000_000
NO_DEADLINE = hypothesis_settings(deadline=None)

PRICES = ("open", "high", "low", "close")
SUMS = ("volume", "turnover", "trade_count")


def candles(rows):
    """Rows of (minute, open, high, low, close, volume, turnover, trade_count) as a table."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 8
    columns[0] = [MONDAY + minute * MINUTE_MS for minute in columns[0]]
    return pa.table(dict(zip(SPEC.schema.names, columns, strict=True)), schema=SPEC.schema)


def flat(minute, price=1.0, volume=1.0, turnover=1.0, trade_count=1):
    return (minute, price, price, price, price, volume, turnover, trade_count)


def bits(table):
    """Rows as tuples in which floats compare by their bits."""
    return [tuple(v.hex() if isinstance(v, float) else v for v in row.values()) for row in table.to_pylist()]


def volumes_of_day(values):
    """What a day's candles of these volumes add up to."""
    rows = candles([flat(minute, volume=value) for minute, value in enumerate(values)])
    return resample(SPEC, rows, DAY_MS, FOREVER)["volume"].to_pylist()


@st.composite
def amounts(draw):
    """Decimals of one to eight places, as doubles."""
    places = draw(st.integers(1, 8))
    return draw(st.lists(st.integers(0, 10 ** draw(st.integers(2, 12))), min_size=1, max_size=12)), places


@st.composite
def series(draw, any_double=False):
    """A sparse series of candles; every column has its own number of decimals."""
    minutes = sorted(draw(st.sets(st.integers(0, 100), max_size=40)))
    n = len(minutes)

    def doubles(smallest):
        places = draw(st.integers(1, 8))
        decimals = st.integers(smallest, 10**10).map(lambda k: k / 10**places)
        value = st.one_of(decimals, st.floats(1e-12, 1e15)) if any_double else decimals
        return draw(st.lists(value, min_size=n, max_size=n))

    opened, closed, volume, turnover = doubles(1), doubles(1), doubles(0), doubles(0)
    high = [max(pair) for pair in zip(opened, closed, strict=True)]
    low = [min(pair) for pair in zip(opened, closed, strict=True)]
    holes = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    turnover = [None if hole == 0 else t for t, hole in zip(turnover, holes, strict=True)]
    counts = draw(st.lists(st.one_of(st.none(), st.integers(0, 2**40)), min_size=n, max_size=n))
    return candles(list(zip(minutes, opened, high, low, closed, volume, turnover, counts, strict=True)))


def sum_oracle(values):
    """The sum of the decimals at the first power of ten that makes integers of them, or of the doubles."""
    if any(value is None for value in values):
        return None
    if isinstance(values[0], int):
        return sum(values)
    for digits in range(16):
        integers = [round(value * 10.0**digits) for value in values]
        if max(integers) >= 2**53 or sum(integers) >= 2**62:
            break
        if all(k / 10.0**digits == value for k, value in zip(integers, values, strict=True)):
            return float(Fraction(sum(integers), 10**digits))
    return float(sum(map(Fraction, values)))


def resample_oracle(rows, step, known_end):
    bars = {}
    for row in rows.to_pylist():
        if row["ts"] < known_end:
            bars.setdefault(row["ts"] // step * step, []).append(row)
    return [
        {
            "ts": ts,
            "open": bar[0]["open"],
            "high": max(row["high"] for row in bar),
            "low": min(row["low"] for row in bar),
            "close": bar[-1]["close"],
            **{name: sum_oracle([row[name] for row in bar]) for name in SUMS},
            "is_finished": ts + step <= known_end,
        }
        for ts, bar in bars.items()
    ]


def fill_oracle(rows, step, start, end, before):
    real = {row["ts"]: row for row in rows.to_pylist()}
    last = before.to_pylist()[-1] if before is not None and before.num_rows else None
    filled = []
    for ts in sorted({*real, *range(-(-start // step) * step, end, step)}):
        if ts in real:
            last = real[ts]
            filled.append({**last, "is_filled": False})
        elif last is not None:
            row = {"ts": ts, **dict.fromkeys(PRICES, last["close"])}
            row |= {name: None if last[name] is None else 0 for name in SUMS}
            filled.append({**row, "is_filled": True})
    return filled


# -- resample --------------------------------------------------------------------------------------------


def test_a_bar_by_hand():
    rows = candles(
        [
            (0, 10.0, 12.0, 9.0, 11.0, 0.1, 1.1, 3),
            (1, 11.0, 15.0, 11.0, 14.0, 0.2, 2.2, 4),
            (4, 14.0, 14.0, 8.0, 8.5, 0.0, 0.0, 0),
            (7, 8.5, 9.0, 8.0, 9.0, 5.0, 45.0, 1),
        ]
    )
    made = resample(SPEC, rows, 5 * MINUTE_MS, MONDAY + 8 * MINUTE_MS)
    assert made.column_names == [*rows.column_names, "is_finished"]
    assert made.schema.types == [*rows.schema.types, pa.bool_()]
    assert [list(row.values()) for row in made.to_pylist()] == [
        [MONDAY, 10.0, 15.0, 8.0, 8.5, 0.3, 3.3, 7, True],
        [MONDAY + 5 * MINUTE_MS, 8.5, 9.0, 8.0, 9.0, 5.0, 45.0, 1, False],
    ]


@given(series(), st.sampled_from([2, 5, 15, 60, 1440]), st.integers(0, 110))
@NO_DEADLINE
def test_bars_are_those_of_the_oracle(rows, minutes, known):
    step, known_end = minutes * MINUTE_MS, MONDAY + known * MINUTE_MS
    assert resample(SPEC, rows, step, known_end).to_pylist() == resample_oracle(rows, step, known_end)


def test_a_sum_that_no_double_counts_is_still_that_of_the_decimals():
    """A day of turnover with eight decimals: its units are more than 2**53."""
    values = [27_000_000.12345678] * 7 + [1_999_999.87654321] * 1433
    assert volumes_of_day(values) == [float(sum(map(Fraction, map(str, values))))]


@given(series(any_double=True))
@NO_DEADLINE
def test_bars_of_any_doubles_are_those_of_the_oracle(rows):
    made = resample(SPEC, rows, 15 * MINUTE_MS, FOREVER).to_pylist()
    assert made == resample_oracle(rows, 15 * MINUTE_MS, FOREVER)


@given(amounts())
@example(([1, 2], 1))
@NO_DEADLINE
def test_a_sum_is_that_of_the_decimals(drawn):
    integers, places = drawn
    values = [k / 10**places for k in integers]
    assert volumes_of_day(values) == [sum(integers) / 10**places]


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=30))
@example([1e16, 1.0, 1.0])
@example([2.0**53, 1.0, 1e-30])
@example([1 / 3] * 10)
@NO_DEADLINE
def test_a_sum_without_decimals_is_correctly_rounded(values):
    assert volumes_of_day(values) == [sum_oracle(values)]


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.1] * 10, 1.0),
        ([8194.8, 484.2, 295.0], 8974.0),
        ([69464605729.9813, 8.2, 9.4], 69464605747.5813),
        # Sixteen digits, of which each value can have more than one reading at a larger power of ten.
        ([2627901028.969541, 0.3], 2627901029.269541),
        ([4552646534.265925, 0.6], 4552646534.865925),
    ],
)
def test_a_sum_has_no_digits_of_its_own(values, total):
    assert volumes_of_day(values) == [total]


@pytest.mark.parametrize(
    "values",
    [
        [1762841311597.728, 1303426759738.474, 2064074224988.465, 1807444304529.097, 1735474465583.526],
        [2.0**53, 1.0, 1.0],
        [1938999217910618.0, 1400674046201456.0, 2098370190509714.0]
        + [2246166299379191.0, 1297509888851865.0, 2066783286657473.0],
        # So far apart that the last one decides a tie.
        [4.0, 4.0, 1e17, 1e-20],
        [128.0, 1e-20, 1.152921504606847e18, 1e17],
        [5e-324, 1e-310],
    ],
)
def test_sums_too_long_for_decimals_are_those_of_the_doubles(values):
    assert volumes_of_day(values) == [float(sum(map(Fraction, values)))]


def test_a_sum_depends_on_no_other_bar():
    rows = candles([flat(0, volume=0.1), flat(1, volume=0.2), flat(5, volume=1 / 3), flat(6, volume=1e17)])
    made = resample(SPEC, rows, 5 * MINUTE_MS, FOREVER)
    assert made["volume"].to_pylist() == [0.3, 1 / 3 + 1e17]


def test_integers_are_summed_as_integers():
    rows = candles([flat(0, trade_count=2**60), flat(1, trade_count=1)])
    assert resample(SPEC, rows, 5 * MINUTE_MS, FOREVER)["trade_count"].to_pylist() == [2**60 + 1]


def test_what_is_partly_unknown_is_unknown():
    rows = candles(
        [
            (0, 1.0, 2.0, None, 1.0, 1.0, 5.0, None),
            (1, 1.0, 3.0, 0.5, 1.0, 1.0, None, 2),
            (5, 1.0, 2.0, 0.5, 1.0, 1.0, None, None),
            (10, None, 2.0, 0.5, 1.0, 1.0, 0.0, 0),
        ]
    )
    made = resample(SPEC, rows, 5 * MINUTE_MS, FOREVER)
    assert made["turnover"].to_pylist() == [None, None, 0.0]
    assert made["trade_count"].to_pylist() == [None, None, 0]
    assert made["low"].to_pylist() == [None, 0.5, 0.5]
    assert made["high"].to_pylist() == [3.0, 2.0, 2.0]
    assert made["open"].to_pylist() == [1.0, 1.0, None]


@given(series())
@NO_DEADLINE
def test_two_steps_make_the_same_bars_as_one(rows):
    at_once = resample(SPEC, rows, 15 * MINUTE_MS, FOREVER)
    five = resample(SPEC, rows, 5 * MINUTE_MS, FOREVER).drop_columns("is_finished")
    assert bits(resample(tables["cryptopair_5m_kdata"], five, 15 * MINUTE_MS, FOREVER)) == bits(at_once)


@given(series(any_double=True), st.integers(0, 101))
@NO_DEADLINE
def test_rows_of_the_future_change_no_bar(rows, known):
    known_end = MONDAY + known * MINUTE_MS
    past = rows.filter(pa.array(rows["ts"].to_numpy() < known_end))
    assert bits(resample(SPEC, rows, HOUR_MS, known_end)) == bits(resample(SPEC, past, HOUR_MS, known_end))


@given(series(any_double=True), st.integers(0, 101))
@NO_DEADLINE
def test_a_finished_bar_is_the_same_ever_after(rows, known):
    def finished(known_end):
        made = resample(SPEC, rows, 15 * MINUTE_MS, known_end)
        return set(bits(made.filter(made["is_finished"])))

    assert finished(MONDAY + known * MINUTE_MS) <= finished(FOREVER)


def test_a_bar_is_finished_once_its_end_is_known():
    rows = candles([flat(13)])
    ended = MONDAY + 15 * MINUTE_MS
    for known_end, is_finished in ((ended - 1, False), (ended, True), (ended + 1, True)):
        assert resample(SPEC, rows, 15 * MINUTE_MS, known_end)["is_finished"].to_pylist() == [is_finished]


@pytest.mark.parametrize("level", ["4h", "1d"])
def test_the_grid_starts_at_the_epoch(level):
    step = LEVEL_MS[level]
    rows = candles([flat(-1), flat(0), flat(step // MINUTE_MS - 1), flat(step // MINUTE_MS)])
    made = resample(SPEC, rows, step, FOREVER)
    assert made["ts"].to_pylist() == [MONDAY - step, MONDAY, MONDAY + step]
    assert made["trade_count"].to_pylist() == [1, 2, 1]


@given(series())
@NO_DEADLINE
def test_prices_are_those_of_pandas(rows):
    frame = rows.to_pandas()
    frame.index = frame.pop("ts").astype("datetime64[ms]")
    rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
    expected = frame.resample("15min").agg(rules).dropna()
    made = resample(SPEC, rows, 15 * MINUTE_MS, FOREVER).to_pandas()
    assert made["ts"].tolist() == expected.index.astype("datetime64[ms]").astype("int64").tolist()
    for name in rules:
        assert made[name].tolist() == expected[name].tolist()


@given(series(any_double=True), st.integers(0, 101))
@NO_DEADLINE
def test_the_own_level_leaves_rows_as_they_are(rows, known):
    known_end = MONDAY + known * MINUTE_MS
    made = resample(SPEC, rows, MINUTE_MS, known_end)
    assert bits(made.drop_columns("is_finished")) == bits(rows.slice(0, made.num_rows))
    assert made.num_rows == (rows["ts"].to_numpy() < known_end).sum()
    assert made["is_finished"].to_pylist() == [True] * made.num_rows


@pytest.mark.parametrize("names", [["close"], ["volume", "open"], []])
def test_columns_can_be_few(names):
    rows = candles([flat(0), flat(1), flat(5)]).select(["ts", *names])
    made = resample(SPEC, rows, 5 * MINUTE_MS, FOREVER)
    assert made.column_names == ["ts", *names, "is_finished"] and made.num_rows == 2


def test_rows_may_come_in_pieces():
    rows = candles([flat(minute, price=minute + 1.0) for minute in range(20)])
    pieces = pa.concat_tables([rows.slice(i, 3) for i in range(0, 20, 3)])
    for step in (5 * MINUTE_MS, HOUR_MS):
        assert resample(SPEC, pieces, step, FOREVER).equals(resample(SPEC, rows, step, FOREVER))


@pytest.mark.parametrize("step", [MINUTE_MS, HOUR_MS])
def test_no_rows_make_no_bars(step):
    made = resample(SPEC, candles([]), step, FOREVER)
    assert made.num_rows == 0 and made.schema == SPEC.schema.append(pa.field("is_finished", pa.bool_()))


@pytest.mark.parametrize("step", [0, -HOUR_MS, MINUTE_MS, 3 * HOUR_MS - MINUTE_MS, HOUR_MS // 2])
def test_a_step_that_candles_do_not_add_up_to_is_refused_with_the_allowed_levels(step):
    with pytest.raises(InvalidArgument, match="1h candles") as caught:
        resample(tables["cryptopair_1h_kdata"], candles([]), step, FOREVER)
    assert caught.value.one_line().endswith("allowed: 4h, 1d")


def test_what_can_make_no_bars_is_refused():
    with pytest.raises(InvalidArgument, match="to candles of 1h") as caught:
        resample(tables["cryptopair_1d_kdata"], candles([]), HOUR_MS, FOREVER)
    assert "1d is the coarsest level" in caught.value.one_line()
    with pytest.raises(InvalidArgument, match="no level"):
        resample(tables["cryptopair"], candles([]), HOUR_MS, FOREVER)


def test_a_column_that_does_not_follow_from_finer_rows_is_refused():
    spec = TableSpec(
        name="marks_1m",
        class_name="Marks1m",
        entity_type="cryptoperp",
        feed="candles",
        layout="series",
        columns=(Column("close", "float", "", bar="last"), Column("rank", "int", "")),
        doc="",
        level="1m",
    )
    rows = pa.table({"ts": [MONDAY], "close": [1.0], "rank": [7]})
    with pytest.raises(InvalidArgument, match="rank"):
        resample(spec, rows, HOUR_MS, FOREVER)
    assert resample(spec, rows, MINUTE_MS, FOREVER)["rank"].to_pylist() == [7]
    filled = fill_forward(spec, rows, MINUTE_MS, MONDAY, MONDAY + 2 * MINUTE_MS, None)
    assert filled["close"].to_pylist() == [1.0, 1.0] and filled["rank"].to_pylist() == [7, None]


def test_every_candle_column_follows_from_finer_ones():
    assert {column.name: column.bar for column in kdata.COLUMNS} == {
        **dict(zip(PRICES, ("first", "max", "min", "last"), strict=True)),
        **dict.fromkeys(SUMS, "sum"),
    }


# -- fill_forward ----------------------------------------------------------------------------------------


def filled_minutes(rows, start, end, before=None):
    return fill_forward(SPEC, rows, MINUTE_MS, MONDAY + start * MINUTE_MS, MONDAY + end * MINUTE_MS, before)


def test_filling_by_hand():
    rows = candles([(1, 10.0, 12.0, 9.0, 11.0, 0.1, 1.1, None), (4, 7.0, 8.0, 6.0, 7.5, 2.0, None, 4)])
    made = filled_minutes(rows, 0, 6)
    assert made.column_names == [*rows.column_names, "is_filled"]
    assert made.schema.types == [*rows.schema.types, pa.bool_()]
    assert [((ts - MONDAY) // MINUTE_MS, *rest) for ts, *rest in map(dict.values, made.to_pylist())] == [
        (1, 10.0, 12.0, 9.0, 11.0, 0.1, 1.1, None, False),
        (2, 11.0, 11.0, 11.0, 11.0, 0.0, 0.0, None, True),
        (3, 11.0, 11.0, 11.0, 11.0, 0.0, 0.0, None, True),
        (4, 7.0, 8.0, 6.0, 7.5, 2.0, None, 4, False),
        (5, 7.5, 7.5, 7.5, 7.5, 0.0, None, 0, True),
    ]


@st.composite
def stretches(draw):
    """Rows in [start, end), and the row before them if there is one."""
    rows = draw(series(any_double=True))
    start, end = (MONDAY + draw(st.integers(0, 110 * 60)) * 1000 for _ in range(2))
    ts = rows["ts"].to_numpy()
    earlier = rows.filter(pa.array(ts < start))
    seed = draw(st.sampled_from([None, earlier.slice(max(0, len(earlier) - 1))]))
    return rows.filter(pa.array((ts >= start) & (ts < end))), start, end, seed


@given(stretches(), st.sampled_from([MINUTE_MS, 5 * MINUTE_MS]))
@NO_DEADLINE
def test_filled_rows_are_those_of_the_oracle(stretch, step):
    # At five minutes most real rows are off the grid, and must be there all the same.
    rows, start, end, before = stretch
    made = fill_forward(SPEC, rows, step, start, end, before)
    assert made.to_pylist() == fill_oracle(rows, step, start, end, before)
    real = made.filter(pa.array(~made["is_filled"].to_numpy()))
    assert bits(real.drop_columns("is_filled")) == bits(rows)


@pytest.mark.parametrize("value", [float("nan"), -0.0, 5e-324])
def test_a_real_row_stays_to_the_bit(value):
    made = filled_minutes(candles([flat(0, volume=value), flat(2)]), 0, 3)
    assert made["volume"].to_numpy()[:1].tobytes() == np.array([value]).tobytes()


def test_the_row_before_fills_from_the_start():
    made = filled_minutes(candles([flat(2, price=5.0)]), 0, 3, candles([flat(-7, price=4.0)]))
    assert made["close"].to_pylist() == [4.0, 4.0, 5.0]
    assert made["ts"].to_pylist() == [MONDAY, MONDAY + MINUTE_MS, MONDAY + 2 * MINUTE_MS]
    assert made["is_filled"].to_pylist() == [True, True, False]
    only_seed = filled_minutes(candles([]), 0, 2, candles([flat(-7, price=4.0)]))
    assert only_seed["open"].to_pylist() == [4.0, 4.0] and only_seed["volume"].to_pylist() == [0.0, 0.0]


@pytest.mark.parametrize("before", [None, candles([])], ids=["none", "empty"])
def test_nothing_to_go_on_from_fills_nothing(before):
    made = filled_minutes(candles([]), 0, 5, before)
    assert made.num_rows == 0 and made.schema == SPEC.schema.append(pa.field("is_filled", pa.bool_()))
    assert filled_minutes(candles([flat(4)]), 0, 5, before)["is_filled"].to_pylist() == [False]


def test_a_real_row_after_the_end_is_kept_and_nothing_is_filled_there():
    made = filled_minutes(candles([flat(0), flat(5), flat(9)]), 0, 2)
    assert [(ts - MONDAY) // MINUTE_MS for ts in made["ts"].to_pylist()] == [0, 1, 5, 9]


def test_an_endless_stretch_before_the_first_row_costs_nothing():
    rows = candles([flat(0)])
    assert fill_forward(SPEC, rows, 1, 0, MONDAY + 1, None).num_rows == 1


def test_filling_needs_the_close():
    rows = candles([flat(0), flat(2)])
    with pytest.raises(InvalidArgument, match="closing price"):
        filled_minutes(rows.drop_columns("close"), 0, 3)
    assert filled_minutes(rows.select(["ts", "close"]), 0, 3)["close"].to_pylist() == [1.0] * 3


def test_bars_are_filled_as_finished():
    rows = candles([flat(0, price=2.0), flat(31, price=3.0)])
    known_end = MONDAY + 32 * MINUTE_MS
    bars = resample(SPEC, rows, 15 * MINUTE_MS, known_end)
    before = resample(SPEC, candles([flat(-20, price=9.0)]), 15 * MINUTE_MS, known_end)
    for seed in (before, before.drop_columns("is_finished")):
        made = fill_forward(SPEC, bars, 15 * MINUTE_MS, MONDAY - 15 * MINUTE_MS, known_end, seed)
        assert made["close"].to_pylist() == [9.0, 2.0, 2.0, 3.0]
        assert made["is_finished"].to_pylist() == [True, True, True, False]
        assert made["is_filled"].to_pylist() == [True, False, True, False]


@given(series())
@NO_DEADLINE
def test_bars_of_filled_rows_are_filled_bars(rows):
    end = MONDAY + 120 * MINUTE_MS
    minutes = filled_minutes(rows, 0, 120).drop_columns("is_filled")
    of_filled = resample(SPEC, minutes, 15 * MINUTE_MS, end).drop_columns("is_finished")
    bars = resample(SPEC, rows, 15 * MINUTE_MS, end).drop_columns("is_finished")
    filled = fill_forward(SPEC, bars, 15 * MINUTE_MS, MONDAY, end, None)
    # A venue's gaps in turnover and trade_count spread with the row they are in; the rest is the same.
    same = ["ts", "close", "volume"]
    assert bits(of_filled.select(same)) == bits(filled.select(same))
    # A bar that opens late begins, once filled, at the close before it, which may lie outside its own range.
    quiet = filled["is_filled"].to_numpy()
    for name, is_within in (("high", np.less_equal), ("low", np.greater_equal)):
        bar, wider = filled[name].to_numpy(), of_filled[name].to_numpy()
        assert is_within(bar, wider).all() and (bar == wider)[quiet].all()
