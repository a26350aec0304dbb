"""What ``zvt-crypto compact`` does and tells."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zvt_crypto.cli.reading import find_recorded
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.domain import load_tables
from zvt_crypto.store.compaction import compact
from zvt_crypto.store.engine import Store


def compact_tables(state: State, settings: Settings, *, table: str | None, provider: str | None) -> None:
    """Compact the recorded tables of these names, all by default, and print what was done to each.

    Raises:
        InvalidArgument: A name is unknown.
        PairNotFound: Nothing of these names is recorded.
        StoreFull: The disk is full.
    """
    wanted = load_tables().find(table) if table else None
    chosen = find_recorded(settings, provider, table=wanted, fits=lambda spec: spec.layout == "series")
    done = []
    for recorded in chosen:
        result = compact(Store(settings), recorded.provider, recorded.spec)
        done.append({"provider": recorded.provider, "table": recorded.spec.class_name, **asdict(result)})
    _show(state, done)


def _show(state: State, done: list[dict[str, Any]]) -> None:
    if state.as_json:
        state.write_json(done)
        return
    from rich.table import Table

    shown = Table("provider", "table", "made", "kept", "dropped", "rows", "MB", box=None, pad_edge=False)
    for row in done:
        counts = [f"{row[name]:,}" for name in ("made", "kept", "dropped", "rows")]
        shown.add_row(row["provider"], row["table"], *counts, f"{row['bytes'] / 1e6:,.1f}")
    state.print_table(shown)
