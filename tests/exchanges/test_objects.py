"""What is made of the rows that venues send as objects."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.exchanges.objects import synthetic_ids

TRADES = st.lists(
    st.tuples(
        st.integers(1_700_000_000_000, 1_700_000_000_002),
        st.sampled_from([42_000.5, 1e-8, 0.1]),
        st.sampled_from([0.01, 3.0]),
        st.sampled_from(["buy", "sell", None]),
    ),
    max_size=30,
)
KINDS = (pa.int64(), pa.float64(), pa.float64(), pa.string())


def ids_of(trades):
    table = pa.table(
        [pa.array([row[i] for row in trades], kind) for i, kind in enumerate(KINDS)], names=list("tpvs")
    )
    return synthetic_ids(*table.columns).to_pylist()


def test_an_id_says_what_the_trade_is_and_which_of_those_alike():
    trade = (1_700_000_000_000, 42_000.5, 0.01, "buy")
    assert ids_of([trade, trade]) == ["1700000000000-42000.5-0.01-buy-0", "1700000000000-42000.5-0.01-buy-1"]
    assert ids_of([(1_700_000_000_000, 1e-8, 3.0, None)]) == ["1700000000000-1e-8-3--0"]


@given(TRADES)
def test_ids_are_unique_and_do_not_depend_on_the_order(trades):
    ids = ids_of(trades)
    assert len(set(ids)) == len(trades)
    assert set(ids_of(trades[::-1])) == set(ids)


@given(TRADES, st.integers(0, 30), st.integers(0, 30))
def test_overlapping_pages_add_up_to_all_trades(trades, first, second):
    trades = sorted(trades, key=str)
    lower, upper = sorted((first, second))
    # A page that is cut among trades that are alike is followed by one that holds all of these.
    while 0 < lower < len(trades) and trades[lower - 1] == trades[lower]:
        lower -= 1
    assert set(ids_of(trades[:upper])) | set(ids_of(trades[lower:])) == set(ids_of(trades))


@given(TRADES)
def test_the_numbers_are_in_the_id_as_they_are(trades):
    for identity, (ts, price, volume, side) in zip(ids_of(trades), trades, strict=True):
        # A negative exponent has a dash of its own.
        parts = identity.replace("e-", "e/").split("-")
        assert int(parts[0]) == ts
        assert [float(part.replace("e/", "e-")) for part in parts[1:3]] == [price, volume]
        assert parts[3] == (side or "")
