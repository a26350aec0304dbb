"""What is missing, cut into what is fetched at a time: files of an archive, and requests for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zvt_crypto.core.levels import subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.recorders.feeds import Feed, Span
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time that is fetched at a time.

    Attributes:
        start: First time, epoch ms.
        end: End of the times, exclusive.
        file: The file of an archive that holds it; None where the exchange is asked.
    """

    start: int
    end: int
    file: ArchiveFile | None = None


def not_recorded(
    store: Store, provider: str, spec: TableSpec, entity_id: str, start: int, end: int
) -> list[Span]:
    """What of ``[start, end)`` an entity's rows are not recorded for, as ``coverage.missing``.

    Neither the table nor the entity is made where it is not there yet.
    """
    if start >= end:
        return []
    if store.exists(provider, spec):
        with store.reading(provider, spec) as connection:
            key = connection.value("SELECT key FROM entities WHERE entity_id = ?", (entity_id,))
            if key is not None:
                return coverage.missing(connection, int(key), start, end, spec.step)
    return [(start, end)]


def plan_windows(
    feed: Feed, instrument: Instrument, spans: Iterable[Span], now: int, *, parallel: int, archives: bool
) -> list[Window]:
    """The windows that fill missing spans, by time.

    Args:
        feed: How the rows are fetched.
        instrument: Whose rows.
        spans: What is missing.
        now: The exchange's time, epoch ms.
        parallel: Windows that are fetched at once.
        archives: Whether files of the venue's archive may be used.
    """
    earliest = feed.earliest(instrument, now)
    spans = subtract_spans(spans, [(0, earliest)])
    files = feed.files(instrument, spans, now) if archives else []
    rest = subtract_spans(spans, [(file.start, file.end) for file in files])
    windows = [Window(file.start, file.end, file) for file in files]
    windows += [Window(start, end) for start, end in feed.windows(instrument, rest, parallel)]
    return sorted(windows, key=lambda window: window.start)
