"""A dry run says what the run then takes, and stores no row."""

import pytest
from conftest_recorders import NOW, Recorder, tables

from zvt_crypto.core.config import ExchangeSettings
from zvt_crypto.core.errors import NotSupported
from zvt_crypto.domain import load_tables
from zvt_crypto.recorders.run import Run, Selection

load_tables()
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def forecast_and_run(recorder, name, provider, codes=("btcusdt",), **selection):
    chosen = Selection(provider, (tables.find(name),), codes=codes, **selection)
    forecasts = Run(recorder.settings, chosen).forecast()
    assert not recorder.store.exists(provider, tables.find(name)), "a dry run makes no table"
    return forecasts, Run(recorder.settings, chosen).start()


PLACES = ["binance", "bybit", "coinbase", "cryptocom", "kraken", "kucoin", "okx"]


@pytest.mark.parametrize("provider", PLACES)
@pytest.mark.parametrize("name", ["CryptoPair1mKdata", "CryptoPair1hKdata"])
def test_candles(recorder, provider, name):
    (made,), report = forecast_and_run(recorder, name, provider, start=NOW - 10 * HOUR)
    assert made.error is None and made.files == 0 and len(made.ranges) == 1
    assert (made.rows, made.requests) == (report.rows, report.requests)


@pytest.mark.parametrize("provider", ["binance", "okx", "kraken", "coinbase", "cryptocom"])
def test_trades_within_a_fifth(recorder, provider):
    (made,), report = forecast_and_run(
        recorder, "CryptoTrade", provider, start=NOW - 2 * HOUR, end=NOW - MINUTE
    )
    assert report.exit_code == 0, report.failed
    # Pages may overlap, and only what differs is kept.
    kept = recorder.rows("CryptoTrade", f"cryptopair_{provider}_btcusdt", provider).num_rows
    assert made.rows == pytest.approx(kept, rel=0.2) and made.samples > 0
    assert made.requests == pytest.approx(report.requests, rel=0.2)


def test_trades_of_which_only_the_newest_can_be_had(recorder):
    (made,), report = forecast_and_run(recorder, "CryptoTrade", "bybit", start=NOW - DAY)
    assert (made.requests, report.requests) == (1, 1) and made.rows <= 60


@pytest.mark.parametrize("provider", ["binance", "okx", "bybit"])
def test_funding(recorder, provider):
    (made,), report = forecast_and_run(recorder, "CryptoFunding", provider, start=NOW - 60 * DAY)
    assert made.rows == pytest.approx(report.rows, abs=1)
    assert made.requests == pytest.approx(report.requests, rel=0.2, abs=1)


def test_only_what_is_missing_counts_and_bytes_are_those_of_the_table(recorder):
    start = NOW - 20 * DAY
    recorder.record("CryptoPair1mKdata", start=start, end=NOW - 5 * DAY)
    chosen = Selection("binance", (tables["cryptopair_1m_kdata"],), codes=("btcusdt",), start=start)
    (made,) = Run(recorder.settings, chosen).forecast()
    assert 5 * 1440 - 2 <= made.rows <= 5 * 1440 and 30 < made.bytes / made.rows < 80
    assert Run(recorder.settings, chosen).start().rows == made.rows
    (nothing,) = Run(recorder.settings, chosen).forecast()
    assert (nothing.ranges, nothing.rows, nothing.requests) == ([], 0, 0)


def test_minutes_are_those_of_the_venues_budget(recorder, box, tmp_path):
    """Binance: klines take 2 of 6,000 weights a minute, which ccxt counts as 20 ms."""
    settings = recorder.settings.model_copy(update={"rate_limit": True})
    chosen = Selection("binance", (tables["cryptopair_1m_kdata"],), codes=("btcusdt",), start=NOW - 10 * DAY)
    # The first one also asks when the market was listed.
    Run(settings, chosen).forecast()
    box.forget_requests()
    (made,) = Run(settings, chosen).forecast()
    assert made.requests == 15 and made.seconds == pytest.approx(15 * 0.02)
    assert not [request for request in box.requests if "klines" in request.path], (
        "a priced request is not made"
    )


def test_an_exchange_has_a_concurrency_of_its_own(recorder):
    """It decides into how many windows trades are cut, and so how many requests they take."""

    def requests(**changed):
        settings = recorder.settings.model_copy(update=changed)
        chosen = Selection(
            "binance", (tables["cryptotrade"],), codes=("dogeusdt",), start=NOW - 6 * HOUR, force=True
        )
        (made,) = Run(settings, chosen).forecast()
        return made.requests, Run(settings, chosen).start().requests

    own = {"binance": ExchangeSettings(concurrency=12)}
    assert requests(concurrency=1) < requests(concurrency=12) == requests(concurrency=1, exchange=own)


def test_what_cannot_be_had_is_said_beforehand(recorder):
    (made,), report = forecast_and_run(recorder, "CryptoPair1mKdata", "kraken", start=NOW - 3 * DAY)
    assert isinstance(made.error, NotSupported) and made.rows == report.rows == 720


def test_an_exchange_that_is_gone_is_told(recorder, box):
    recorder.record("CryptoPair")
    box.faults = ["status:503,path=aggTrades"]
    chosen = Selection("binance", (tables["cryptotrade"],), codes=("btcusdt",), start=NOW - HOUR)
    (made,) = Run(recorder.settings, chosen).forecast()
    assert made.error is not None and made.error.code == "CRYPTO_PROVIDER_UNAVAILABLE"


assert Recorder
