"""How well one instrument's prices agree between data sources. Pure and columnar.

**Outliers.** A price is an outlier if its modified z-score exceeds 3.5: its distance from the median, by
the median absolute deviation (MAD) over 0.6745 (B. Iglewicz and D. Hoaglin, "How to Detect and Handle
Outliers", ASQC 1993; NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.17). The scale has a floor, so
that a price within the tolerance is never an outlier, however closely the others agree. Every source has one
vote in the median: what a source reports as volume proves nothing about its price. Of two prices no outlier
can be told, and none is: both are equally far from their median.

**Recommended price.** The mean of the inliers, weighted by volume, so that it is near the price at which most
was traded. A weighted median would be as robust, but would be one source's price and jump to another's;
robustness is what leaving out the outliers is for.

**Confidence.** Every price supports the median by something in 0..1, which falls with its deviation ``d`` and
its age; ``S`` is the sum over the ``n`` prices::

    support = 1 / (1 + (d / tolerance) ** 2) / (1 + (age / max_age) ** 2)
    confidence = S / n * (1 - 0.04 ** max(0, S - 1))

The first factor falls with every price that disagrees or is old; the second rises with every price that
confirms another. So one price alone has 0, two that agree have 0.96, three 0.998; three of which one is far
off have 0.64. One more price at the median never lowers it, and a price that moves away from all others never
raises it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import MINUTE_MS

Array = npt.NDArray[Any]

#: Prices of one instrument that differ by no more are taken to agree, in percent. Fees make smaller
#: differences not worth trading away.
TOLERANCE_PCT: Final = 0.5
#: An older price says nothing about a time, in ms.
MAX_AGE_MS: Final = 5 * MINUTE_MS

#: Of Iglewicz and Hoaglin: beyond this modified z-score a value is an outlier.
_MOST_Z: Final = 3.5
#: The MAD of a normal distribution in standard deviations.
_MAD_OF_NORMAL: Final = 0.6745
#: The doubt that is left by each price that confirms another.
_DOUBT: Final = 0.04
#: Beyond these a number is no price, and sums of such could leave the range of a double.
_LEAST_PRICE: Final = 1e-30
_MOST_PRICE: Final = 1e30


@dataclass(frozen=True, slots=True)
class PriceComparison:
    """What the prices of one instrument at one time say about each other.

    Attributes:
        is_valid: There are at least two prices, and no two of them differ by more than the tolerance.
        max_deviation_pct: Largest difference between two of the prices, in percent of their median; 0 for a
            single price.
        outliers: Providers whose price is an outlier, in order of name.
        confidence_score: How far the recommended price can be trusted, 0 to 1.
        recommended_price: Weighted mean of the prices that are no outliers.
        median: Median of all prices.
        deviations_pct: Provider -> deviation of its price from the median, in percent, signed.
    """

    is_valid: bool
    max_deviation_pct: float
    outliers: tuple[str, ...]
    confidence_score: float
    recommended_price: float
    median: float
    deviations_pct: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The answer of ``POST /api/crypto/validation/price``, as ``crypto-api.md`` shapes it."""
        return {
            "validation_result": {
                "is_valid": self.is_valid,
                "max_deviation_pct": self.max_deviation_pct,
                "outliers": list(self.outliers),
                "confidence_score": self.confidence_score,
                "recommended_price": self.recommended_price,
            }
        }


class Agreement(NamedTuple):
    """What rows of prices say, one row a time.

    Attributes:
        median: Median of each row.
        deviation_pct: Deviation of each price from its row's median, in percent, signed.
        max_deviation_pct: Largest difference between two prices of each row, in percent of the median.
        is_outlier: Which prices are outliers.
    """

    median: Array
    deviation_pct: Array
    max_deviation_pct: Array
    is_outlier: Array


def compare_prices(
    prices: Mapping[str, float],
    weights: Mapping[str, float] | None = None,
    *,
    ages_ms: Mapping[str, int] | None = None,
    tolerance_pct: float = TOLERANCE_PCT,
    max_age_ms: int = MAX_AGE_MS,
) -> PriceComparison:
    """Compare the prices of one instrument at one time.

    Args:
        prices: Provider -> price, all in the same quote currency.
        weights: Provider -> weight in the recommended price, such as volume; a provider without one has 0.
            By default, and where all are 0, the prices weigh the same.
        ages_ms: Provider -> how old its price is; 0 by default.
        tolerance_pct: Prices that differ by no more agree, in percent.
        max_age_ms: Age at which a price has lost half of its say.

    Raises:
        InvalidArgument: There are no prices; one is not positive, or not a number; a weight, an age, the
            tolerance or ``max_age_ms`` is not allowed.
    """
    names = sorted(prices)
    if not names:
        raise InvalidArgument(
            "there are no prices to compare", suggestions=("give the prices of at least two providers",)
        )
    row = [_checked_price(name, prices[name]) for name in names]
    agreement = agreement_of(np.array([row], np.float64), tolerance_pct)
    deviations = agreement.deviation_pct[0]
    is_outlier = agreement.is_outlier[0].tolist()
    widest = float(agreement.max_deviation_pct[0])
    return PriceComparison(
        is_valid=len(names) > 1 and widest <= tolerance_pct,
        max_deviation_pct=widest,
        outliers=tuple(name for name, out in zip(names, is_outlier, strict=True) if out),
        confidence_score=_confidence(
            deviations, _amounts("age", ages_ms, names), tolerance_pct, _positive("max_age_ms", max_age_ms)
        ),
        recommended_price=_weighted_mean(row, _amounts("weight", weights, names), is_outlier),
        median=float(agreement.median[0]),
        deviations_pct=dict(zip(names, deviations.tolist(), strict=True)),
    )


def agreement_of(prices: Array, tolerance_pct: float = TOLERANCE_PCT) -> Agreement:
    """Median, deviations and outliers of rows of prices.

    Args:
        prices: One row a time and one column a provider, positive; NaN where there is no price.
        tolerance_pct: A price no further from the median is no outlier, in percent.

    Returns:
        NaN, and no outlier, where there is no price.

    Raises:
        InvalidArgument: The tolerance is not positive.
    """
    least_scale = _positive("tolerance_pct", tolerance_pct) / _MOST_Z
    in_order = np.sort(prices, axis=1)
    count = np.count_nonzero(~np.isnan(prices), axis=1)
    median = _median(in_order, count)
    deviation = (prices - median[:, None]) / median[:, None] * 100
    distance = np.abs(deviation)
    scale = np.maximum(_median(np.sort(distance, axis=1), count) / _MAD_OF_NORMAL, least_scale)
    highest = np.take_along_axis(in_order, count[:, None] - 1, axis=1)[:, 0]
    return Agreement(
        median=median,
        deviation_pct=deviation,
        max_deviation_pct=(highest - in_order[:, 0]) / median * 100,
        is_outlier=distance / scale[:, None] > _MOST_Z,
    )


def _median(in_order: Array, count: Array) -> Array:
    """Median of each row's first ``count`` values, which ascend and are followed by NaN."""
    middle = np.stack([(count - 1) // 2, count // 2], axis=1)
    median: Array = np.take_along_axis(in_order, middle, axis=1).mean(axis=1)
    return median


def _confidence(deviations_pct: Array, ages_ms: Array, tolerance_pct: float, max_age_ms: float) -> float:
    support = 1 / (1 + (deviations_pct / tolerance_pct) ** 2) / (1 + (ages_ms / max_age_ms) ** 2)
    # An exact sum is the same in every order.
    total = math.fsum(support)
    doubt: float = _DOUBT ** max(0.0, total - 1)
    return total / len(support) * (1 - doubt)


def _weighted_mean(prices: list[float], weights: Array, is_outlier: list[bool]) -> float:
    columns = zip(prices, weights.tolist(), is_outlier, strict=True)
    chosen = [(price, weight) for price, weight, out in columns if not out]
    most = max(weight for _, weight in chosen)
    shares = [(price, weight / most if most else 1.0) for price, weight in chosen]
    mean = math.fsum(price * share for price, share in shares) / math.fsum(share for _, share in shares)
    # Rounding must not lead out of the prices that the mean is of.
    counted = [price for price, share in shares if share]
    return min(max(mean, min(counted)), max(counted))


def _checked_price(provider: str, price: float) -> float:
    if not _LEAST_PRICE <= price <= _MOST_PRICE:
        raise InvalidArgument(
            f"the price {price!r} of {provider} is not a positive number",
            suggestions=("leave out a provider that has no price",),
            provider=provider,
            value=str(price),
        )
    return float(price)


def _amounts(what: str, given: Mapping[str, float] | None, names: list[str]) -> Array:
    """What is given for each provider, 0 where nothing is."""
    amounts = np.array([(given or {}).get(name, 0.0) for name in names], np.float64)
    bad = np.flatnonzero(~(np.isfinite(amounts) & (amounts >= 0)))
    if len(bad):
        name, value = names[bad[0]], amounts[bad[0]]
        raise InvalidArgument(
            f"the {what} {value} of {name} is not a number of 0 or more",
            suggestions=(f"give 0, or leave out the {what}, where it is not known",),
            provider=name,
            value=str(value),
        )
    return amounts


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(
            f"{name} {value!r} is not positive", suggestions=("give a number above 0",), argument=name
        )
    return float(value)
