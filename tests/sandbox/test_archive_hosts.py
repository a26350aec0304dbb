"""The sandbox's public archives: layouts of the venues, checksums, what is not there."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.market import Instrument

NOW = parse_time("2025-02-05T12:00:00Z")
SPOT, FUTURES = "data.binance.vision/data/spot", "data.binance.vision/data/futures/um"
SMALL = {"price_digits": 2, "quantity_digits": 0, "listed": parse_time("2024-11-20"), "daily_turnover": 1.0}


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    instruments = (
        Instrument("TRX", "USDT", **SMALL),
        Instrument("TRX", "USDT", "USDT", **SMALL),
        Instrument("TRX", "USD", "TRX", **SMALL),
        Instrument("EOS", "USDT", **SMALL, delisted=parse_time("2024-12-10")),
    )
    return SimulatedMarket(seed=2, now=NOW, instruments=instruments)


@pytest.fixture(scope="module")
def box(market):
    with Sandbox(market) as running:
        yield running


@pytest.fixture
def lines(box, fetch):
    """The lines of a file; its checksum and the name inside are looked at on the way."""

    def read(path):
        reply = fetch(f"{box.url}/{path}")
        assert reply.status == 200
        name = path.rpartition("/")[2]
        if name.endswith(".gz"):
            text = gzip.decompress(reply.body)
        else:
            checksum = fetch(f"{box.url}/{path}.CHECKSUM").body.decode()
            assert checksum == f"{hashlib.sha256(reply.body).hexdigest()}  {name}\n"
            with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
                assert archive.namelist() == [name.replace(".zip", ".csv")]
                text = archive.read(archive.namelist()[0])
        return text.decode().splitlines()

    return read


def test_klines_of_spot_in_milliseconds_then_in_microseconds(lines, market):
    for month, unit in (("2024-12", 1), ("2025-01", 1000)):
        rows = [row.split(",") for row in lines(f"{SPOT}/monthly/klines/TRXUSDT/1h/TRXUSDT-1h-{month}.zip")]
        assert len(rows) == 31 * 24 and {len(row) for row in rows} == {12}
        start = parse_time(f"{month}-01")
        wanted = market.candles("TRX/USDT", "1h", start, start + 31 * DAY_MS)
        assert [int(row[0]) for row in rows] == (wanted.ts * unit).tolist()
        assert [int(row[6]) + 1 for row in rows] == ((wanted.ts + 3_600_000) * unit).tolist()
        for position, name in (
            (1, "open"),
            (2, "high"),
            (3, "low"),
            (4, "close"),
            (5, "volume"),
            (7, "turnover"),
        ):
            assert [float(row[position]) for row in rows] == getattr(wanted, name).tolist()
        assert [int(row[8]) for row in rows] == wanted.trade_count.tolist()
        assert rows[0][1].partition(".")[2].isdigit() and len(rows[0][1].partition(".")[2]) == 8


def test_klines_of_futures_have_a_header_and_milliseconds(lines):
    header, *rows = lines(f"{FUTURES}/daily/klines/TRXUSDT/1m/TRXUSDT-1m-2025-02-03.zip")
    assert header == (
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore"
    )
    assert len(rows) == 1440 and rows[0].startswith(f"{parse_time('2025-02-03')},")


def test_aggregate_trades(lines, market):
    day = parse_time("2025-02-01")
    span = (day, day + DAY_MS)
    rows = [
        row.split(",") for row in lines(f"{SPOT}/daily/aggTrades/TRXUSDT/TRXUSDT-aggTrades-2025-02-01.zip")
    ]
    wanted = market.trades(TradeSpan("TRX/USDT", *span))
    assert [int(row[0]) for row in rows] == wanted.id.tolist()
    assert [int(row[5]) for row in rows] == (wanted.ts * 1000 + wanted.nanosecond // 1000).tolist()
    assert [row[6] for row in rows] == ["False" if is_buy else "True" for is_buy in wanted.is_buy]
    assert {row[7] for row in rows} == {"True"}
    header, *rows = lines(f"{FUTURES}/daily/aggTrades/TRXUSDT/TRXUSDT-aggTrades-2025-02-01.zip")
    assert header.endswith(",transact_time,is_buyer_maker")
    wanted = market.trades(TradeSpan("TRX/USDT:USDT", *span))
    assert [int(row.split(",")[5]) for row in rows] == wanted.ts.tolist()
    assert {row.split(",")[6] for row in rows} == {"true", "false"}


def test_funding_rates(lines, market):
    path = f"{FUTURES}/monthly/fundingRate/TRXUSDT/TRXUSDT-fundingRate-2024-12.zip"
    header, *rows = lines(path)
    assert header == "calc_time,funding_interval_hours,last_funding_rate"
    wanted = market.fundings("TRX/USDT:USDT", parse_time("2024-12-01"), parse_time("2025-01-01"))
    assert [int(row.split(",")[0]) for row in rows] == wanted.ts.tolist()
    assert [float(row.split(",")[2]) for row in rows] == wanted.rate.tolist()


@pytest.mark.parametrize(("name", "symbol"), [("TRXUSDT", "TRX/USDT:USDT"), ("TRXUSD", "TRX/USD:TRX")])
def test_bybits_contracts(lines, market, name, symbol):
    header, *rows = lines(f"public.bybit.com/trading/{name}/{name}2025-02-01.csv.gz")
    assert header == (
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
    )
    columns = list(zip(*(row.split(",") for row in rows), strict=True))
    day = parse_time("2025-02-01")
    wanted = market.trades(TradeSpan(symbol, day, day + DAY_MS))
    assert [int(float(text) * 1000 + 1e-3) for text in columns[0]] == wanted.ts.tolist()
    assert set(columns[1]) == {name} and set(columns[2]) == {"Buy", "Sell"}
    dollars, coins = (np.array(columns[n], float) for n in (9, 8))
    assert np.allclose(np.array(columns[3], float), dollars if name == "TRXUSD" else coins)
    assert len(set(columns[6])) == len(rows)


def test_bybits_spot_numbers_its_rows(lines):
    header, *rows = lines("public.bybit.com/spot/TRXUSDT/TRXUSDT_2025-02-01.csv.gz")
    assert header == "id,timestamp,price,volume,side"
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    "path",
    [
        # Not finished, or not published yet.
        f"{SPOT}/monthly/klines/TRXUSDT/1m/TRXUSDT-1m-2025-02.zip",
        f"{SPOT}/daily/klines/TRXUSDT/1m/TRXUSDT-1m-2025-02-05.zip",
        # Before the listing, and after the end of trading.
        f"{SPOT}/monthly/klines/TRXUSDT/1m/TRXUSDT-1m-2024-10.zip",
        f"{SPOT}/daily/klines/EOSUSDT/1m/EOSUSDT-1m-2024-12-10.zip",
        # Other names than those that there are.
        f"{SPOT}/monthly/klines/TRXUSDT/1m/TRXUSDT-5m-2024-12.zip",
        f"{SPOT}/monthly/klines/TRXUSDT/1m/TRXUSDT-1m-2024-13.zip",
        f"{SPOT}/monthly/klines/TRXUSDT/1m/TRXUSDT-1m-2024-12-01.zip",
        f"{SPOT}/weekly/klines/TRXUSDT/1m/TRXUSDT-1m-2024-12.zip",
        f"{SPOT}/monthly/klines/ABCUSDT/1m/ABCUSDT-1m-2024-12.zip",
        f"{SPOT}/monthly/fundingRate/TRXUSDT/TRXUSDT-fundingRate-2024-12.zip",
        f"{FUTURES}/daily/fundingRate/TRXUSDT/TRXUSDT-fundingRate-2024-12-01.zip",
        "data.binance.vision/data/nothing",
        "public.bybit.com/trading/TRXUSDT/TRXUSDT2025-02-05.csv.gz",
        "public.bybit.com/trading/TRXUSDT/TRXUSDT2025-02-30.csv.gz",
        "public.bybit.com/trading/ABC/ABC2025-02-01.csv.gz",
    ],
)
def test_what_is_not_there(box, fetch, path):
    reply = fetch(f"{box.url}/{path}")
    assert reply.status == 404 and b"<Code>NoSuchKey</Code>" in reply.body
    assert reply.headers["Content-Type"].startswith("application/xml")


def test_months_are_published_on_the_first_monday(fetch, market):
    path = f"{SPOT}/monthly/klines/TRXUSDT/1h/TRXUSDT-1h-2025-01.zip"
    for now, status in (("2025-02-02T23:00Z", 404), ("2025-02-03T06:00Z", 200)):
        again = SimulatedMarket(seed=2, now=parse_time(now), instruments=market.instruments.values())
        with Sandbox(again) as running:
            assert fetch(f"{running.url}/{path}").status == status


def test_a_damaged_file_has_the_checksum_of_what_it_is(box, lines):
    path = f"{SPOT}/daily/klines/TRXUSDT/1h/TRXUSDT-1h-2025-02-01.zip"
    whole = lines(path)
    box.faults = ["missing,rows=3,path=vision"]
    assert len(lines(path)) == len(whole) - 3
    box.faults = []
    assert lines(path) == whole
