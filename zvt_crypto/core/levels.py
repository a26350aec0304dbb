"""Candle levels and time: epoch milliseconds UTC inside, text and pandas at the edges.

A candle's timestamp is its open time. Ranges are half-open, ``[start, end)``. Nothing here reads a clock.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

from zvt_crypto.core.errors import InvalidArgument, unknown_value

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

#: Level name -> length in milliseconds. All seven divide a day, so every grid starts at the epoch.
LEVEL_MS: Final[dict[str, int]] = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
}

_EPOCH = dt.datetime(1970, 1, 1)
_DATE_ONLY = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_MIN_MS: Final = 0
_MAX_MS: Final = 4_102_444_800_000  # 2100-01-01


def level_ms(level: str) -> int:
    """Length of a level in milliseconds.

    Raises:
        InvalidArgument: The level is none of ``LEVEL_MS``.
    """
    try:
        return LEVEL_MS[level]
    except KeyError:
        raise unknown_value("level", level, LEVEL_MS) from None


def floor_ms(ts: int, step: int) -> int:
    """The last multiple of ``step`` at or before ``ts``."""
    return ts - ts % step


def ceil_ms(ts: int, step: int) -> int:
    """The first multiple of ``step`` at or after ``ts``."""
    return -(-ts // step) * step


def finished_end(now: int, step: int) -> int:
    """End (exclusive) of the candles that are finished at ``now``, the exchange's own time in ms.

    A candle opened at ``t`` is finished once ``now >= t + step``.
    """
    return floor_ms(now, step)


def parse_time(value: object, *, name: str = "timestamp") -> int:
    """Epoch milliseconds UTC of a time given in any of the accepted notations.

    Args:
        value: ISO 8601 text (naive means UTC), ``YYYYMMDD``, an integer of epoch milliseconds, or a
            datetime, date or ``pandas.Timestamp`` (naive means UTC).
        name: The argument's name, for the error.

    Raises:
        InvalidArgument: The value is no time, or lies outside 1970-2099.
    """
    if isinstance(value, bool) or value is None:
        raise _bad_time(name, value)
    if isinstance(value, int):
        ms = value
    elif isinstance(value, dt.datetime):
        ms = _datetime_ms(value)
    elif isinstance(value, dt.date):
        ms = _datetime_ms(dt.datetime(value.year, value.month, value.day))
    elif isinstance(value, str):
        ms = _text_ms(value.strip(), name)
    else:
        raise _bad_time(name, value)
    if not _MIN_MS <= ms < _MAX_MS:
        raise _bad_time(name, value)
    return ms


def parse_end(value: object, *, name: str = "end_timestamp") -> int:
    """Exclusive end, in ms, of a range whose given end is inclusive: one millisecond later.

    At the verbs and over HTTP ``end_timestamp`` is inclusive, as in zvt; inside, ranges are half-open.
    """
    return parse_time(value, name=name) + 1


def iso(ts: int) -> str:
    """ISO 8601 text with ``Z``; milliseconds are shown only where there are any."""
    moment = _EPOCH + dt.timedelta(milliseconds=ts)
    return moment.isoformat(timespec="milliseconds" if ts % 1000 else "seconds") + "Z"


def spans_to_windows(spans: Iterable[tuple[int, int]], width: int) -> list[tuple[int, int]]:
    """Cut half-open spans into half-open windows of at most ``width``, in order of time."""
    return [(lower, min(lower + width, end)) for start, end in spans for lower in range(start, end, width)]


def merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same set of times as the fewest half-open spans, sorted; empty spans vanish."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def subtract_spans(
    wanted: Iterable[tuple[int, int]], covered: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """What of ``wanted`` is not in ``covered``, as sorted half-open spans."""
    holes = merge_spans(covered)
    missing: list[tuple[int, int]] = []
    for start, end in merge_spans(wanted):
        cursor = start
        for hole_start, hole_end in holes:
            if hole_end <= cursor:
                continue
            if hole_start >= end:
                break
            if hole_start > cursor:
                missing.append((cursor, hole_start))
            cursor = hole_end
        if cursor < end:
            missing.append((cursor, end))
    return missing


def _datetime_ms(moment: dt.datetime) -> int:
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.timezone.utc).replace(tzinfo=None)
    return (moment - _EPOCH) // dt.timedelta(milliseconds=1)


def _text_ms(text: str, name: str) -> int:
    if text.isdigit() and len(text) >= 12:
        return int(text)
    if _DATE_ONLY.fullmatch(text):
        text = text.replace("-", "")
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    try:
        # Python 3.10's fromisoformat knows no Z.
        moment = dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        raise _bad_time(name, text) from None
    return _datetime_ms(moment)


def _bad_time(name: str, value: object) -> InvalidArgument:
    return InvalidArgument(
        f"{name} {value!r} is not a time",
        suggestions=(
            "write it as 2024-01-31, 20240131, 2024-01-31T12:00:00Z or epoch milliseconds (1970-2099)",
        ),
        argument=name,
        value=str(value),
    )
