"""The tables' two verbs, wired to the store and the recorders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from zvt_crypto import zvt_bridge
from zvt_crypto.api.arguments import Asked
from zvt_crypto.core.config import Settings, load_settings
from zvt_crypto.core.errors import unknown_value
from zvt_crypto.core.tables import tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import read

if TYPE_CHECKING:
    from zvt_crypto.recorders.report import Report
    from zvt_crypto.recorders.run import Selection


class ZvtVerbs:
    """``query_data`` and ``record_data`` of every table."""

    def query_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Answer from the columnar reader where it can, through SQLAlchemy where it must."""
        asked = Asked(table, arguments)
        if asked.needs_objects:
            from zvt_crypto.api.expressions import query_objects

            return query_objects(asked)
        if asked.return_type == "arrow":
            return _batch(asked)
        from zvt_crypto.api.frames import frame_of

        return frame_of(_batch(asked), asked)

    def record_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Run the recorder registered for the provider: a user's own, or ours."""
        given = {name: value for name, value in arguments.items() if value is not None}
        provider = given.pop("provider")
        own = table.provider_map_recorder.get(provider)
        if own is None:
            if provider not in venues():
                raise unknown_value("provider", provider, [*venues(), *table.provider_map_recorder])
            from zvt_crypto.recorders.zvt_recorder import recorder_class

            own = recorder_class(table, provider, keep_live)
        return own(**given).run()


def keep_live(settings: Settings, selection: Selection) -> Report:
    """Record what is missing since the start, or since the listing, and go on live; see ``LiveRun.start``."""
    from zvt_crypto.stream.run import LiveRun

    return LiveRun(settings, [selection], from_listing=True).start()


def _batch(asked: Asked) -> pa.Table:
    if asked.needs_expressions:
        from zvt_crypto.api.expressions import read_expressions

        return read_expressions(asked)
    return read(Store(load_settings()), asked.query)


def plug_into_zvt() -> dict[str, Any]:
    """Register every table with zvt, with its engines made on first use and its verbs bound.

    Returns:
        The tables' classes by public name.
    """
    from zvt_crypto.domain import models

    classes = models.register(sorted(venues()))
    models.CryptoTable.verbs = ZvtVerbs()
    zvt_bridge.register_engines(
        frozenset(tables), lambda provider, table: Store(load_settings()).engine(provider, table)
    )
    return classes
