"""The outcomes that are kept."""

from dataclasses import replace

import pytest

from zvt_crypto.core.errors import StoreCorrupt
from zvt_crypto.scheduling.history import RUNS_KEPT, ErrorLine, History
from zvt_crypto.store.sqlite import Connection


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "history.db"


@pytest.fixture
def history(path):
    made = History(path, busy_timeout=2.0)
    yield made
    made.close()


def test_an_outcome_is_read_as_it_was_written(history, path):
    begun = history.begin("käse 'n\" chips", 1_700_000_000_123)
    assert history.newest(5) == [begun]
    assert (begun.state, begun.finished) == ("running", None)
    ended = replace(
        begun,
        finished=1_700_000_001_000,
        state="partial",
        rows=12,
        requests=3,
        exit_code=3,
        errors=(ErrorLine("CRYPTO_PAIR_NOT_FOUND", "unknown 'x'"), ErrorLine("CRYPTO_ERROR", "…")),
        missing=("cryptopair_1m_kdata cryptopair_okx_x",),
    )
    history.finish(ended)
    history.close()
    again = History(path, busy_timeout=2.0)
    assert again.newest(5) == [ended]
    again.close()


def test_the_newest_of_each_entry_are_kept(history):
    for number in range(RUNS_KEPT + 3):
        history.finish(replace(history.begin("often", number), state="done", exit_code=0))
        if number == 1:
            history.finish(replace(history.begin("seldom", number), state="done", exit_code=0))
    kept = history.newest(10_000, "often")
    assert [record.started for record in kept] == list(range(RUNS_KEPT + 2, 2, -1))
    assert len(history.newest(10_000, "seldom")) == 1
    assert history.newest(1)[0].started == RUNS_KEPT + 2


def test_what_was_under_way_is_interrupted(history):
    done = replace(history.begin("a", 1), state="done", exit_code=0)
    history.finish(done)
    killed = history.begin("b", 2)
    assert history.end_interrupted() == [replace(killed, state="interrupted")]
    assert history.end_interrupted() == []
    assert [record.state for record in history.newest(5)] == ["interrupted", "done"]


def test_only_runs_that_came_to_an_end_of_their_own_count_as_run(history):
    history.finish(replace(history.begin("a", 10), state="failed", exit_code=1))
    history.finish(replace(history.begin("a", 20), state="cancelled"))
    history.begin("a", 30)
    assert dict(history.last_ended()) == {"a": 10}


def test_a_file_of_a_newer_version_and_one_that_is_none(path, tmp_path):
    path.parent.mkdir()
    with Connection(path, busy_timeout=1.0) as connection:
        connection.run("PRAGMA user_version = 99")
    with pytest.raises(StoreCorrupt, match="99"):
        History(path, busy_timeout=1.0)
    other = tmp_path / "other.db"
    other.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(StoreCorrupt):
        History(other, busy_timeout=1.0)
