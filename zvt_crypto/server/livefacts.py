"""What is streamed: by this server for its clients, and by the live recorders of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from zvt_crypto.core.symbols import PERP, split_entity_id
from zvt_crypto.server.liveservice import LiveReport, LiveService, TopicReport
from zvt_crypto.stream.status import Status

#: Beginning or end of a table's name -> name of the stream that fills it.
_STREAM_OF: Final = {
    "cryptotrade": "crypto.trades",
    "kdata": "crypto.klines",
    "cryptoorderbook": "crypto.orderbook",
    "cryptofunding": "crypto.funding",
}


def report_of(live: LiveService | None) -> LiveReport:
    """How a server's streams stand; nothing where it has none."""
    return LiveReport() if live is None else live.report()


def streamed(report: LiveReport, recorders: Iterable[Status]) -> list[TopicReport]:
    """Everything that is subscribed to at exchanges: by a server, and by what ``published`` tells of."""
    theirs = [
        TopicReport(
            one.provider,
            _symbol(one.entity_id),
            _stream(one.table),
            one.state,
            one.last_message,
            one.lag_ms,
            one.resyncs,
        )
        for status in recorders
        for one in status.channels
    ]
    return [*report.topics, *theirs]


def connected(everything: Iterable[TopicReport]) -> set[str]:
    """The providers of which anything is live."""
    return {one.provider for one in everything if one.state == "live"}


def _symbol(entity_id: str) -> str:
    entity_type, _, code = split_entity_id(entity_id)
    return f"{code}-perp" if entity_type == PERP else code


def _stream(table: str) -> str:
    return next((stream for part, stream in _STREAM_OF.items() if table.endswith(part)), table)
