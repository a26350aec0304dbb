"""The forms of an answer: the same rows in each, streamed in bounded memory, with tags that follow the rows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest
from recorded_market import CANDLES, FIRST, HOLES, candles, trades

from zvt_crypto.core.levels import level_ms
from zvt_crypto.domain import load_tables
from zvt_crypto.server.answers import MEDIA_TYPE
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity, SeriesWriter

SPECS = list(load_tables().values())
URL = "/api/data/CryptoPair1mKdata"


def get(client, path=URL, headers=None, **given):
    answer = client.get(path, query_string={"provider": "binance", **given}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def table_of(answer):
    """The rows of a bulk answer."""
    if answer.mimetype == MEDIA_TYPE["arrow"]:
        return pa.ipc.open_stream(answer.data).read_all()
    return pa_parquet.read_table(io.BytesIO(answer.data))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.class_name)
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_binary_forms_hold_what_is_stored(client, market, spec, form):
    found = table_of(get(client, f"/api/data/{spec.class_name}", format=form))
    stored = read(Store(market), Query(spec, "binance"))
    assert found.schema.equals(stored.schema)
    assert found.equals(stored)


@pytest.mark.parametrize(
    "table", ["CryptoPair1mKdata", "CryptoTrade", "CryptoPair", "CryptoFunding", "CryptoOrderbook"]
)
def test_text_forms_hold_the_rows_of_json(client, table):
    path = f"/api/data/{table}"
    rows = get(client, path, limit=10_000).json["data"]
    lines = get(client, path, format="ndjson").text.splitlines()
    assert [json.loads(line) for line in lines] == rows
    texts = pa_csv.read_csv(
        io.BytesIO(get(client, path, format="csv").data),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in rows[0]}, strings_can_be_null=True
        ),
    ).to_pylist()
    assert [list(row) for row in texts] == [list(row) for row in rows]
    for text, row in zip(texts, rows, strict=True):
        for name, value in row.items():
            told = text[name]
            if isinstance(value, bool):
                assert told == str(value).lower()
            elif isinstance(value, int | float):
                assert float(told) == value
            elif name == "timestamp" and value is not None:
                assert pd.Timestamp(told) == pd.Timestamp(value)
            else:
                assert told == value


def test_bulk_forms_have_no_cap_and_a_limit_of_any_size(client):
    recorded = CANDLES - len(HOLES) + 500
    assert table_of(get(client, format="arrow")).num_rows == recorded
    assert table_of(get(client, format="arrow", limit=1_700)).num_rows == 1_700
    assert table_of(get(client, format="arrow", limit=50_000)).num_rows == recorded
    assert len(get(client, format="csv", limit=3).text.splitlines()) == 4


def test_filters_orders_and_grids_hold_for_bulk_forms(client):
    sells = table_of(
        get(client, "/api/data/CryptoTrade", format="arrow", side="sell", order="timestamp_desc")
    )
    assert set(sells["side"].to_pylist()) == {"sell"}
    times = sells["timestamp"].to_pylist()
    assert times == sorted(times, reverse=True)
    hours = table_of(get(client, format="parquet", resample="1h", codes="btcusdt", columns="timestamp,close"))
    assert (hours.column_names, hours.num_rows) == (["timestamp", "close"], CANDLES // 60)


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet", "ndjson"])
def test_no_rows_in_every_form(client, form):
    answer = get(client, format=form, codes="ethbtc")
    if form in ("arrow", "parquet"):
        assert table_of(answer).num_rows == 0
    else:
        assert len(answer.text.splitlines()) == (1 if form == "csv" else 0)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/csv", "text/csv"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("application/vnd.apache.parquet;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
    ],
)
def test_the_accept_header_chooses(client, accept, media):
    answer = get(client, headers={"Accept": accept}, limit=2)
    assert answer.mimetype == media
    assert "Accept" in answer.headers["Vary"]


def test_the_parameter_goes_before_the_header(client):
    answer = get(client, headers={"Accept": "text/csv"}, format="json", limit=1)
    assert answer.mimetype == "application/json"
    answer = get(client, headers={"Accept": "image/png"}, format="parquet")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="CryptoPair1mKdata.parquet"'


def test_a_stream_is_one_snapshot(client, recorder):
    """Rows that are written after the first byte are not in the answer."""
    recorder.series("binance", "CryptoPair1dKdata", "btcusdt", candles("1d", 60))
    answer = client.get("/api/data/CryptoTrade?provider=binance&format=ndjson&codes=btcusdt", buffered=False)
    parts = answer.iter_encoded()
    first = next(parts)
    recorder.series("binance", "CryptoTrade", "btcusdt", trades(4_000), entity_type="cryptopair")
    lines = (first + b"".join(parts)).splitlines()
    answer.close()
    assert len(lines) == 2_400 + 600


def tag(client, headers=None, **given):
    return get(client, headers=headers, **given).headers["ETag"]


def status_with(client, known, **given):
    answer = client.get(URL, query_string={"provider": "binance", **given}, headers={"If-None-Match": known})
    if answer.status_code == 304:
        assert answer.data == b""
        assert answer.headers["ETag"] in known
    return answer.status_code


@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
def test_unchanged_rows_are_not_sent_again(client, form):
    known = tag(client, format=form)
    assert status_with(client, known, format=form) == 304
    assert status_with(client, f'"other", {known}', format=form) == 304
    assert status_with(client, '"other"', format=form) == 200
    assert get(client, format=form).headers["Cache-Control"] == "no-cache"


def test_tags_tell_questions_and_forms_apart(client):
    found = [
        tag(client, **given)
        for given in (
            {},
            {"columns": "close"},
            {"columns": "close,open"},
            {"limit": 5},
            {"order": "timestamp_desc"},
            {"codes": "btcusdt"},
            {"resample": "1h"},
            {"format": "csv"},
            {"format": "ndjson"},
            {"provider": "okx"},
        )
    ]
    assert len(set(found)) == len(found)
    # The header chooses the same form as the parameter.
    assert tag(client, headers={"Accept": "text/csv"}) != found[0]


@pytest.mark.parametrize("sql", ["DELETE FROM {view} WHERE {row}", "UPDATE {view} SET close = 1 WHERE {row}"])
def test_rows_changed_by_sql_change_the_tag(client, recorder, sql):
    known = tag(client, codes="btcusdt")
    spec = load_tables().find("CryptoPair1mKdata")
    with recorder.store.connect("binance", spec) as connection:
        row = f"timestamp = {FIRST + 60_000} AND code = 'btcusdt'"
        connection.run(sql.format(view=spec.name, row=row))
    assert status_with(client, known, codes="btcusdt") == 200
    assert tag(client, codes="btcusdt") != known


def test_settled_ranges_keep_their_tag_while_later_rows_arrive(client, recorder):
    """A chunk of candles is 65,536 of them."""
    settled = {"codes": "btcusdt", "end_timestamp": "2024-01-02"}
    known, open_ended = tag(client, **settled), tag(client, codes="btcusdt")
    later = FIRST + 70_000 * level_ms("1m")
    recorder.series("binance", "CryptoPair1mKdata", "btcusdt", candles("1m", 5, first=later))
    assert status_with(client, known, **settled) == 304
    assert status_with(client, open_ended, codes="btcusdt") == 200


def test_what_was_answered_changes_filled_candles_and_their_tag(client, recorder):
    """No row is new: the exchange answered that there were none, so that the time counts as quiet."""
    given = {"codes": "ethusdt", "fill": "ffill"}
    known, total = tag(client, **given), get(client, **given).json["total"]
    spec = load_tables().find("CryptoPair1mKdata")
    with recorder.store.connect("binance", spec) as connection:
        writer = SeriesWriter(connection, spec)
        key = writer.entity_key(Entity("cryptopair_binance_ethusdt", "ethusdt", "ETHUSDT"))
        end = FIRST + 500 * level_ms("1m")
        writer.write_page(key, spec.schema.empty_table(), answered=[(end, end + 10 * level_ms("1m"))])
    assert status_with(client, known, **given) == 200
    assert get(client, **given).json["total"] == total + 10


def test_instruments_have_a_tag_too(client, recorder):
    path = "/api/data/CryptoPair"
    known = get(client, path).headers["ETag"]
    given = {"query_string": {"provider": "binance"}, "headers": {"If-None-Match": known}}
    assert client.get(path, **given).status_code == 304
    recorder.entities("binance", "CryptoPair", [{"code": "newusdt", "name": "NEW/USDT"}])
    assert client.get(path, **given).status_code == 200


#: Streams rows to nowhere, and tells by how much memory the process grew.
STREAMING = """
import pathlib, resource, sys
import numpy as np
sys.path.insert(0, {tests!r})
from recorded_market import FIRST, Recorder, candles, trades
from zvt_crypto.core.config import Settings
from zvt_crypto.server.app import create_app
from zvt_crypto.store.engine import Store

settings = Settings(data_path=pathlib.Path({folder!r}))
client = create_app(settings).test_client()

def stream(path):
    answer = client.get(path, buffered=False)
    assert answer.status_code == 200, answer.text
    size = sum(map(len, answer.iter_encoded()))
    answer.close()
    return size

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

for form in ("csv", "arrow", "parquet", "ndjson"):
    stream({path!r} + "&limit=70000&format=" + form)
before = grown()
sizes = [stream({path!r} + "&format=" + form) for form in ("csv", "arrow", "parquet", "ndjson")]
print(grown() - before, *sizes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
@pytest.mark.parametrize(
    ("table", "columns"), [("CryptoPair1mKdata", ""), ("CryptoTrade", "&columns=timestamp,price,volume")]
)
def test_streams_need_little_memory(recorder, market, table, columns):
    """2,000,000 candles of five years, or 1,000,000 trades of three days, in hundreds of megabytes of text."""
    count, at_once = (2_000_000, 500_000) if table == "CryptoPair1mKdata" else (1_000_000, 250_000)
    for begin in range(0, count, at_once):
        if table == "CryptoPair1mKdata":
            rows = candles("1m", at_once, first=FIRST + begin * level_ms("1m"))
        else:
            rows = trades(at_once, begin=begin)
        recorder.series("bybit", table, "manyusdt", rows, entity_type="cryptopair")
    code = textwrap.dedent(STREAMING).format(
        tests=str(Path(__file__).parent),
        folder=str(market.data_path),
        path=f"/api/data/{table}?provider=bybit{columns}",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, *sizes = map(int, done.stdout.split())
    assert max(sizes) > 50_000_000
    assert grown < 120, f"{grown} MB more than for the first 70,000 rows"
