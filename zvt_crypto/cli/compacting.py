"""What ``zvt-crypto compact`` does and tells."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import PairNotFound, unknown_value
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.summary import recorded_tables
from zvt_crypto.store.compaction import compact
from zvt_crypto.store.engine import Store


def compact_tables(state: State, settings: Settings, *, table: str | None, provider: str | None) -> None:
    """Compact the recorded tables of these names, all by default, and print what was done to each.

    Raises:
        InvalidArgument: A name is unknown.
        PairNotFound: Nothing of these names is recorded.
        StoreFull: The disk is full.
    """
    tables = load_tables()
    wanted = tables.find(table) if table else None
    store = Store(settings)
    recorded = [(name, spec) for name, spec in recorded_tables(store) if spec.layout == "series"]
    providers = sorted({name for name, _ in recorded})
    if provider is not None and recorded and provider not in providers:
        raise unknown_value("provider", provider, providers)
    chosen = [
        (name, spec)
        for name, spec in recorded
        if provider in (None, name) and (wanted is None or spec is wanted)
    ]
    if not chosen:
        raise PairNotFound(
            f"{wanted.class_name if wanted else 'nothing'} is {'not ' if wanted else ''}recorded"
            f"{f' from {provider}' if provider else ''} in {store.data_path}",
            suggestions=("record it first, see `zvt-crypto record --help`",),
        )
    done = []
    for name, spec in chosen:
        result = compact(store, name, spec)
        done.append({"provider": name, "table": spec.class_name, **asdict(result)})
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
