"""Archive files read as they come: periods, units of time, headers, and every way to be damaged."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import zipfile

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from aiohttp import web
from hypothesis import given

from zvt_crypto.core.errors import ArchiveUnusable
from zvt_crypto.core.levels import DAY_MS, iso, parse_time, subtract_spans
from zvt_crypto.exchanges import archive_csv, binance_archive, bybit_archive
from zvt_crypto.exchanges.archive_csv import CsvLayout, FileTimes
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.archives import day_text, month_text, whole_days, whole_months
from zvt_crypto.exchanges.base import Instrument, venue_class
from zvt_crypto.exchanges.client import Client

PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
PERP = Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT", contract_size=1.0)
INVERSE = Instrument("cryptoperp", "btcusd", "BTC/USD:BTC", "BTCUSD", contract_size=1.0, inverse=True)
DAY = parse_time("2024-01-15")
NOW = parse_time("2024-03-10")

KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
TRADE_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
BYBIT_HEADER = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
)


def kline(minute, unit=1):
    ts = DAY + minute * 60_000
    return f"{ts * unit},10.5,11.0,9.5,10.0,3.25,{(ts + 60_000) * unit - 1},34.1,7,1.5,15.7,0"


def agg_trade(number, ms, unit=1, maker="True", more=",True"):
    return f"{number},42000.10,0.00123,{number},{number},{int((DAY + ms) * unit)},{maker}{more}"


def bybit_trade(number, seconds, symbol="BTCUSDT", side="Buy"):
    return (
        f"{DAY / 1000 + seconds:.4f},{symbol},{side},0.25,42000.5,PlusTick,id-{number},1.0e+12,0.25,10500.125"
    )


def text_of(*lines, end="\n"):
    return "".join(line + end for line in lines).encode()


def zipped(text, name="BTCUSDT-1m-2024-01-15.csv", method=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(name, text)
    return packed.getvalue()


class Host:
    """Serves files by path; a list of bodies is gone through, its last one stays."""

    def __init__(self):
        self.files = {}
        self.asked = []

    async def handle(self, request):
        self.asked.append(request.path)
        bodies = self.files.get(request.path)
        if bodies is None:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        bodies = bodies if isinstance(bodies, list) else [bodies]
        return web.Response(body=bodies[min(self.asked.count(request.path), len(bodies)) - 1])

    def put(self, file, body, checksum_of=None, checksum=None):
        path = f"/{file.host}{file.path}"
        self.files[path] = body
        first = body[0] if isinstance(body, list) else body
        digest = hashlib.sha256(first if checksum_of is None else checksum_of).hexdigest()
        self.files[f"{path}.CHECKSUM"] = (checksum or f"{digest}  {file.name}\n").encode()


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def read(host, quick):
    """The parts of a file that the host serves."""

    async def reading(provider, instrument, feed, file):
        runner = web.ServerRunner(web.Server(host.handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kind = venue_class(provider)
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with Client(kind, quick(url)) as client:
                parts = kind(client).fetch_archive(instrument, feed, "1m", file)
                async with contextlib.aclosing(parts) as opened:
                    return [part async for part in opened]
        finally:
            await runner.cleanup()

    return lambda *arguments: asyncio.run(reading(*arguments))


def the_file(feed="candles", instrument=PAIR, level="1m"):
    kind, symbol = instrument.entity_type, instrument.native_id
    (file,) = binance_archive.files(kind, symbol, feed, level, DAY, DAY + DAY_MS, NOW)
    return file


@pytest.fixture
def candles(host, read):
    """The rows of a day of candles with this text, or packed in this way."""

    def rows(text=None, *, body=None, instrument=PAIR, **how):
        file = the_file(instrument=instrument)
        host.put(file, zipped(text) if body is None else body, **how)
        parts = read("binance", instrument, "candles", file)
        assert (parts[-1].start, parts[-1].stop) == (file.start, file.end)
        assert all(part.start >= part.stop for part in parts[:-1])
        return pa.concat_tables(part.rows for part in parts)

    return rows


@pytest.fixture
def trades(host, read):
    def rows(text, instrument=PAIR):
        file = the_file("trades", instrument)
        host.put(file, zipped(text, file.name.replace(".zip", ".csv")))
        return pa.concat_tables(p.rows for p in read("binance", instrument, "trades", file))

    return rows


def test_paths_of_binance():
    name = "/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-15.zip"
    assert the_file() == ArchiveFile(
        "data.binance.vision", name, DAY, DAY + DAY_MS, checksum_path=f"{name}.CHECKSUM"
    )
    trades = "/data/futures/um/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2024-01-15.zip"
    assert the_file("trades", PERP).path == trades
    span = (parse_time("2024-01-01"), parse_time("2024-02-01"))
    (funding,) = binance_archive.files("cryptoperp", "BTCUSDT", "funding", None, *span, NOW)
    assert funding.path == "/data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip"
    assert binance_archive.files("cryptopair", "BTCUSDT", "funding", None, *span, NOW) == []


def test_paths_of_bybit():
    (file,) = bybit_archive.files(PERP, "trades", DAY, DAY + DAY_MS, NOW)
    assert (file.host, file.path) == ("public.bybit.com", "/trading/BTCUSDT/BTCUSDT2024-01-15.csv.gz")
    assert file.checksum_path is None and file.requests == 1
    assert bybit_archive.files(PAIR, "trades", DAY, DAY + DAY_MS, NOW) == []
    assert bybit_archive.files(PERP, "candles", DAY, DAY + DAY_MS, NOW) == []


def test_months_come_first_and_only_once_they_are_published():
    def files(feed, start, end, now):
        found = binance_archive.files(
            "cryptopair", "BTCUSDT", feed, "1m", *map(parse_time, (start, end, now))
        )
        return [file.name.split("-1m-")[-1].removesuffix(".zip") for file in found]

    assert files("candles", "2024-01-30", "2024-04-02", "2024-04-20") == [
        "2024-01-30", "2024-01-31", "2024-02", "2024-03", "2024-04-01",
    ]  # fmt: skip
    # A month's file comes on the first Monday, which may be the seventh day.
    assert files("candles", "2024-03-01", "2024-04-01", "2024-04-07")[0] == "2024-03-01"
    assert files("candles", "2024-03-01", "2024-04-01", "2024-04-09") == ["2024-03"]
    # Days that ended less than thirty hours ago.
    assert files("candles", "2024-04-17", "2024-04-20", "2024-04-20T05:00Z") == ["2024-04-17"]
    assert files("candles", "2024-04-17", "2024-04-20", "2024-04-20T06:00Z") == ["2024-04-17", "2024-04-18"]
    assert len(files("trades", "2024-01-01", "2024-02-01", "2024-04-20")) == 31
    assert files("candles", "2024-04-17T00:01Z", "2024-04-18T23:59Z", "2024-05-20") == []


TIMES = st.integers(parse_time("1999-01-01"), parse_time("2040-01-01"))


@given(TIMES, st.integers(0, 200 * DAY_MS))
def test_months_and_days_fill_a_range_but_its_ends(start, length):
    end = start + length
    for periods, text in ((whole_months(start, end), month_text), (whole_days(start, end), day_text)):
        assert all(start <= lower < upper <= end for lower, upper in periods)
        assert all(before[1] == after[0] for before, after in zip(periods, periods[1:], strict=False))
        assert all(text(lower) == text(upper - 1) != text(upper) for lower, upper in periods)
        longest = DAY_MS if text is day_text else 31 * DAY_MS
        assert all(b - a < longest for a, b in subtract_spans([(start, end)], periods) if periods)
        assert periods or length < 2 * longest


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize("header", [(), (KLINE_HEADER,)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_candles(candles, unit, header, end):
    rows = candles(text_of(*header, *(kline(minute, unit) for minute in range(3)), end=end))
    assert rows.to_pylist() == [
        {
            "ts": DAY + minute * 60_000, "open": 10.5, "high": 11.0, "low": 9.5, "close": 10.0,
            "volume": 3.25, "turnover": 34.1, "trade_count": 7,
        }
        for minute in range(3)
    ]  # fmt: skip


def test_columns_are_found_by_the_names_of_a_header(candles):
    columns = KLINE_HEADER.split(",")
    shuffled = [columns[-1], *columns[:-1], "another"]
    values = dict(zip(columns, kline(0).split(","), strict=True)) | {"another": "x"}
    text = text_of(",".join(shuffled), ",".join(values[name] for name in shuffled))
    assert candles(text).equals(candles(text_of(kline(0))))


def test_a_header_again_in_the_middle_is_left_out(candles):
    wanted = candles(text_of(*(kline(n) for n in range(4))))
    twice = [KLINE_HEADER, kline(0), kline(1), KLINE_HEADER, kline(2), kline(3)]
    assert candles(text_of(*twice)).equals(wanted)
    assert candles(text_of(*twice[1:])).equals(wanted)
    assert candles(text_of(*twice[1:]).rstrip(b"\n")).equals(wanted)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([kline(0), KLINE_HEADER.replace("open_time", "opened"), kline(1)], "cannot be read"),
        ([KLINE_HEADER.replace("quote_volume", "amount"), kline(0)], "other columns"),
        ([kline(0) + ",7"], "other columns"),
        ([kline(0), kline(1)[:-20]], "cannot be read"),
        ([kline(0), "", kline(1)], "without a time"),
        ([kline(0), kline(1).replace("10.5", "ten")], "cannot be read"),
        ([kline(-1), kline(0)], "outside"),
        ([kline(0), kline(1440)], "outside"),
        ([kline(0), kline(1, 1000)], "outside"),
        ([kline(0, 10**7)], "cannot be read"),
        ([kline(0).partition(",")[2]], "other columns"),
        (["<html>", "no"], "other columns"),
        ([KLINE_HEADER], "no rows"),
        ([], "no rows"),
    ],
)
def test_text_that_is_no_good(candles, lines, words):
    with pytest.raises(ArchiveUnusable, match=words):
        candles(text_of(*lines))


TEXT = text_of(*(kline(n) for n in range(1440)))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"text": TEXT, "checksum_of": b"else"}, "not what its checksum says"),
        ({"text": TEXT, "checksum": "0" * 64 + "  BTCUSDT-1m-2024-01-16.zip\n"}, "is not one"),
        ({"text": TEXT, "checksum": "<html>sorry</html>"}, "is not one"),
        ({"text": TEXT, "checksum": "x" * 5000}, "larger than"),
        ({"body": zipped(TEXT)[:-40]}, "damaged"),
        ({"body": zipped(TEXT)[:2000]}, "damaged"),
        ({"body": zipped(TEXT).replace(b"PK\3\4", b"PK\3\5")}, "damaged"),
        ({"body": b""}, "damaged"),
        ({"body": zipped(TEXT, "BTCUSDT-1m-2024-01-16.csv")}, "instead of BTCUSDT-1m-2024-01-15.csv"),
        ({"body": zipped(TEXT, "../BTCUSDT-1m-2024-01-15.csv")}, "instead of"),
        ({"body": zipped(b"0" * (65 << 20))}, "larger than"),
        ({"body": b"PK" * (33 << 20)}, "larger than"),
        ({"body": zipped(b"0" * (9 << 20))}, "no lines"),
    ],
)
def test_files_that_are_no_good(candles, how, words):
    with pytest.raises(ArchiveUnusable, match=words):
        candles(**how)


def test_a_flipped_bit_is_noticed_without_the_checksum(candles):
    body = bytearray(zipped(TEXT, method=zipfile.ZIP_STORED))
    body[5000] ^= 1
    with pytest.raises(ArchiveUnusable):
        candles(body=bytes(body))


def test_a_file_that_is_not_there(host, read):
    with pytest.raises(ArchiveUnusable, match="the archive has no .*2024-01-15.zip"):
        read("binance", PAIR, "candles", the_file())
    assert len(host.asked) == 1


def test_a_file_is_fetched_twice_before_it_is_given_up(host, read):
    file = the_file()
    good = zipped(TEXT)
    host.put(file, [b"PK\3\4 damaged", good], checksum_of=good)
    parts = read("binance", PAIR, "candles", file)
    assert sum(part.rows.num_rows for part in parts) == 1440 and parts[-1].requests == 4
    host.asked.clear()
    host.put(file, b"PK\3\4 damaged", checksum_of=good)
    with pytest.raises(ArchiveUnusable):
        read("binance", PAIR, "candles", file)
    assert len(host.asked) == 4


def test_aggregate_trades_of_spot_and_futures(trades):
    lines = [agg_trade(1, 0), agg_trade(2, 5, maker="False"), agg_trade(3, DAY_MS - 1)]
    found = trades(text_of(*lines)).to_pylist()
    assert found[0] == {
        "ts": DAY, "trade_id": "1", "price": 42000.1, "volume": 0.00123, "side": "sell", "nanosecond": None,
    }  # fmt: skip
    assert [row["side"] for row in found] == ["sell", "buy", "sell"]
    plain = [agg_trade(1, 0, maker="true", more=""), agg_trade(2, 5, maker="false", more="")]
    assert trades(text_of(TRADE_HEADER, *plain), PERP).to_pylist() == found[:2]
    # Seven columns: older files of spot do not say whether the price was the best one.
    assert trades(text_of(*plain)).to_pylist() == found[:2]


def test_microseconds_are_kept(trades):
    found = trades(text_of(agg_trade(1, 0.001, 1000), agg_trade(2, 7.25, 1000))).to_pylist()
    assert [(row["ts"] - DAY, row["nanosecond"]) for row in found] == [(0, 1000), (7, 250_000)]


def test_a_large_file_comes_in_parts_that_do_not_cover_it(host, read, monkeypatch):
    monkeypatch.setattr(archive_csv, "_BLOCK", 4096)
    monkeypatch.setattr(archive_csv, "_FIRST_BLOCK", 1024)
    file = the_file("trades")
    text = text_of(*(agg_trade(n, n) for n in range(1000)))
    host.put(file, zipped(text, "BTCUSDT-aggTrades-2024-01-15.csv"))
    parts = read("binance", PAIR, "trades", file)
    assert len(parts) > 10 and all(len(part.rows) < 100 for part in parts)
    assert [int(i) for part in parts for i in part.rows["trade_id"].to_pylist()] == list(range(1000))
    assert [(p.start, p.stop) for p in parts if p.start < p.stop] == [(file.start, file.end)]


def test_funding_events(host, read):
    span = (parse_time("2024-01-01"), parse_time("2024-02-01"))
    (file,) = binance_archive.files("cryptoperp", "BTCUSDT", "funding", None, *span, NOW)
    lines = [f"{span[0]},8,0.00037409", f"{span[0] + 28_800_003},8,-0.0001", f"{span[0] + 43_200_000},4,0.0"]
    text = text_of("calc_time,funding_interval_hours,last_funding_rate", *lines)
    host.put(file, zipped(text, "BTCUSDT-fundingRate-2024-01.csv"))
    rows = pa.concat_tables(part.rows for part in read("binance", PERP, "funding", file)).to_pylist()
    assert [row["ts"] - span[0] for row in rows] == [0, 28_800_003, 43_200_000]
    assert [row["funding_rate"] for row in rows] == [0.00037409, -0.0001, 0.0]
    assert [row["funding_interval_hours"] for row in rows] == [8, 8, 4]
    assert {row["mark_price"] for row in rows} == {None}


@pytest.fixture
def bybit(host, read):
    def rows(lines, instrument=PERP, body=None):
        (file,) = bybit_archive.files(instrument, "trades", DAY, DAY + DAY_MS, NOW)
        packed = gzip.compress(text_of(*lines)) if body is None else body
        host.files[f"/{file.host}{file.path}"] = packed
        parts = read("bybit", instrument, "trades", file)
        return pa.concat_tables(part.rows for part in parts).to_pylist()

    return rows


def test_bybits_trades_in_either_order(bybit):
    lines = [bybit_trade(1, 0.0), bybit_trade(2, 0.1234, side="Sell"), bybit_trade(3, 86399.9999)]
    found = bybit([BYBIT_HEADER, *lines])
    assert found[1] == {
        "ts": DAY + 123, "trade_id": "id-2", "price": 42000.5, "volume": 0.25, "side": "sell",
        "nanosecond": 400_000,
    }  # fmt: skip
    assert found[2]["ts"] == DAY + DAY_MS - 1
    assert bybit([BYBIT_HEADER, *lines[::-1]]) == found[::-1]
    more = [f"{BYBIT_HEADER},RPI", *(f"{line},0" for line in lines)]
    assert bybit(more) == found


def test_bybits_inverse_contracts_count_dollars(bybit):
    (row,) = bybit([BYBIT_HEADER, bybit_trade(1, 0.0, "BTCUSD")], INVERSE)
    assert row["volume"] == 0.25 / 42000.5


GZIPPED = gzip.compress(text_of(BYBIT_HEADER, *(bybit_trade(n, n) for n in range(5000))))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (GZIPPED[:-8], "damaged"),
        (GZIPPED[: len(GZIPPED) // 2], "damaged"),
        (GZIPPED[:-8] + bytes(8), "damaged"),
        (b"<html></html>", "damaged"),
        (b"", "no rows"),
        (gzip.compress(text_of(BYBIT_HEADER, bybit_trade(1, 0, "ETHUSDT"))), "ETHUSDT"),
        (gzip.compress(text_of(BYBIT_HEADER, bybit_trade(1, -0.5))), "outside"),
        (gzip.compress(text_of(BYBIT_HEADER, bybit_trade(1, 86400.0))), "outside"),
        (gzip.compress(text_of(BYBIT_HEADER, bybit_trade(1, 0).replace("1705", "", 1))), "outside"),
        (gzip.compress(text_of(BYBIT_HEADER, "," + bybit_trade(1, 0).partition(",")[2])), "without a time"),
    ],
)
def test_files_of_bybit_that_are_no_good(bybit, host, body, words):
    with pytest.raises(ArchiveUnusable, match=words):
        bybit((), body=body)
    assert len(host.asked) == (2 if words == "damaged" else 1)


MOMENTS = st.lists(st.integers(0, DAY_MS * 1000 - 1), min_size=1, max_size=20)


@given(MOMENTS, st.sampled_from([(1, 1000), (1000, 1), (10**6, 1)]))
def test_times_of_any_unit_keep_what_they_tell(microseconds, unit):
    per_ms, divisor = unit
    file = ArchiveFile("host", "/path", DAY, DAY + DAY_MS)
    told = [(DAY * 1000 + us) // divisor * divisor for us in microseconds]
    values = pa.chunked_array([[us * per_ms // 1000 for us in told]], pa.int64())
    ts, rest = FileTimes(file).split(values)
    if per_ms * divisor == 1000:
        divided = [divmod(us, 1000) for us in told]
        assert ts.tolist() == [ms for ms, _ in divided], iso(DAY)
        expected = [1000 * us for _, us in divided]
        assert rest.to_pylist() == (expected if any(expected) else [None] * len(told))


@given(MOMENTS)
def test_seconds_with_a_fraction_keep_their_microseconds(microseconds):
    file = ArchiveFile("host", "/path", DAY, DAY + DAY_MS)
    values = pa.chunked_array([[float(f"{DAY // 1000 + us / 1e6:.6f}") for us in microseconds]])
    ts, rest = FileTimes(file).split(values)
    found = [
        (ms - DAY) * 1000 + (ns or 0) // 1000 for ms, ns in zip(ts.tolist(), rest.to_pylist(), strict=True)
    ]
    assert found == microseconds


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(40, 200))
def test_the_size_of_blocks_does_not_matter(numbers, size):
    layout = CsvLayout({"first": pa.int64(), "second": pa.float64()})
    text = text_of("first,second", *(f"{n},{n / 8}" for n in numbers))

    def rows(block):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(archive_csv, "_BLOCK", block)
            return pa.concat_tables(layout.tables(io.BytesIO(text), "name", 1 << 20)).to_pydict()

    assert rows(size) == rows(1 << 20) == {"first": numbers, "second": [n / 8 for n in numbers]}
