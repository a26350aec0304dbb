"""gaps, repair, verify and certify, against the sandbox over a socket."""

from __future__ import annotations

import json

import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store

FIRST = 1_704_067_200_000
HOURS = ("--provider", "okx", "--codes", "btcusdt", "--levels", "1h")
RECORD = ("record", *HOURS, "--timerange", "20240227-20240301")
TABLE = "cryptopair_1h_kdata"


def change(cli, sql):
    """Run SQL on the recorded hours of okx."""
    spec = load_tables()[TABLE]
    with Store(Settings(data_path=cli.data_path)).connect("okx", spec) as connection:
        connection.run(sql)


@pytest.fixture
def recorded(exchange):
    """Three days of hours, two rows of which were removed."""
    exchange(*RECORD)
    change(
        exchange,
        f"DELETE FROM {TABLE} WHERE timestamp IN (SELECT ts FROM rows ORDER BY ts LIMIT 2 OFFSET 10)",
    )
    return exchange


class TestGaps:
    def test_kinds_evidence_and_the_next_command(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 300, holes=(10, 11, 12, 250), answered=200)
        fill("CryptoPair1mKdata", "ethusdt", "ETH/USDT", 60)
        found = inside.json("gaps", code=3)
        assert found["totals"] == {
            "absent": {"holes": 1, "missing": 3},
            "unrecorded": {"holes": 1, "missing": 1},
        }
        assert found["can_be_healed"] == 1
        btc, eth = found["series"]
        assert (btc["code"], btc["rows"], eth["holes"]) == ("btcusdt", 296, [])
        absent, unrecorded = btc["holes"]
        assert (absent["start"], absent["end"]) == ("2024-01-01T00:10:00Z", "2024-01-01T00:13:00Z")
        assert (absent["kind"], absent["proven"]) == ("absent", False)
        assert {"answered": True, "source": "rest"} in absent["evidence"]
        assert {"same_venue_missing": [0, 1]} in absent["evidence"]
        assert unrecorded["command"] == (
            "zvt-crypto repair --provider binance --codes cryptopair_binance_btcusdt --levels 1m"
            " --start 2024-01-01T04:10:00Z --end 2024-01-01T04:10:59.999Z"
        )

    def test_for_people(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 300, holes=(10, 250), answered=200)
        text = inside("gaps", "--codes", "btcusdt", code=3).stdout
        assert "binance btcusdt 1m" in text
        assert "answered=yes source=rest" in text
        assert "unrecorded: 1 in all, 1 missing" in text
        assert "zvt-crypto repair --provider binance" in text

    def test_nothing_to_heal_ends_with_zero(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 60, holes=(10,))
        assert inside.json("gaps")["can_be_healed"] == 0
        fill("CryptoPair1mKdata", "ethusdt", "ETH/USDT", 60)
        assert "no gaps" in inside("gaps", "--codes", "ethusdt").stdout

    def test_only_what_is_named(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 60)
        fill("CryptoPair1hKdata", "btcusdt", "BTC/USDT", 60)
        fill("CryptoPerp1hKdata", "btcusdt", "BTC/USDT:USDT", 60, provider="okx")

        def named(*options):
            return [one["entity_id"] + one["level"] for one in inside.json("gaps", *options)["series"]]

        assert len(named()) == 3
        assert named("--levels", "1m") == ["cryptopair_binance_btcusdt1m"]
        assert named("--perps") == named("--provider", "okx") == ["cryptoperp_okx_btcusdt1h"]
        assert named("--codes", "btcusdt-perp") == ["cryptoperp_okx_btcusdt1h"]
        assert named("--codes", "BTC/USDT", "--levels", "1h") == ["cryptopair_binance_btcusdt1h"]


class TestRepair:
    def test_heals_and_then_has_nothing_to_do(self, recorded, box):
        assert recorded.json("gaps", code=3)["totals"] == {"unrecorded": {"holes": 1, "missing": 2}}
        [done] = recorded.json("repair", *HOURS)["series"]
        assert (done["healed"], done["remaining"], done["errors"]) == (2, 0, [])
        assert done["holes_before"] == {"unrecorded": {"holes": 1, "missing": 2}}
        assert done["holes_after"] == {}
        assert recorded.json("gaps")["totals"] == {}
        [again] = recorded.json("repair")["series"]
        assert (again["healed"], again["requests"]) == (0, 0)

    def test_for_people(self, recorded):
        text = recorded("repair", *HOURS, "--no-progress").stdout
        assert "okx btcusdt 1h" in text
        assert "healed" in text

    def test_the_command_of_gaps_does_it(self, recorded):
        [series] = recorded.json("gaps", code=3)["series"]
        program, *command = series["holes"][0]["command"].split()
        assert program == "zvt-crypto"
        recorded(*command)
        assert recorded.json("gaps")["totals"] == {}

    def test_what_stays_empty_is_proven(self, recorded, box):
        box.faults = ["empty_rows,path=candles"]
        [done] = recorded.json("repair", *HOURS)["series"]
        assert (done["healed"], done["proved"], done["remaining"]) == (0, 1, 0)
        [series] = recorded.json("gaps")["series"]
        assert [(hole["kind"], hole["proven"], hole["command"]) for hole in series["holes"]] == [
            ("absent", True, None)
        ]
        assert "absent, proven" in recorded("gaps").stdout
        box.faults = []
        assert recorded.json("repair", "--again")["series"][0]["healed"] == 2

    def test_an_exchange_that_fails_is_a_failure(self, recorded, box):
        box.faults = ["status:503,path=candles"]
        done = recorded("repair", *HOURS, "--max-attempts", "1", code=1)
        assert "[CRYPTO_PROVIDER_UNAVAILABLE]" in done.stderr


class TestVerify:
    def test_unchanged(self, recorded):
        recorded("repair")
        [found] = recorded.json("verify", "--all")["series"]
        assert (found["compared"], found["changed"], found["vanished"], found["lacking"]) == (72, 0, 0, 0)
        assert len(found["windows"]) == found["windows_of"] == 1

    def test_differences_are_told_and_fixed_only_on_demand(self, recorded):
        change(recorded, f"UPDATE {TABLE} SET close = 1.0 WHERE timestamp = (SELECT max(ts) FROM rows)")
        found = recorded.json("verify", "--windows", "1", code=3)["series"][0]
        assert (found["changed"], found["lacking"], found["fixed"]) == (1, 2, 0)
        assert found["columns"]["close"]["rows"] == 1
        text = recorded("verify", code=3).stdout
        assert "close: recorded 1.0, the exchange has" in text
        assert "not recorded" in text
        assert recorded.json("verify", "--fix", code=3)["series"][0]["fixed"] == 3
        assert recorded.json("verify")["series"][0]["changed"] == 0


class TestCertify:
    def test_complete(self, recorded, tmp_path):
        recorded("repair")
        path = tmp_path / "certificates.json"
        shown = recorded.json("certify", *HOURS, "--output", str(path))
        assert json.loads(path.read_text()) == shown
        [made] = shown["certificates"]
        assert (made["complete"], made["rows"], made["coverage"]) == (True, 72, 1.0)
        assert len(made["sha256"]) == 64
        assert made["versions"].keys() >= {"zvt-crypto", "layout"}
        assert "complete" in recorded("certify").stdout
        assert [child.name for child in tmp_path.glob("*.part")] == []

    def test_not_complete(self, recorded):
        [made] = recorded.json("certify", code=3)["certificates"]
        assert made["reasons"] == ["1 hole of 2 rows can be healed"]
        assert "1 hole of 2 rows can be healed" in recorded("certify", code=3).stdout


class TestReport:
    def test_the_verdict_on_each_series(self, inside, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 300, holes=(10, 250, 270), answered=200)
        fill("CryptoPair1mKdata", "ethusdt", "ETH/USDT", 60, holes=(10,))
        symbols = inside.json("report")["tables"][0]["symbols"]
        assert [one["verdict"] for one in symbols] == ["99.3 %: 2 holes can be healed", "complete"]
        assert "99.3 %: 2 holes can be healed" in inside("report").stdout


@pytest.mark.parametrize("verb", ["gaps", "repair", "verify", "certify"])
class TestMisuse:
    def test_nothing_recorded(self, inside, verb):
        assert "nothing is recorded" in inside(verb, code=2).stderr

    def test_unknown_names(self, inside, fill, verb):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 60)
        assert "did you mean btcusdt" in inside(verb, "--codes", "btcusd", code=2).stderr
        assert "unknown level '2m'" in inside(verb, "--levels", "2m", code=2).stderr
        assert "unknown provider 'binanc'" in inside(verb, "--provider", "binanc", code=2).stderr
        assert "--start" in inside(verb, "--start", "2024-02-01", "--end", "2024-01-01", code=2).stderr
        error = inside.json(verb, "--codes", "btcusd", code=2)["error"]
        assert error["code"] == "CRYPTO_PAIR_NOT_FOUND"


def test_misuse_of_options_of_one_verb(inside, fill):
    fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 60)
    assert "exclude each other" in inside("verify", "--all", "--share", "0.1", code=2).stderr
    assert "0<x<=1" in inside("verify", "--share", "0", code=2).stderr
    missing = inside("certify", "--output", "/nowhere/at/all.json", code=2)
    assert "cannot be written" in missing.stderr
