"""Markets that come, go and change their names while they are recorded."""

from dataclasses import replace

import pytest
from conftest_recorders import NOW, Recorder, tables

from zvt_crypto.core.errors import PairNotFound
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.instruments import INSTRUMENTS
from zvt_crypto.store.reader import Query, read

HOUR, DAY = 3_600_000, 86_400_000


def without(symbol):
    return [i for i in INSTRUMENTS if i.symbol != symbol]


def renamed(symbol, base):
    return [replace(i, base=base) if i.symbol == symbol else i for i in INSTRUMENTS]


def pairs(recorder, code):
    found = read(recorder.store, Query(tables["cryptopair"], "binance", codes=(code,))).to_pylist()
    return [
        (row["is_active"], None if row["end_date"] is None else row["end_date"].timestamp()) for row in found
    ]


@pytest.fixture
def at(tmp_path):
    """Runs a recorder against a market of some instruments, always with the same data folder."""

    def opened(instruments, now, use):
        with Sandbox(SimulatedMarket(seed=3, now=now, instruments=instruments)) as box:
            return use(Recorder(box.url, tmp_path))

    return opened


def test_a_market_that_is_listed_no_more_is_kept_and_closed(at):
    at(INSTRUMENTS, NOW, lambda r: r.record("CryptoPair"))
    report = at(without("LINK/USDT"), NOW + DAY, lambda r: r.record("CryptoPair"))
    assert "1 of what binance listed before trade no more" in report.outcomes[0].notes
    ((active, end),) = at(INSTRUMENTS, NOW, lambda r: pairs(r, "linkusdt"))
    assert active is False and end is not None
    at(INSTRUMENTS, NOW + 2 * DAY, lambda r: r.record("CryptoPair"))
    assert at(INSTRUMENTS, NOW, lambda r: pairs(r, "linkusdt")) == [(True, None)], "it is listed again"


def test_a_renamed_market_stops_in_the_middle_of_a_range_and_goes_on_under_its_new_name(at):
    start = NOW - 5 * HOUR

    def first(recorder):
        recorder.record("CryptoPair")
        return recorder.record("CryptoPair1hKdata", codes=("linkusdt",), start=start)

    assert at(INSTRUMENTS, NOW, first).exit_code == 0

    def second(recorder):
        old = recorder.record("CryptoPair1hKdata", codes=("linkusdt",), start=start)
        recorder.record("CryptoPair")
        new = recorder.record("CryptoPair1hKdata", codes=("chainusdt",), start=NOW)
        again = recorder.record("CryptoPair1hKdata", codes=("linkusdt",), start=start)
        return old, new, again, recorder.rows("CryptoPair1hKdata", "cryptopair_binance_linkusdt")

    old, new, again, rows = at(renamed("LINK/USDT", "CHAIN"), NOW + 10 * HOUR, second)
    assert isinstance(old.outcomes[0].errors[0], PairNotFound), "the old name is gone"
    assert new.exit_code == 0 and new.rows == 9
    assert again.outcomes[0].errors and rows.num_rows == 4, "what was recorded stays"


def test_a_list_that_lacks_most_markets_is_not_believed(at):
    at(INSTRUMENTS, NOW, lambda r: r.record("CryptoPair"))
    few = [i for i in INSTRUMENTS if i.symbol in ("BTC/USDT", "ETH/USDT")]
    report = at(few, NOW + DAY, lambda r: r.record("CryptoPair"))
    assert "not believed" in report.outcomes[0].notes[0]
    assert at(INSTRUMENTS, NOW, lambda r: pairs(r, "linkusdt")) == [(True, None)]
