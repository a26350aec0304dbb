import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata  # noqa: F401
from zvt_crypto.store import coverage

SPEC = "cryptopair_1m_kdata"
SPAN = st.tuples(st.integers(0, 40), st.integers(1, 10)).map(lambda s: (s[0], s[0] + s[1]))
STEP = st.one_of(
    st.tuples(
        st.sampled_from(["add", "extend"]),
        SPAN,
        st.sampled_from(["answered", "empty", "streamed"]),
        st.sampled_from(["rest", "stream"]),
    ),
    st.tuples(st.just("forget"), SPAN, st.just(""), st.just("")),
    st.tuples(st.just("tidy"), SPAN, st.just(""), st.just("")),
)


@pytest.fixture
def connection(store):
    with store.connect("binance", tables[SPEC]) as connection:
        yield connection


@given(st.lists(STEP, max_size=12))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_ledger_is_a_set_of_times(connection, steps):
    expected = {"answered": set(), "empty": set(), "streamed": set()}
    connection.run("DELETE FROM coverage")
    for verb, span, state, source in steps:
        times = set(range(*span))
        if verb in ("add", "extend"):
            enter = coverage.add if verb == "add" else coverage.extend
            enter(connection, 1, span, state=state, source=source)
            expected[state] |= times
        elif verb == "forget":
            coverage.forget(connection, 1, span)
            expected = {name: known - times for name, known in expected.items()}
        else:
            coverage.tidy(connection, 1)
    expected["empty"] -= expected["answered"]
    expected["streamed"] -= expected["answered"]
    for state, times in expected.items():
        found = coverage.covered(connection, 1, state)
        assert {t for start, end in found for t in range(start, end)} == times
    missing = coverage.missing(connection, 1, 0, 60, 1)
    assert {t for start, end in missing for t in range(start, end)} == set(range(60)) - expected["answered"]


def test_entities_do_not_share_spans(connection):
    with connection.transaction():
        coverage.add(connection, 1, (0, 10))
        coverage.add(connection, 2, (5, 20))
    assert coverage.covered(connection, 1) == [(0, 10)]
    assert coverage.covered(connection, 2) == [(5, 20)]


def test_pages_in_a_row_end_as_one_entry(connection):
    for start in range(0, 100, 10):
        coverage.add(connection, 1, (start, start + 10))
    coverage.tidy(connection, 1)
    assert connection.value("SELECT count(*) FROM coverage") == 1


def entries(connection):
    found = connection.query(
        "SELECT state, source, start, stop FROM coverage ORDER BY start, state"
    ).to_pylist()
    return [tuple(row.values()) for row in found]


def test_what_a_stream_enters_piece_by_piece_stays_one_entry(connection):
    for start in range(0, 100, 10):
        coverage.extend(connection, 1, (start, start + 10))
    assert entries(connection) == [("answered", "stream", 0, 100)]
    coverage.extend(connection, 1, (200, 210))
    coverage.extend(connection, 1, (205, 220))
    # Another state, source or entity is no neighbour.
    coverage.extend(connection, 1, (220, 230), state=coverage.STREAMED)
    coverage.extend(connection, 1, (220, 230), source=coverage.REST)
    coverage.extend(connection, 2, (220, 230))
    assert coverage.answered_by(connection, 1) == {"stream": [(0, 100), (200, 220)], "rest": [(220, 230)]}
    assert coverage.covered(connection, 1, coverage.STREAMED) == []
    assert coverage.covered(connection, 2) == [(220, 230)]


def test_what_is_only_streamed_is_missing_until_it_is_answered(connection):
    coverage.extend(connection, 1, (0, 60), state=coverage.STREAMED)
    assert coverage.covered(connection, 1) == []
    assert coverage.missing(connection, 1, 0, 100, 1) == [(0, 100)]
    coverage.add(connection, 1, (20, 40))
    assert coverage.covered(connection, 1, coverage.STREAMED) == [(0, 20), (40, 60)]
    assert coverage.missing(connection, 1, 0, 60, 1) == [(0, 20), (40, 60)]


def test_tidying_forgets_what_was_streamed_and_is_answered_by_now(connection):
    coverage.extend(connection, 1, (0, 60), state=coverage.STREAMED)
    coverage.add(connection, 1, (0, 40))
    coverage.tidy(connection, 1)
    assert entries(connection) == [("answered", "rest", 0, 40), ("streamed", "stream", 40, 60)]
    coverage.add(connection, 1, (40, 60))
    coverage.tidy(connection, 1)
    assert entries(connection) == [("answered", "rest", 0, 60)]
