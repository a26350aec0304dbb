"""The verdict on absent candles, slot by slot, from made-up evidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.quality.evidence import Seen, TradesSeen, Witness, facts, judge, pieces, usual_fill
from zvt_crypto.quality.gaps import ABSENT, CONTRADICTED, KINDS, NO_TRADE, OUTAGE, Gaps

DENSE, THIN, UNKNOWN = 1.0, 0.4, float("nan")


def seen(*, trades=None, peers=(), elsewhere=(), fill=DENSE, slots=1):
    """Evidence that is the same for all slots; witnesses as (asked, has a candle, fill)."""

    def witness(asked, has, its_fill):
        return Witness("okx", np.full(slots, asked), np.full(slots, has), its_fill)

    counted = None if trades is None else TradesSeen(np.full(slots, trades[0]), np.full(slots, trades[1]))
    times = np.arange(slots, dtype=np.int64) * MINUTE_MS
    return Seen(times, counted, [witness(*p) for p in peers], [witness(*e) for e in elsewhere], fill)


HERE, GONE, NEVER_ASKED = (True, True, DENSE), (True, False, DENSE), (False, False, DENSE)
THIN_GONE = (True, False, THIN)


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        ({}, ABSENT),
        ({"trades": (True, 3)}, CONTRADICTED),
        ({"trades": (False, 1)}, CONTRADICTED),
        ({"trades": (True, 0)}, NO_TRADE),
        ({"trades": (False, 0)}, ABSENT),
        ({"elsewhere": [HERE]}, OUTAGE),
        ({"elsewhere": [HERE], "fill": THIN}, ABSENT),
        ({"elsewhere": [HERE], "fill": UNKNOWN}, ABSENT),
        ({"elsewhere": [HERE], "fill": THIN, "peers": [GONE]}, OUTAGE),
        ({"elsewhere": [HERE], "fill": THIN, "peers": [THIN_GONE]}, ABSENT),
        ({"elsewhere": [HERE], "peers": [HERE, GONE]}, ABSENT),
        ({"elsewhere": [GONE], "peers": [GONE]}, ABSENT),
        ({"peers": [GONE] * 3}, OUTAGE),
        ({"peers": [GONE] * 2 + [NEVER_ASKED]}, ABSENT),
        ({"peers": [THIN_GONE] * 5}, ABSENT),
        ({"peers": [HERE], "fill": THIN}, NO_TRADE),
        ({"peers": [HERE], "fill": DENSE}, ABSENT),
        ({"peers": [HERE], "fill": UNKNOWN}, ABSENT),
        ({"trades": (True, 0), "peers": [GONE] * 3}, OUTAGE),
        ({"trades": (True, 2), "peers": [GONE] * 3, "elsewhere": [HERE]}, CONTRADICTED),
    ],
)
def test_verdicts(evidence, kind):
    assert KINDS[judge(seen(**evidence))[0]] == kind


def test_each_slot_is_judged_by_itself_and_neighbours_of_a_kind_are_one_piece():
    slots = np.array([3, 4, 5, 6, 9], np.int64) * MINUTE_MS
    trades = TradesSeen(np.array([True, True, True, True, False]), np.array([0, 0, 7, 0, 0]))
    gaps = Gaps(slots[[0, 4]], slots[[3, 4]] + MINUTE_MS, np.full(2, KINDS.index(ABSENT)), MINUTE_MS)
    found, first = pieces(gaps, Seen(slots, trades, [], [], DENSE))
    assert [(g["start"] // MINUTE_MS, g["missing"], g["kind"]) for g in found.to_list()] == [
        (3, 2, NO_TRADE),
        (5, 1, CONTRADICTED),
        (6, 1, NO_TRADE),
        (9, 1, ABSENT),
    ]
    told = facts(Seen(slots, trades, [], [], DENSE), first)
    assert {"trades_covered": True, "trades": 7} in told[1]
    assert {"trades_covered": False, "trades": 0} in told[3]


def test_facts_count_markets_and_candles():
    evidence = seen(peers=[GONE, GONE, HERE, NEVER_ASKED], elsewhere=[HERE, NEVER_ASKED], slots=4)
    [told] = facts(evidence, np.array([0]))
    assert {"same_venue_missing": [2, 3]} in told
    assert [fact for fact in told if "second_venue" in fact] == [{"second_venue": "okx", "candles": 4}]
    assert {"usual_fill": 1.0} in told
    assert facts(seen(fill=UNKNOWN), np.array([0])) == [[{"usual_fill": None}]]


@pytest.mark.parametrize(
    ("counts", "fill"), [([5, 60, 60, 60, 7], 1.0), ([60, 30, 24, 36, 60], 0.5), ([60, 60, 3, 60, 60], 1.0)]
)
def test_the_usual_fill_leaves_out_the_ends_and_few_bad_hours(counts, fill):
    assert usual_fill(np.array(counts)) == fill


def test_too_few_candles_tell_nothing():
    assert np.isnan(usual_fill(np.array([60, 60])))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30
    )
)
def test_many_slots_at_once_equal_one_by_one(rows):
    count, covered, has, asked = (np.array(column) for column in zip(*rows, strict=True))
    slots = np.arange(len(rows), dtype=np.int64) * MINUTE_MS

    def judged(chosen):
        witness = Witness("okx", asked[chosen], has[chosen] & asked[chosen], DENSE)
        trades = TradesSeen(covered[chosen], count[chosen])
        return judge(Seen(slots[chosen], trades, [witness], [witness], DENSE)).tolist()

    whole = judged(slice(None))
    assert whole == [judged(slice(i, i + 1))[0] for i in range(len(rows))]
