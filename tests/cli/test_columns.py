"""compact, and the options of query that make other rows of recorded ones."""

from __future__ import annotations

import pytest


@pytest.fixture
def recorded(inside, fill):
    fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 300, holes=(10, 11, 12, 200), answered=300)
    return inside


class TestQuery:
    def test_resampled(self, recorded):
        rows = recorded.json("query", "--level", "1m", "--codes", "btcusdt", "--resample", "1h")
        assert [row["timestamp"] for row in rows] == [f"2024-01-01T0{hour}:00:00Z" for hour in range(5)]
        assert rows[0]["level"] == "1h"
        assert "is_finished" not in rows[0]

    def test_an_unfinished_bar_is_marked_where_asked(self, recorded):
        asked = [
            "query",
            "--level",
            "1m",
            "--resample",
            "1h",
            "--end",
            "2024-01-01T01:30",
            "--columns",
            "close",
        ]
        assert len(recorded.json(*asked)) == 1
        marked = recorded.json(*asked, "--unfinished", "mark")
        assert [row["is_finished"] for row in marked] == [True, False]

    def test_filled(self, recorded):
        rows = recorded.json("query", "--level", "1m", "--fill", "ffill", "--limit", "14")
        assert [row["is_filled"] for row in rows] == [False] * 10 + [True] * 3 + [False]
        assert rows[11]["close"] == rows[9]["close"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--resample", "10m"], "unknown level '10m'"),
            (["--resample", "x'; DROP TABLE rows"], "unknown level"),
            (["--fill", "bfill"], "'bfill' is not one of"),
        ],
    )
    def test_misuse(self, recorded, arguments, says):
        assert says in recorded("query", "--level", "1m", *arguments, code=2).stderr


class TestCompact:
    def test_makes_what_is_missing_once(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 70_000)
        fill("CryptoPair1mKdata", "ethusdt", "ETH/USDT", 100)
        [first] = inside.json("compact")
        assert (first["provider"], first["table"]) == ("binance", "CryptoPair1mKdata")
        assert first["made"] >= 1
        assert 0 < first["rows"] <= 70_000
        [again] = inside.json("compact", "CryptoPair1mKdata", "--provider", "binance")
        assert (again["made"], again["kept"], again["bytes"]) == (0, first["made"], 0)

    def test_for_people(self, recorded):
        lines = recorded("compact").stdout.splitlines()
        assert lines[0].split() == ["provider", "table", "made", "kept", "dropped", "rows", "MB"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["CryptoPair1mKdat"], "did you mean"),
            (["--provider", "nobody"], "unknown provider 'nobody'"),
            (["CryptoPair1hKdata"], "CryptoPair1hKdata is not recorded"),
        ],
    )
    def test_misuse(self, recorded, arguments, says):
        assert says in recorded("compact", *arguments, code=2).stderr

    def test_nothing_recorded(self, inside):
        assert "nothing is recorded" in inside("compact", code=2).stderr
