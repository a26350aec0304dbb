"""export and import as people and programs use them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

FREQTRADE = ("export", "--layout", "freqtrade", "-o", "ft")


class TestExport:
    def test_everything_as_one_dataset(self, recorded):
        done = recorded("export", "-o", "out")
        assert done.stdout.startswith("394 rows of 3 files (0.0 MB) in out\n")
        assert done.stderr.splitlines() == [
            "binance btcusdt 1m: 296 rows",
            "binance ethusdt 1m: 50 rows",
            "binance btcusdt-perp 1h: 48 rows",
        ]
        frame = pd.read_parquet(recorded.folder / "out")
        assert frame.groupby(["table", "code"], observed=True).size().tolist() == [296, 50, 48]

    @pytest.mark.parametrize("form", ["parquet", "feather", "csv", "arrow"])
    def test_some_of_a_table(self, recorded, form):
        answer = recorded.json(
            *("export", "CryptoPair1mKdata", "--codes", "BTC/USDT", "--format", form, "-o", "out"),
            *("--start", "2024-01-01T00:09", "--end", "2024-01-01T00:14"),
        )
        path = f"out/provider=binance/table=cryptopair_1m_kdata/code=btcusdt/data.{form}"
        [outcome] = answer["outcomes"]
        assert (answer["files"], answer["rows"], answer["exit_code"], answer["error"]) == (1, 3, 0, None)
        assert (outcome["path"], outcome["rows"], outcome["errors"]) == (path, 3, [])
        assert (outcome["provider"], outcome["table"], outcome["entity_id"]) == (
            "binance",
            "cryptopair_1m_kdata",
            "cryptopair_binance_btcusdt",
        )
        assert answer["bytes"] == (recorded.folder / path).stat().st_size

    def test_level_and_perps(self, recorded):
        assert recorded.json("export", "--level", "1h", "--perps", "-o", "out")["rows"] == 48

    def test_freqtrade(self, recorded):
        recorded(*FREQTRADE)
        found = sorted(str(p.relative_to(recorded.folder)) for p in recorded.folder.glob("ft/**/*.feather"))
        assert found == [
            "ft/BTC_USDT-1m.feather",
            "ft/ETH_USDT-1m.feather",
            "ft/futures/BTC_USDT_USDT-1h-futures.feather",
        ]
        assert len(pd.read_feather(recorded.folder / found[0])) == 296

    def test_nothing_in_that_time(self, recorded):
        done = recorded("export", "--start", "2025-01-01", "-o", "out")
        assert done.stdout == "0 rows of 0 files (0.0 MB) in out\n"
        assert not (recorded.folder / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("export",), "--out"),
            (("export", "CryptoPair1mKdata", "--level", "1m", "-o", "out"), "exclude each other"),
            (("export", "CryptoPair2mKdata", "-o", "out"), "CryptoPair1mKdata"),
            (("export", "--codes", "btcusdt", "-o", "out"), "give a table"),
            (("export", "--level", "1m", "--codes", "btcusd", "-o", "out"), "did you mean btcusdt"),
            (("export", "--provider", "binanse", "-o", "out"), "did you mean binance"),
            (("export", "--format", "xlsx", "-o", "out"), "parquet"),
            ((*FREQTRADE, "--format", "csv"), "choose feather or parquet"),
            (("export", "--start", "2024-02-01", "--end", "2024-01-01", "-o", "out"), "swap them"),
            (("export", "-o", "out", "--data-path", "elsewhere"), "nothing is recorded"),
            (("export", "-o", "file/out"), "Not a directory"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
    )
    def test_misuse(self, recorded, arguments, says):
        (recorded.folder / "file").write_text("a file")
        done = recorded(*arguments, code=2)
        assert says in done.stderr.splitlines()[-1]
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert [path.name for path in recorded.folder.iterdir()] == ["file", "data"] or not any(
            recorded.folder.glob("out/**/*.*")
        )

    def test_freqtrades_names_hold_one_provider(self, recorded, fill):
        fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 5, provider="okx")
        assert "binance, okx" in recorded(*FREQTRADE, code=2).stderr
        assert recorded.json(*FREQTRADE, "--provider", "okx")["rows"] == 5


class TestImport:
    @pytest.mark.parametrize("form", ["parquet", "feather", "csv", "arrow"])
    def test_back_into_another_folder(self, recorded, form):
        recorded("export", "--format", form, "-o", "out")
        done = recorded("import", "out", "--data-path", "other")
        assert done.stdout.startswith("394 rows of 3 files (0.")
        assert done.stdout.endswith("stored in other\n")
        assert "binance btcusdt-perp 1h: 48 rows" in done.stderr
        columns = ("--columns", "timestamp,entity_id,open,high,low,close,volume,turnover,trade_count,vwap")
        for table in ("CryptoPair1mKdata", "CryptoPerp1hKdata"):
            rows = recorded.json("query", table, *columns)
            assert recorded.json("query", table, *columns, "--data-path", "other") == rows
        if form != "csv":
            [pairs, _] = recorded.json("report", "--data-path", "other")["tables"]
            assert (pairs["symbols"][0]["missing_absent"], pairs["symbols"][0]["missing_unrecorded"]) == (
                3,
                1,
            )

    def test_freqtrade(self, recorded):
        recorded(*FREQTRADE)
        (recorded.folder / "ft" / "BTC_USDT-trades.feather").write_bytes(
            (recorded.folder / "ft" / "BTC_USDT-1m.feather").read_bytes()
        )
        assert "--provider" in recorded("import", "ft", "--data-path", "other", code=2).stderr
        answer = recorded.json("import", "ft", "--provider", "kraken", "--data-path", "other")
        assert (answer["files"], answer["rows"], answer["skipped"]) == (3, 394, 1)
        assert answer["outcomes"][2]["entity_id"] == "cryptoperp_kraken_btcusdt"
        again = recorded("import", "ft/BTC_USDT-1m.feather", "--provider", "kraken", "--data-path", "other")
        assert again.stdout.startswith("296 rows of 1 files")

    def test_one_bad_file_does_not_stop_the_others(self, recorded):
        recorded("export", "--format", "csv", "-o", "out")
        first = recorded.folder / "out/provider=binance/table=cryptopair_1m_kdata/code=btcusdt/data.csv"
        text = first.read_text().replace('"2024-01-01T00:01:00Z",100', '"2024-01-01T00:01:00Z",900')
        first.write_text(text)
        second = first.parents[1] / "code=ethusdt/data.csv"
        second.write_text(second.read_text().replace("100.5", "much"))
        done = recorded("import", "out", "missing.csv", "--data-path", "other", code=3)
        rejected, damaged, missing = done.stderr.splitlines()[-3:]
        assert "(1 rows, first at 2024-01-01T00:01:00Z)" in rejected
        assert "[CRYPTO_DATA_QUALITY_FAILURE]" in rejected
        assert "'much'" in damaged
        assert "missing.csv" in missing
        assert "[CRYPTO_INVALID_ARGUMENT]" in missing
        assert "binance ethusdt 1m: failed" in done.stderr
        answer = recorded.json("import", "out", "--data-path", "other", code=3)
        assert answer["rows"] == 295 + 48
        assert answer["outcomes"][0]["rejected"] == {"high below or low above another price": 1}
        assert answer["outcomes"][1]["errors"][0]["code"] == "CRYPTO_DATA_QUALITY_FAILURE"

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            ((), 2, "PATH"),
            (("missing",), 2, "missing"),
            (("empty",), 2, "holds no files"),
            (("no.parquet",), 1, "damaged or is no parquet file"),
            (("empty", "--provider", "../x"), 2, "'../x' cannot name a provider"),
            (("provider=..%2Fx",), 2, "'../x' cannot name a provider"),
        ],
        ids=str,
    )
    def test_misuse(self, inside, arguments, code, says):
        (inside.folder / "empty").mkdir()
        (inside.folder / "no.parquet").write_text("this is none")
        path = inside.folder / "provider=..%2Fx/table=cryptopair_1m_kdata/code=btcusdt/data.csv"
        path.parent.mkdir(parents=True)
        path.write_text("timestamp,open,high,low,close,volume\n2024-01-01T00:00:00Z,1,1,1,1,1\n")
        done = inside("import", *arguments, code=code)
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert says in last
        assert not inside.data_path.exists()
        answer = inside.json("import", *arguments, code=code)
        assert "error" in answer or answer["errors"]

    def test_what_record_does_with_it(self, exchange):
        """Imported candles with their ledger are not fetched again."""
        record = (
            "record",
            "--provider",
            "binance",
            "--codes",
            "btcusdt",
            "--levels",
            "1h",
            "--start",
            "2024-02-27",
        )
        first = exchange.json(*record)
        assert first["rows"] > 48
        exchange("export", "-o", "out")
        moved = ("--data-path", str(exchange.folder / "other"))
        exchange("import", "out", *moved)
        again = exchange.json(*record, *moved)
        assert [(o["rows"], o["state"]) for o in again["outcomes"] if "kdata" in o["table"]] == [
            (0, "already recorded")
        ]


def test_as_processes_with_one_killed(cli, fill):
    fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 60_000)
    killed = cli.start("export", "--format", "csv", "-o", "out")
    while killed.poll() is None and not any(cli.folder.glob("out/**/.*.draft")):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    killed.stderr.close()
    done = cli("import", "out", "--data-path", "other", code=2)
    assert "holds no files that can be imported, only 1 others" in done.stderr
    assert cli("export", "-o", "out", "--no-progress").stderr == ""
    assert cli.json("import", "out", "--data-path", "other")["rows"] == 60_000


@pytest.mark.parametrize("verb", ["export", "import"])
def test_help_is_light(cli, verb):
    program = (
        f"import sys\nfrom zvt_crypto.cli import main\ntry:\n    main(['{verb}', '--help'])\n"
        "except SystemExit:\n    sys.exit(' '.join({'pyarrow', 'pandas', 'pydantic'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | cli.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: zvt-crypto {verb} [OPTIONS]" in done.stdout
