from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.quality.prices import agreement_of, compare_prices

#: Rounding of a handful of operations on doubles.
ULPS = 1e-12

near = st.floats(99, 101)
anywhere = st.floats(1e-6, 1e6)
some_prices = st.lists(st.one_of(near, anywhere), min_size=1, max_size=9)
ages = st.lists(st.integers(0, 600_000), min_size=9, max_size=9)


def named(values):
    return {f"venue{number}": value for number, value in enumerate(values)}


class TestOneTime:
    def test_the_example_of_the_api(self):
        found = compare_prices({"binance": 45250.50, "okx": 45251.00, "bybit": 45249.75})
        answer = found.as_dict()["validation_result"]
        assert {
            "is_valid": answer["is_valid"],
            "max_deviation_pct": round(answer["max_deviation_pct"], 3),
            "outliers": answer["outliers"],
            "confidence_score": round(answer["confidence_score"], 3),
            "recommended_price": round(answer["recommended_price"], 2),
        } == {
            "is_valid": True,
            "max_deviation_pct": 0.003,
            "outliers": [],
            "confidence_score": 0.998,
            "recommended_price": 45250.42,
        }
        assert list(answer) == [
            "is_valid",
            "max_deviation_pct",
            "outliers",
            "confidence_score",
            "recommended_price",
        ]

    def test_deviations_are_signed_percents_of_the_median(self):
        found = compare_prices({"a": 99.0, "b": 100.0, "c": 101.5})
        assert found.median == 100.0
        assert found.deviations_pct == pytest.approx({"a": -1.0, "b": 0.0, "c": 1.5})
        assert found.max_deviation_pct == pytest.approx(2.5)

    def test_a_price_far_off_is_an_outlier_and_not_in_the_recommended_price(self):
        found = compare_prices({"a": 100.0, "b": 100.1, "c": 100.2, "d": 103.0})
        assert (found.outliers, found.is_valid) == (("d",), False)
        assert found.recommended_price == pytest.approx(100.1)

    def test_nearly_equal_prices_have_no_outlier(self):
        # Their MAD is 0.01 %, of which 0.4 % are many times.
        found = compare_prices({"a": 100.0, "b": 100.01, "c": 100.4})
        assert (found.outliers, found.is_valid) == ((), True)
        assert compare_prices({"a": 100.0, "b": 100.0, "c": 100.4}, tolerance_pct=0.1).outliers == ("c",)
        assert compare_prices({"a": 100.0, "b": 100.0, "c": 100.6}).outliers == ("c",)

    def test_the_rule_of_iglewicz_and_hoaglin(self):
        # Median 100, MAD 1: 0.6745 * 5.2 / 1 is above 3.5, 0.6745 * 5.1 / 1 is not.
        around = {"a": 98.0, "b": 99.0, "c": 100.0, "d": 101.0}
        assert compare_prices({**around, "e": 105.1}).outliers == ()
        assert compare_prices({**around, "e": 105.2}).outliers == ("e",)

    def test_of_two_none_is_an_outlier(self):
        found = compare_prices({"a": 100.0, "b": 150.0})
        assert (found.outliers, found.is_valid, found.recommended_price) == ((), False, 125.0)
        assert found.confidence_score < 0.001
        assert compare_prices({"a": 100.0, "b": 100.1}).is_valid

    def test_confidence_by_number(self):
        scores = [compare_prices(named([100.0] * count)).confidence_score for count in (1, 2, 3)]
        assert scores == pytest.approx([0, 0.96, 0.9984])
        far_off = compare_prices({"a": 100.0, "b": 100.0, "c": 200.0})
        assert far_off.confidence_score == pytest.approx(0.64, abs=0.001)

    def test_one_price_is_not_valid(self):
        found = compare_prices({"a": 100.0})
        assert (found.is_valid, found.max_deviation_pct, found.recommended_price) == (False, 0.0, 100.0)

    def test_weights(self):
        prices = {"a": 100.0, "b": 100.2, "c": 150.0}
        assert compare_prices(prices, {"a": 3, "b": 1, "c": 1000}).recommended_price == pytest.approx(100.05)
        assert compare_prices(prices, {"b": 1}).recommended_price == 100.2
        assert compare_prices(prices, {"a": 0, "b": 0}).recommended_price == pytest.approx(100.1)
        assert compare_prices(prices, {"c": 5}).recommended_price == pytest.approx(100.1)
        largest = {"a": 1e308, "b": 1e308}
        assert compare_prices(prices, largest).recommended_price == pytest.approx(100.1)

    @pytest.mark.parametrize(
        ("prices", "options", "says"),
        [
            ({}, {}, "no prices"),
            ({"a": 1.0, "okx": 0.0}, {}, "okx"),
            ({"okx": -1.0}, {}, "-1.0 of okx"),
            ({"okx": math.nan}, {}, "nan"),
            ({"okx": math.inf}, {}, "inf"),
            ({"okx": 1.0}, {"weights": {"okx": -2.0}}, "weight -2.0 of okx"),
            ({"okx": 1.0}, {"weights": {"okx": math.nan}}, "weight nan"),
            ({"okx": 1.0}, {"ages_ms": {"okx": -1}}, "age"),
            ({"okx": 1.0}, {"tolerance_pct": 0.0}, "tolerance_pct"),
            ({"okx": 1.0}, {"max_age_ms": 0}, "max_age_ms"),
        ],
    )
    def test_misuse(self, prices, options, says):
        with pytest.raises(InvalidArgument, match=says) as error:
            compare_prices(prices, **options)
        assert error.value.suggestions


class TestLaws:
    @given(some_prices, st.data())
    def test_the_order_does_not_matter(self, values, data):
        weights = data.draw(st.lists(st.floats(0, 1e9), min_size=len(values), max_size=len(values)))
        rows = list(zip(named(values), values, weights, strict=True))
        shuffled = data.draw(st.permutations(rows))
        found, again = (
            compare_prices({n: p for n, p, _ in order}, {n: w for n, _, w in order})
            for order in (rows, shuffled)
        )
        assert found == again
        # Nor do the names.
        renamed = compare_prices(named([p for _, p, _ in shuffled]), named([w for _, _, w in shuffled]))
        assert renamed.confidence_score == found.confidence_score
        assert renamed.recommended_price == found.recommended_price
        assert len(renamed.outliers) == len(found.outliers)

    @given(some_prices, st.integers(-20, 20))
    def test_the_unit_of_the_price_does_not_matter(self, values, power):
        # Multiplying with a power of two is exact.
        found = compare_prices(named(values))
        scaled = compare_prices(named([value * 2.0**power for value in values]))
        assert scaled.recommended_price == pytest.approx(found.recommended_price * 2.0**power, rel=ULPS)
        for name in ("is_valid", "outliers", "confidence_score", "max_deviation_pct", "deviations_pct"):
            assert getattr(scaled, name) == getattr(found, name)

    @given(some_prices, ages)
    def test_bounds(self, values, old):
        found = compare_prices(named(values), ages_ms=named(old))
        assert 0 <= found.confidence_score <= 1
        inliers = [value for name, value in named(values).items() if name not in found.outliers]
        assert 2 * len(inliers) >= len(values)
        assert min(inliers) <= found.recommended_price <= max(inliers)
        if found.is_valid:
            assert not found.outliers

    @given(near, st.lists(st.floats(0, 1e9), min_size=1, max_size=9))
    def test_the_mean_of_one_price_is_that_price(self, price, weights):
        found = compare_prices(named([price] * len(weights)), named(weights))
        assert found.recommended_price == found.median == price

    @given(some_prices, ages)
    def test_one_more_price_that_agrees_never_lowers_confidence(self, values, old):
        before = compare_prices(named(values), ages_ms=named(old))
        after = compare_prices({**named(values), "another": before.median}, ages_ms=named(old))
        assert after.confidence_score >= before.confidence_score - ULPS

    @given(some_prices, st.floats(1, 1e6), st.booleans())
    def test_a_price_that_moves_away_never_raises_confidence(self, values, factor, upwards):
        assume(len(values) > 1)
        prices = named(values)
        furthest = (max if upwards else min)(prices, key=prices.get)
        moved = prices[furthest] * (factor if upwards else 1 / factor)
        before = compare_prices(prices)
        after = compare_prices({**prices, furthest: moved})
        assert after.confidence_score <= before.confidence_score + ULPS
        assert after.is_valid <= before.is_valid

    @given(some_prices, ages, st.integers(0, 8), st.integers(0, 600_000))
    def test_an_older_price_never_raises_confidence(self, values, old, which, more):
        older = [age + more * (number == which) for number, age in enumerate(old)]
        before, after = (compare_prices(named(values), ages_ms=named(given)) for given in (old, older))
        assert after.confidence_score <= before.confidence_score + ULPS

    @given(st.lists(st.lists(st.one_of(near, st.just(math.nan)), min_size=4, max_size=4), max_size=20))
    def test_rows_are_judged_as_each_by_itself(self, rows):
        rows = [row for row in rows if not all(map(math.isnan, row))]
        found = agreement_of(np.array(rows, np.float64).reshape(-1, 4))
        for number, row in enumerate(rows):
            alone = compare_prices({str(i): price for i, price in enumerate(row) if not math.isnan(price)})
            assert found.median[number] == alone.median
            assert found.max_deviation_pct[number] == alone.max_deviation_pct
            assert tuple(str(i) for i in np.flatnonzero(found.is_outlier[number])) == alone.outliers
