from __future__ import annotations

import sys

import pytest


def by_area(report):
    return {finding["area"]: finding for finding in report["findings"]}


def test_versions_paths_and_traps_without_a_network(exchange):
    report = exchange.json("doctor", "--offline")
    assert report["ok"] is True
    found = by_area(report)
    assert sys.executable in found["python"]["what"]
    assert all(f"{name} " in found["packages"]["what"] for name in ("zvt", "ccxt", "pandas", "pyarrow"))
    assert found["sqlite"]["what"].startswith("3.")
    assert found["zvt import"]["state"] == "ok"
    assert str(exchange.data_path) in found["data folder"]["what"]
    assert found["databases"]["what"] == "none yet"
    assert not any("clock" in area for area in found)
    assert all(finding["todo"] for finding in report["findings"] if finding["state"] != "ok")


def test_ccxt_held_back_by_zvts_pins_says_what_to_do(exchange):
    import ccxt

    finding = by_area(exchange.json("doctor", "--offline"))["ccxt"]
    assert finding["what"].startswith(ccxt.__version__)
    if ccxt.__version__ == "4.5.64":
        assert finding["state"] == "warn"
        assert "pip install --no-deps -U ccxt" in finding["todo"]


def test_clocks_agree(cli):
    from zvt_crypto.sandbox import Sandbox

    with Sandbox(seed=1) as box:
        found = by_area(cli.json("doctor", "--gateway", box.url))
        assert {found[f"{name} clock"]["state"] for name in ("binance", "okx")} == {"ok"}
        assert found["gateway"]["state"] == "ok"


@pytest.mark.parametrize(("fast", "state", "code"), [(2_000, "warn", 0), (60_000, "fail", 1)])
def test_a_wrong_clock_is_told(cli, fast, state, code):
    from zvt_crypto.sandbox import Sandbox

    with Sandbox(seed=1, faults=[f"clock_skew:{fast}"]) as box:
        finding = by_area(cli.json("doctor", "--gateway", box.url, code=code))["binance clock"]
    assert finding["state"] == state
    assert "behind the exchange" in finding["what"]
    assert "NTP" in finding["todo"]


def test_a_gateway_that_is_not_there(cli):
    report = cli.json("doctor", code=1)
    found = by_area(report)
    assert found["gateway"]["state"] == "fail"
    assert "unset ZVT_CRYPTO_GATEWAY" in found["gateway"]["todo"]
    assert found["binance clock"]["what"].startswith("skipped")


def test_damaged_databases_are_found(exchange, cli, fill):
    fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 5000)
    fill("CryptoPair1hKdata", "btcusdt", "BTC/USDT", 50)
    fill("CryptoPair1dKdata", "btcusdt", "BTC/USDT", 5)
    folder = cli.data_path / "binance"
    (folder / "binance_cryptopair_1h_kdata.db").write_bytes(b"no database" * 1000)
    cut = folder / "binance_cryptopair_1m_kdata.db"
    cut.write_bytes(cut.read_bytes()[:-40_000])
    report = exchange.json("doctor", "--offline", code=1)
    damaged = [f for f in report["findings"] if f["area"] == "database"]
    assert len(damaged) == 2
    assert all(f["state"] == "fail" and "record again" in f["todo"] for f in damaged)
    assert by_area(report)["databases"]["what"] == "1 files are whole"


def test_a_data_folder_that_cannot_be_one(exchange):
    blocked = exchange.folder / "file"
    blocked.write_text("")
    finding = by_area(exchange.json("doctor", "--offline", "--data-path", str(blocked / "data"), code=1))[
        "data folder"
    ]
    assert finding["state"] == "fail"
    assert "ZVT_CRYPTO_DATA_PATH" in finding["todo"]


def test_for_people(exchange):
    text = exchange("doctor", "--offline").stdout
    assert text.startswith("ok   python")
    assert "\n                    -> " in text
