"""Holes out of real tables: kinds, evidence and proofs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.domain.entities import PAIR
from zvt_crypto.domain.kdata import COLUMNS
from zvt_crypto.quality.certificate import answered_share
from zvt_crypto.quality.holes import find_holes
from zvt_crypto.quality.series import recorded_series
from zvt_crypto.store import proofs
from zvt_crypto.store.proofs import Proof
from zvt_crypto.store.writer import Entity, SeriesWriter, write_entities

load_tables()
MINUTES, TRADES, FUNDING = (tables[name] for name in ("cryptopair_1m_kdata", "cryptotrade", "cryptofunding"))
START = 1_704_067_200_000
LONG = 600


def at(minute):
    return START + minute * MINUTE_MS


@pytest.fixture
def write(store):
    """Stores candles at minutes, all of LONG but those left out, answered throughout."""

    def written(code, *, without=(), provider="binance", answered=((0, LONG),), empty=()):
        ts = START + np.setdiff1d(np.arange(LONG), list(without)) * MINUTE_MS
        ones = {column.name: np.ones(len(ts)) for column in COLUMNS}
        batch = pa.table({"ts": ts, **ones}).cast(MINUTES.schema)
        with store.connect(provider, MINUTES) as connection:
            writer = SeriesWriter(connection, MINUTES)
            key = writer.entity_key(Entity(f"cryptopair_{provider}_{code}", code, None))
            spans = [[(at(a), at(b)) for a, b in given] for given in (answered, empty)]
            writer.write_page(key, batch, answered=spans[0], empty=spans[1])

    return written


@pytest.fixture
def trade(store):
    """Stores trades at minutes, answered in spans of minutes."""

    def traded(code, minutes, answered):
        batch = pa.table(
            {
                "ts": pa.array([at(minute) for minute in minutes], pa.int64()),
                "trade_id": [str(number) for number, _ in enumerate(minutes)],
                "price": pa.array([2.0] * len(minutes)),
                "volume": pa.array([3.0] * len(minutes)),
                "side": pa.nulls(len(minutes), pa.string()),
                "nanosecond": pa.nulls(len(minutes), pa.int64()),
            }
        ).cast(TRADES.schema)
        with store.connect("binance", TRADES) as connection:
            writer = SeriesWriter(connection, TRADES)
            key = writer.entity_key(Entity(f"cryptopair_binance_{code}", code, None))
            writer.write_page(key, batch, answered=[(at(a), at(b)) for a, b in answered])

    return traded


def holes_of(store, code="btcusdt", spec=MINUTES, **span):
    [series] = recorded_series(store, "binance", spec, [code])
    return find_holes(store, series, **span)


def shown(holes):
    return [
        (
            (hole["start"] - START) // MINUTE_MS,
            (hole["end"] - START) // MINUTE_MS,
            hole["kind"],
            hole["proven"],
        )
        for hole in holes.to_list()
    ]


def evidence(holes, number=0):
    return {name: value for fact in holes.evidence[number] for name, value in fact.items()}


def test_the_ledger_alone(store, write):
    write("btcusdt", without=[*range(10, 14), 599], answered=[(0, 12), (14, 599)], empty=[(13, 14)])
    holes = holes_of(store, end=at(LONG))
    assert shown(holes) == [
        (10, 12, "absent", False),
        (12, 13, "unrecorded", False),
        (13, 14, "unconfirmed", False),
        (599, 600, "unrecorded", False),
    ]
    assert evidence(holes) == {"answered": True, "source": "rest", "usual_fill": 1.0}
    assert [evidence(holes, n).get("answered") for n in (1, 2, 3)] == [False, False, False]
    assert evidence(holes, 2)["empty_once"] is True
    assert holes.can_be_healed.tolist() == [False, True, True, True]
    assert answered_share(holes) == pytest.approx(1 - 3 / LONG)


def test_what_was_asked_for_is_looked_at_by_default(store, write):
    write("btcusdt", without=[0, 599])
    assert shown(holes_of(store)) == [(0, 1, "absent", False), (599, 600, "absent", False)]


def test_removed_rows_are_unrecorded_and_say_so(store, write):
    write("btcusdt")
    with store.connect("binance", MINUTES) as connection:
        connection.run(f"DELETE FROM {MINUTES.name} WHERE timestamp IN ({at(5)}, {at(6)}, {at(9)})")
    holes = holes_of(store)
    assert shown(holes) == [(5, 7, "unrecorded", False), (9, 10, "unrecorded", False)]
    assert evidence(holes)["removed"] == 2


def test_before_listing_and_after_delisting(store, write):
    write("btcusdt", without=[*range(20), *range(580, 600)])
    ids = ["cryptopair_binance_btcusdt"]
    row = {
        "id": ids,
        "entity_id": ids,
        "entity_type": ["cryptopair"],
        "exchange": ["binance"],
        "code": ["btcusdt"],
        "list_date": [at(18)],
        "end_date": [at(585)],
    }
    with store.connect("binance", PAIR) as connection:
        write_entities(connection, PAIR, pa.table(row))
    holes = holes_of(store, start=at(0), end=at(LONG + 100))
    assert shown(holes) == [
        (0, 18, "before_listing", False),
        (18, 20, "absent", False),
        (580, 585, "absent", False),
        (585, 700, "after_delisting", False),
    ]
    assert evidence(holes)["list_date"] == "2024-01-01T00:18:00Z"
    assert evidence(holes, 3)["end_date"] == "2024-01-01T09:45:00Z"
    assert answered_share(holes) == 1


def test_trades_tell_a_quiet_hole_from_a_lost_candle(store, write, trade):
    write("btcusdt", without=[10, 11, 12, 50, 90])
    trade("btcusdt", [9, 12, 12, 13, 90], answered=[(0, 60)])
    holes = holes_of(store)
    assert shown(holes) == [
        (10, 12, "no_trade", False),
        (12, 13, "contradicted", False),
        (50, 51, "no_trade", False),
        (90, 91, "contradicted", False),
    ]
    assert (evidence(holes, 1)["trades_covered"], evidence(holes, 1)["trades"]) == (True, 2)
    assert (evidence(holes, 3)["trades_covered"], evidence(holes, 3)["trades"]) == (False, 1)
    assert holes.can_be_healed.tolist() == [False, True, False, True]


def test_an_outage_is_told_by_another_venue(store, write):
    write("btcusdt", without=[*range(100, 120), 150])
    write("ethusdt", without=range(100, 120))
    write("btcusdt", provider="okx", without=[150])
    holes = holes_of(store)
    assert shown(holes) == [(100, 120, "outage", False), (150, 151, "absent", False)]
    assert (evidence(holes)["second_venue"], evidence(holes)["candles"]) == ("okx", 20)
    assert evidence(holes)["same_venue_missing"] == [1, 1]
    assert evidence(holes, 1)["same_venue_missing"] == [0, 1]


def test_an_outage_is_told_by_many_markets_of_the_venue(store, write):
    for code in ("btcusdt", "ethusdt", "solusdt", "xrpusdt"):
        write(code, without=range(100, 120))
    assert shown(holes_of(store)) == [(100, 120, "outage", False)]


def test_a_thin_market_beside_others_has_no_trades(store, write):
    write("abcusdt", without=range(0, LONG, 3))
    write("btcusdt")
    holes = holes_of(store, "abcusdt")
    assert {kind for _, _, kind, _ in shown(holes)} == {"no_trade"}
    assert evidence(holes)["usual_fill"] == pytest.approx(2 / 3, abs=0.001)


def test_proven_holes_are_told_and_parted_from_the_rest(store, write):
    write("btcusdt", without=range(10, 20))
    [series] = recorded_series(store, "binance", MINUTES)
    with store.connect("binance", MINUTES) as connection, connection.transaction():
        entries = [Proof(at(a), at(b), "absent", (), 0) for a, b in ((10, 12), (12, 15))]
        proofs.add(connection, series.key, entries)
    holes = find_holes(store, series)
    assert shown(holes) == [(10, 15, "absent", True), (15, 20, "absent", False)]
    assert holes.is_unproven.tolist() == [False, True]


def test_a_proof_does_not_hold_against_trades(store, write, trade):
    write("btcusdt", without=[10])
    [series] = recorded_series(store, "binance", MINUTES)
    with store.connect("binance", MINUTES) as connection, connection.transaction():
        proofs.add(connection, series.key, [Proof(at(10), at(11), "absent", (), 0)])
    trade("btcusdt", [10], answered=[(0, 20)])
    assert shown(holes_of(store)) == [(10, 11, "contradicted", False)]


def test_missing_funding_events(store):
    ts = np.array([0, 8, 24, 32]) * HOUR_MS + START
    batch = pa.table(
        {
            "ts": ts,
            "funding_rate": [0.0001] * 4,
            "funding_interval_hours": [None, 8.0, 8.0, 8.0],
            "mark_price": pa.nulls(4, pa.float64()),
        }
    ).cast(FUNDING.schema)
    with store.connect("binance", FUNDING) as connection:
        writer = SeriesWriter(connection, FUNDING)
        key = writer.entity_key(Entity("cryptoperp_binance_btcusdt", "btcusdt", None))
        writer.write_page(key, batch, answered=[(START, START + 40 * HOUR_MS)])
    holes = holes_of(store, spec=FUNDING)
    [hole] = holes.to_list()
    assert (hole["start"], hole["missing"], hole["kind"]) == (START + 16 * HOUR_MS, 1, "contradicted")
    assert (evidence(holes)["interval_hours"], evidence(holes)["said_hours"]) == (8.0, 8.0)


def test_nothing_recorded(store):
    assert recorded_series(store, "binance", MINUTES) == []
    with store.connect("binance", MINUTES) as connection:
        SeriesWriter(connection, MINUTES).entity_key(Entity("cryptopair_binance_btcusdt", "btcusdt", None))
    holes = holes_of(store)
    assert (len(holes.gaps), holes.rows, answered_share(holes)) == (0, 0, 1.0)
