"""What the page asks for: rows, spans and strips of what is recorded, counted chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from recorded_market import FIRST, HOLES, Recorder, candles

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.core.tables import CHUNK_ROWS
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.summary import recorded_tables, summarise
from zvt_crypto.server.census import Budget, Census
from zvt_crypto.server.overview import Overview, SymbolsParameters
from zvt_crypto.server.strips import MOST_PIECES, STRIP_KINDS, coarse
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter

MINUTES = load_tables().find("CryptoPair1mKdata")
HOURS = load_tables().find("CryptoPair1hKdata")
HOSTILE = "<script>alert(1)</script>'\"&\u202e"
UNRECORDED, ABSENT = STRIP_KINDS.index("unrecorded"), STRIP_KINDS.index("absent")


@pytest.fixture
def fresh(market: Settings) -> Overview:
    """Answers that are never given twice."""
    return Overview(Store(market), kept_seconds=0)


def symbols_of(overview: Overview, table: str, **asked: Any) -> dict[str, Any]:
    parameters = SymbolsParameters(provider="binance", table=table, **asked)
    return dict(orjson.loads(overview.symbols(parameters)))


def table_of(overview: Overview, table: str, provider: str = "binance") -> dict[str, Any]:
    found = orjson.loads(overview.tables())["tables"]
    return next(one for one in found if (one["provider"], one["table"]) == (provider, table))


def set_written(market: Settings, minutes_ago: int) -> None:
    """Rows were written then; the market that tests copy may have been recorded a while ago."""
    store = Store(market)
    for provider, spec in recorded_tables(store):
        if spec.layout == "series":
            with store.connect(provider, spec) as connection, connection.transaction():
                connection.run(
                    f"UPDATE chunks SET written_at = (strftime('%s', 'now') - {60 * minutes_ago}) * 1000"
                )


@pytest.mark.parametrize(("minutes_ago", "status"), [(0, "recording"), (4, "recording"), (6, "idle")])
def test_who_has_just_written_is_recording(
    market: Settings, fresh: Overview, minutes_ago: int, status: str
) -> None:
    set_written(market, minutes_ago)
    providers = orjson.loads(fresh.tables())["providers"]
    assert {provider["name"]: provider["status"] for provider in providers} == {
        "binance": status,
        "okx": status,
    }


def test_providers_and_tables(client: FlaskClient) -> None:
    answer = client.get("/api/crypto/overview").json
    assert answer is not None
    assert [provider["name"] for provider in answer["providers"]] == ["binance", "okx"]
    assert "kraken" in answer["others"] and "okx" not in answer["others"]
    table = next(one for one in answer["tables"] if one["table"] == "CryptoPair1mKdata")
    assert table["written"] <= answer["timestamp"]
    facts = ("rows", "is_counted", "missing", "symbols", "first", "last", "error")
    last = FIRST + 2_999 * MINUTE_MS
    assert [table[name] for name in facts] == [3_489, True, len(HOLES), 2, FIRST, last, None]


def test_symbols_as_the_report_has_them(fresh: Overview, market: Settings) -> None:
    for table in ("CryptoPair1mKdata", "CryptoPerp1hKdata", "CryptoPair1dKdata"):
        answer = symbols_of(fresh, table)
        summary = summarise(Store(market), "binance", load_tables().find(table))
        columns = answer["symbols"]
        assert columns["code"] == [series.code for series in summary.series]
        assert columns["rows"] == [series.rows for series in summary.series]
        assert columns["first"] == [series.first for series in summary.series]
        assert columns["last"] == [series.last for series in summary.series]
        gaps = [series.gaps for series in summary.series]
        assert columns["gaps"] == [len(found) for found in gaps if found is not None]
        assert columns["missing"] == [int(found.missing.sum()) for found in gaps if found is not None]
        assert columns["to_record"] == [0 for _ in gaps]
        starts = [[t for t, k in zip(p["start"], p["kind"], strict=True) if k] for p in columns["pieces"]]
        assert starts == [found.start.tolist() for found in gaps if found is not None]


def test_what_was_asked_for_and_what_was_not(fresh: Overview, recorder: Recorder) -> None:
    recorder.series("binance", "CryptoPair1hKdata", "solusdt", candles("1h", 100, holes=(50, 51)))
    recorder.series("binance", "CryptoPair1hKdata", "solusdt", candles("1h", 9, first=FIRST + 150 * HOUR_MS))
    columns = symbols_of(fresh, "CryptoPair1hKdata")["symbols"]
    (pieces,) = columns["pieces"]
    hours = [[(time - FIRST) // HOUR_MS for time in pieces[name]] for name in ("start", "end")]
    assert hours == [[0, 50, 52, 100, 150], [50, 52, 100, 150, 159]]
    assert pieces["kind"] == [0, ABSENT, 0, UNRECORDED, 0]
    assert pieces["share"] == [1, 0, 1, 0, 1]
    assert [columns[name] for name in ("gaps", "missing", "to_record")] == [[2], [52], [50]]


def test_a_removed_candle_is_to_be_recorded_again(fresh: Overview, recorder: Recorder) -> None:
    recorder.series("binance", "CryptoPair1hKdata", "solusdt", candles("1h", 10))
    assert symbols_of(fresh, "CryptoPair1hKdata")["symbols"]["gaps"] == [0]
    with recorder.store.connect("binance", HOURS) as connection:
        connection.run(f"DELETE FROM rows WHERE ts = {FIRST + 4 * HOUR_MS:d}")
    columns = symbols_of(fresh, "CryptoPair1hKdata")["symbols"]
    assert [columns[name] for name in ("rows", "gaps", "to_record")] == [[9], [1], [1]]


def test_tables_without_a_level_go_by_the_ledger(fresh: Overview, recorder: Recorder) -> None:
    answer = symbols_of(fresh, "CryptoTrade")
    columns = answer["symbols"]
    assert columns["code"] == ["btcusdt", "btcusdt", "ethusdt"]
    assert [pieces["kind"] for pieces in columns["pieces"]] == [[0], [0], [0]]
    assert columns["missing"] == [None, None, None]
    spec = load_tables().find("CryptoTrade")
    with recorder.store.connect("binance", spec) as connection:
        connection.run("DELETE FROM coverage WHERE entity = (SELECT min(key) FROM entities)")
        first = connection.value("SELECT min(key) FROM entities")
        connection.run(
            f"INSERT INTO coverage VALUES ({first:d}, {FIRST}, {FIRST + 50_000}, 'answered', 'rest')"
        )
    columns = symbols_of(fresh, "CryptoTrade")["symbols"]
    assert sorted(pieces["kind"] for pieces in columns["pieces"]) == [[0], [0], [0, UNRECORDED]]


def test_a_change_of_old_rows_is_seen(fresh: Overview, recorder: Recorder) -> None:
    assert table_of(fresh, "CryptoPair1mKdata")["rows"] == 3_489
    with recorder.store.connect("binance", MINUTES) as connection:
        connection.run(f"DELETE FROM rows WHERE ts = {FIRST:d}")
    assert table_of(fresh, "CryptoPair1mKdata")["rows"] == 3_487
    recorder.series("binance", "CryptoPair1mKdata", "newusdt", candles("1m", 3))
    found = table_of(fresh, "CryptoPair1mKdata")
    assert (found["rows"], found["symbols"]) == (3_490, 3)


def test_the_same_answer_is_made_once_in_a_while(market: Settings, recorder: Recorder) -> None:
    overview = Overview(Store(market), kept_seconds=3600)
    before = overview.tables()
    recorder.series("binance", "CryptoPair1mKdata", "newusdt", candles("1m", 3))
    assert overview.tables() == before
    assert symbols_of(overview, "CryptoPair1mKdata")["total"] == 3


class Ticks:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self._ticks: Iterator[int] = iter(range(1_000_000))

    def __call__(self) -> float:
        return float(next(self._ticks))


def test_counting_goes_on_where_the_time_was_over(settings: Settings) -> None:
    store = Store(settings)
    count = 3 * CHUNK_ROWS
    begin = 26_000 * CHUNK_ROWS * MINUTE_MS
    Recorder(store).series("binance", "CryptoPair1mKdata", "btcusdt", candles("1m", count, first=begin))
    census = Census(store)
    seen = [census.table("binance", MINUTES, Budget(0.5, Ticks())) for _ in range(4)]
    assert [one.rows for one in seen] == [CHUNK_ROWS, 2 * CHUNK_ROWS, count, count]
    assert [one.is_counted for one in seen] == [False, False, True, True]
    assert [one.series[0].counted is None for one in seen] == [True, True, False, False]
    counted = seen[-1].series[0].counted
    assert counted is not None
    # Chunks meet where no candle is missing.
    assert (counted.starts.tolist(), counted.ends.tolist()) == ([begin], [begin + count * MINUTE_MS])


def test_hostile_names_are_data(fresh: Overview, client: FlaskClient, recorder: Recorder) -> None:
    with recorder.store.connect("binance", HOURS) as connection:
        writer = SeriesWriter(connection, HOURS)
        key = writer.entity_key(Entity(f"cryptopair_binance_{HOSTILE}", HOSTILE, None))
        writer.write_page(key, candles("1h", 5), answered=[(FIRST, FIRST + 5 * HOUR_MS)])
    asked = {"provider": "binance", "table": "CryptoPair1hKdata", "search": "<SCRIPT>"}
    answer = client.get("/api/crypto/overview/symbols", query_string=asked)
    assert answer.content_type == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.json is not None
    assert answer.json["symbols"]["code"] == [HOSTILE]
    assert answer.json["symbols"]["name"] == [None]


def test_search_and_pages(fresh: Overview) -> None:
    answer = symbols_of(fresh, "CryptoPair1mKdata", search=" ETH ")
    assert (answer["total"], answer["symbols"]["code"]) == (1, ["ethusdt"])
    # The axis is that of all symbols, whichever are shown.
    assert answer["end"] == FIRST + 3_000 * MINUTE_MS
    answer = symbols_of(fresh, "CryptoPair1mKdata", offset=1, limit=1)
    assert (answer["total"], answer["symbols"]["code"]) == (2, ["ethusdt"])
    assert symbols_of(fresh, "CryptoPair1mKdata", offset=9)["symbols"]["code"] == []
    answer = symbols_of(fresh, "CryptoPair1mKdata", strips=False, limit=10_000)
    assert answer["symbols"]["pieces"] == [None, None]
    assert answer["symbols"]["rows"] == [2_989, 500]


def test_nothing_recorded(empty_client: FlaskClient) -> None:
    answer = empty_client.get("/api/crypto/overview").json
    assert answer is not None
    assert (answer["providers"], answer["tables"]) == ([], [])
    asked = {"provider": "binance", "table": "CryptoPair1hKdata"}
    answer = empty_client.get("/api/crypto/overview/symbols", query_string=asked).json
    assert answer is not None
    assert (answer["total"], answer["start"], answer["symbols"]["code"]) == (0, None, [])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"provider": "binance"}, "table"),
        ({"table": "CryptoPair1mKdata"}, "provider"),
        ({"provider": "binanze", "table": "CryptoPair1mKdata"}, "binance"),
        ({"provider": "binance", "table": "CryptoPair1mKdat"}, "CryptoPair1mKdata"),
        ({"provider": "../etc", "table": "CryptoPair1mKdata"}, "../etc"),
        ({"provider": "binance", "table": "CryptoPair1mKdata", "limit": "0"}, "limit"),
        ({"provider": "binance", "table": "CryptoPair1mKdata", "limit": "201"}, "200"),
        ({"provider": "binance", "table": "CryptoPair1mKdata", "offset": "-1"}, "offset"),
        ({"provider": "binance", "table": "CryptoPair1mKdata", "nonsense": "1"}, "nonsense"),
    ],
)
def test_wrong_parameters_are_named(client: FlaskClient, asked: dict[str, str], told: str) -> None:
    answer = client.get("/api/crypto/overview/symbols", query_string=asked)
    assert answer.status_code == 400
    assert told in answer.text


def test_a_damaged_table_is_told_beside_the_sound_ones(market: Settings, fresh: Overview) -> None:
    set_written(market, 0)
    broken = Store(market).path("binance", HOURS)
    broken.write_bytes(b"no database" * 1000)
    found = orjson.loads(fresh.tables())
    assert {p["name"]: p["status"] for p in found["providers"]} == {"binance": "failed", "okx": "recording"}
    table = table_of(fresh, "CryptoPair1hKdata")
    assert "database" in table["error"] and table["rows"] is None
    assert table_of(fresh, "CryptoPair1mKdata")["rows"] == 3_489


def test_the_document_has_the_overview(client: FlaskClient) -> None:
    paths = (client.get("/openapi.json").json or {})["paths"]
    assert "200" in paths["/api/crypto/overview"]["get"]["responses"]
    names = {one["name"] for one in paths["/api/crypto/overview/symbols"]["get"]["parameters"]}
    assert names == {"provider", "table", "search", "offset", "limit", "strips"}
    assert not any(path in paths for path in ("/", "/docs"))


strips = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=300)


@given(strips, st.integers(1, 40))
def test_a_coarse_strip_hides_no_gap(lengths: list[tuple[int, int]], most: int) -> None:
    ends = np.cumsum([length * 1000 for length, _ in lengths])
    starts = np.append(0, ends[:-1])
    kinds = np.array([kind for _, kind in lengths])
    start, end, kind, share = coarse(starts, ends, kinds, 0, int(ends[-1]), most)
    assert len(start) <= max(most, 1)
    assert start[0] == 0 and end[-1] == ends[-1] and (start[1:] == end[:-1]).all()
    for lower, upper, gap in zip(starts, ends, kinds, strict=True):
        touched = kind[(start < upper) & (end > lower)]
        assert (touched >= gap).all()
    assert set(kind.tolist()) <= set(kinds.tolist())
    assert ((share >= 0) & (share <= 1)).all()
    recorded = (ends - starts)[kinds == 0].sum()
    # Shares are rounded to a thousandth, edges to a millisecond.
    assert abs((share * (end - start)).sum() - recorded) <= 0.001 * ends[-1] + len(start)


def test_a_strip_has_few_pieces(fresh: Overview, recorder: Recorder) -> None:
    holes = tuple(range(1, 2_000, 2))
    recorder.series("binance", "CryptoPair1mKdata", "thinusdt", candles("1m", 2_000, holes=holes))
    columns = symbols_of(fresh, "CryptoPair1mKdata", search="thin")["symbols"]
    (pieces,) = columns["pieces"]
    assert len(pieces["start"]) <= MOST_PIECES
    assert set(pieces["kind"]) == {ABSENT}
    assert np.mean(pieces["share"]) == pytest.approx(0.5, abs=0.01)
    assert (columns["gaps"], columns["missing"]) == ([999], [999])
