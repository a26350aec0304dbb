"""The replayed market: the file's rows and nothing else."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import ReplayMarket, Sandbox
from zvt_crypto.sandbox.replay import read_candles

START = parse_time("2024-01-01")
ENDLESS = 2**53
#: 30 minutes of which two are missing.
TS = np.array([START + n * MINUTE_MS for n in range(30) if n not in (7, 8)])
PRICE = 0.1 + np.arange(len(TS)) * 0.1


def table(times: pa.Array, **more: np.ndarray) -> pa.Table:
    columns = {"Open": PRICE, "High": PRICE + 1e-7, "Low": PRICE - 1e-7, "Close": PRICE, "Volume": PRICE * 3}
    return pa.table({"date": times, **columns, **more})


@pytest.fixture
def market(tmp_path: Path) -> ReplayMarket:
    pyarrow.parquet.write_table(table(pa.array(TS)), tmp_path / "rows.parquet")
    return ReplayMarket({"BTC/USDT": tmp_path / "rows.parquet"})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["integer", "datetime"])
def test_times_of_every_magnitude(tmp_path: Path, unit: str, kind: str) -> None:
    moments = pa.array(TS, pa.timestamp("ms", "UTC")).cast(pa.timestamp(unit, "UTC"))
    written = table(moments.cast(pa.int64()) if kind == "integer" else moments)
    pyarrow.feather.write_feather(written, str(tmp_path / "rows.feather"))
    assert np.array_equal(read_candles(tmp_path / "rows.feather").ts, TS)


@pytest.mark.parametrize("form", ["2024-01-01T00:{:02d}:00Z", "2024-01-01 00:{:02d}:00.000000"])
def test_times_as_text_in_a_csv(tmp_path: Path, form: str) -> None:
    with gzip.open(tmp_path / "rows.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "open", "high", "low", "close", "volume"])
        writer.writerows([form.format(n), 1.5, 2, 1, 1.7, 3] for n in (2, 0, 1))
    rows = read_candles(tmp_path / "rows.csv.gz")
    assert rows.ts.tolist() == [START + n * MINUTE_MS for n in range(3)]


def test_missing_rows_stay_missing(market: ReplayMarket) -> None:
    assert np.array_equal(market.candles("BTC/USDT", "1m", 0, ENDLESS).ts, TS)


def test_coarser_levels_are_made_of_what_is_there(market: ReplayMarket) -> None:
    five = market.candles("BTC/USDT", "5m", 0, ENDLESS)
    assert len(five) == 6
    minutes = market.candles("BTC/USDT", "1m", int(five.ts[1]), int(five.ts[2]))
    assert len(minutes) == 3
    assert five.volume[1] == pytest.approx(minutes.volume.sum())
    assert len(market.candles("BTC/USDT", "1h", 0, ENDLESS)) == 1


def test_a_finer_level_has_nothing(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(pa.array(TS * 5)), tmp_path / "rows.parquet")
    market = ReplayMarket({"BTC/USDT": tmp_path / "rows.parquet"})
    assert len(market.candles("BTC/USDT", "5m", 0, ENDLESS)) == len(TS)
    assert not len(market.candles("BTC/USDT", "1m", 0, ENDLESS))


def test_what_the_file_does_not_tell_is_zero(market: ReplayMarket, tmp_path: Path) -> None:
    assert not market.candles("BTC/USDT", "1m", 0, ENDLESS).turnover.any()
    told = table(pa.array(TS), quote_volume=PRICE * 7, number_of_trades=np.arange(len(TS)))
    pyarrow.parquet.write_table(told, tmp_path / "more.parquet")
    rows = read_candles(tmp_path / "more.parquet")
    assert np.array_equal(rows.turnover, PRICE * 7)
    assert np.array_equal(rows.trade_count, np.arange(len(TS)))


def test_only_finished_rows_are_shown(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(pa.array(TS)), tmp_path / "rows.parquet")
    market = ReplayMarket({"BTC/USDT": tmp_path / "rows.parquet"}, now=START + 12 * MINUTE_MS + 1)
    now = market.now()
    assert market.candles("BTC/USDT", "1m", 0, ENDLESS, now).ts[-1] == START + 11 * MINUTE_MS
    five = market.candles("BTC/USDT", "5m", 0, ENDLESS, now)
    assert five.ts.tolist() == [START, START + 5 * MINUTE_MS, START + 10 * MINUTE_MS]
    assert five.close[-1] == PRICE[9], "the twelfth minute; two of the twelve are missing"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.txt", b"", "unknown kind of file"),
        ("none.csv", None, "cannot be read"),
        ("bad.parquet", b"no parquet", "cannot be read"),
        ("short.csv", b"timestamp,open,high,low,close\n1,1,1,1,1\n", "no column for volume"),
        ("empty.csv", b"timestamp,open,high,low,close,volume\n", "holds no candles"),
        ("words.csv", b"timestamp,open,high,low,close,volume\n1,a,1,1,1,1\n", "no number"),
        ("odd.csv", b"t,o,h,l,c,v\n0,1,1,1,1,1\n", "no column for ts"),
        ("far.csv", b"time,o,h,l,c,v\n0,1,1,1,1,1\n17,1,1,1,1,1\n", "17000 ms apart"),
    ],
)
def test_a_file_that_cannot_be_replayed(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArgument, match=says):
        ReplayMarket({"BTC/USDT": tmp_path / name})


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "symbol", "path", "step"),
    [
        ("btc-perp-1m-2022-01.csv.gz", "BTC/USDT:USDT", "fapi.binance.com/fapi/v1/", "1m"),
        ("ETH_BTC-5m.feather", "ETH/BTC", "api.binance.com/api/v3/", "5m"),
        ("XRP_USDT_USDT-5m-futures.feather", "XRP/USDT:USDT", "fapi.binance.com/fapi/v1/", "5m"),
    ],
)
def test_real_files_come_back_equal(real: Path, fetch, file: str, symbol: str, path: str, step: str) -> None:
    rows = read_candles(real / "candles" / file)
    served: list[list] = []
    with Sandbox(ReplayMarket({symbol: real / "candles" / file})) as box:
        name = symbol.split(":")[0].replace("/", "")
        url = f"{box.url}/{path}klines?symbol={name}&interval={step}&limit=1000"
        cursor = 0
        while page := fetch(f"{url}&startTime={cursor}").json:
            served += page
            cursor = page[-1][0] + 1
    assert [row[0] for row in served] == rows.ts.tolist()
    for column, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        assert [float(row[column]) for row in served] == getattr(rows, name).tolist()
    assert not any("e" in row[5] for row in served)


@pytest.mark.real_data
def test_real_file_in_days(real: Path) -> None:
    market = ReplayMarket({"BTC/USDT:USDT": real / "candles" / "btc-perp-1m-2022-01.csv.gz"})
    days = market.candles("BTC/USDT:USDT", "1d", 0, ENDLESS)
    assert days.ts[0] == parse_time("2021-12-31")
    minutes = market.candles("BTC/USDT:USDT", "1m", int(days.ts[1]), int(days.ts[2]))
    assert (days.open[1], days.close[1]) == (minutes.open[0], minutes.close[-1])
    assert days.ts[1] - days.ts[0] == DAY_MS > HOUR_MS
