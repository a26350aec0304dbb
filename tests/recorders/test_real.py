"""Recorded candles of real exchanges, served over both venues' wire formats and recorded through ccxt."""

import numpy as np
import pandas as pd
import pytest
from conftest_recorders import Recorder

from zvt_crypto.core.levels import level_ms
from zvt_crypto.core.tables import tables
from zvt_crypto.quality.gaps import find_gaps
from zvt_crypto.sandbox import ReplayMarket, Sandbox
from zvt_crypto.store import coverage

pytestmark = pytest.mark.real_data

SERIES = {
    "btc-perp-1m-2022-01.csv.gz": ("BTC/USDT:USDT", "CryptoPerp1mKdata", "cryptoperp", "btcusdt"),
    "ETH_BTC-5m.feather": ("ETH/BTC", "CryptoPair5mKdata", "cryptopair", "ethbtc"),
}


def load(path):
    """The file's own values, read without our code."""
    frame = (
        pd.read_feather(path)
        if path.suffix == ".feather"
        else pd.read_csv(path, float_precision="round_trip")
    )
    frame.columns = [name.lower() for name in frame.columns]
    time = next(name for name in ("timestamp", "date", "time") if name in frame)
    frame["ms"] = pd.to_datetime(frame[time], utc=True).astype("datetime64[ms, UTC]").astype("int64")
    return frame.drop_duplicates("ms", keep="last").sort_values("ms")


@pytest.mark.parametrize("provider", ["binance", "okx"])
@pytest.mark.parametrize("name", SERIES)
def test_every_value_equals_the_files_and_every_missing_minute_is_a_gap(
    real_candles, tmp_path, name, provider
):
    symbol, table, kind, code = SERIES[name]
    path = real_candles / name
    frame = load(path)
    spec = tables.find(table)
    step = level_ms(spec.level)
    first, last = int(frame["ms"].iloc[0]), int(frame["ms"].iloc[-1])
    with Sandbox(ReplayMarket({symbol: path}, now=last + 5 * step)) as box:
        recorder = Recorder(box.url, tmp_path)
        report = recorder.record(table, provider=provider, codes=(symbol,), start=first, end=last + step)
        assert report.exit_code == 0, [o.errors for o in report.failed]
        found = recorder.rows(table, f"{kind}_{provider}_{code}", provider)
        assert (
            recorder.record(table, provider=provider, codes=(symbol,), start=first, end=last + step).requests
            == 0
        )
    assert found["ts"].to_pylist() == frame["ms"].tolist()
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(found[column].to_numpy(), frame[column].to_numpy(), err_msg=column)
    missing = sorted(set(range(first, last + step, step)) - set(frame["ms"].tolist()))
    with recorder.store.connect(provider, spec) as connection:
        covered = coverage.covered(connection, 1)
    gaps = find_gaps(found["ts"].to_numpy(), step, covered, first, last + step)
    reported = [t for gap in gaps.to_list() for t in range(gap["start"], gap["end"], step)]
    assert reported == missing
    assert gaps.count("absent") == len(gaps), "the exchange was asked for all of it"


def test_two_thousand_real_trades_come_back_equal(real_candles, tmp_path):
    path = real_candles / "binance-btcusdt-trades-2021-01-08.parquet"
    frame = pd.read_parquet(path)
    ms = frame["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
    first, last = int(ms.min()), int(ms.max())
    with Sandbox(ReplayMarket({}, trades={"BTC/USDT": path}, now=last + 60_000)) as box:
        recorder = Recorder(box.url, tmp_path)
        report = recorder.record("CryptoTrade", start=first, end=last + 1)
        assert report.exit_code == 0, [o.errors for o in report.failed]
        found = recorder.rows("CryptoTrade", "cryptopair_binance_btcusdt")
    assert found.num_rows == len(frame) == 2_001
    assert found["trade_id"].to_pylist() == frame["trade_id"].astype(str).tolist()
    assert found["ts"].to_pylist() == ms.tolist()
    assert found["price"].to_pylist() == frame["price"].tolist()
    # The file has amounts such as 0.00031099999999999997, which the exchange sent as 0.000311.
    assert found["volume"].to_pylist() == pytest.approx(frame["quantity"].tolist(), rel=1e-12)
    sides = ["sell" if maker == "True" else "buy" for maker in frame["buyer_maker"]]
    assert found["side"].to_pylist() == sides
    assert found["ts"].to_pylist() != sorted(set(found["ts"].to_pylist())), "some have one timestamp"


@pytest.mark.parametrize("provider", ["binance", "bybit", "okx"])
def test_ninety_one_real_funding_events_come_back_equal(real_candles, tmp_path, provider):
    path = real_candles / "XRP_USDT_USDT-8h-funding_rate.feather"
    frame = pd.read_feather(path)
    ms = frame["date"].astype("datetime64[ms, UTC]").astype("int64")
    first, last = int(ms.min()), int(ms.max())
    with Sandbox(ReplayMarket({}, funding={"XRP/USDT:USDT": path}, now=last + 3_600_000)) as box:
        recorder = Recorder(box.url, tmp_path)
        report = recorder.record(
            "CryptoFunding", provider=provider, codes=("xrpusdt",), start=first, end=last + 1
        )
        assert report.exit_code == 0, [o.errors for o in report.failed]
        found = recorder.rows("CryptoFunding", f"cryptoperp_{provider}_xrpusdt", provider)
    assert found["ts"].to_pylist() == ms.tolist() and any(ts % 1000 for ts in ms.tolist())
    assert found["funding_rate"].to_pylist() == frame["open"].tolist() and found.num_rows == 91
    assert found["funding_interval_hours"].to_pylist() == [None] + [8.0] * 90
