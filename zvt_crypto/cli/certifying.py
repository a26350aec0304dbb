"""What ``certify`` does: a certificate for each series, to a file or to stdout."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

import zvt_crypto
from zvt_crypto.cli.gapreport import place
from zvt_crypto.cli.selecting import Asked, chosen_series
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import EXIT_OK, EXIT_PARTIAL, InvalidArgument
from zvt_crypto.quality.certificate import certify
from zvt_crypto.store.engine import Store
from zvt_crypto.store.layout import LAYOUT_VERSION


def certify_series(state: State, settings: Settings, asked: Asked, output: str | None) -> int:
    """Make the certificates, and answer the exit code: 3 where a series is not complete.

    Raises:
        InvalidArgument: The file cannot be written.
    """
    start, end = asked.range
    store = Store(settings)
    chosen = chosen_series(settings, asked)
    now = int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
    versions = {
        "zvt-crypto": zvt_crypto.__version__,
        "layout": str(LAYOUT_VERSION),
        "pyarrow": pa.__version__,
    }
    made = [certify(store, series, made_at=now, versions=versions, start=start, end=end) for series in chosen]
    document = {"certificates": made}
    if output is not None:
        _write(Path(output), document)
    if state.as_json:
        state.write_json(document)
    else:
        _print(state, [place(series) for series in chosen], made)
    return EXIT_OK if all(one["complete"] for one in made) else EXIT_PARTIAL


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        part.replace(path)
    except OSError as error:
        raise InvalidArgument(
            f"--output {path} cannot be written: {error.strerror}",
            suggestions=("name a file in a folder that exists and that you may write to",),
        ) from error


def _print(state: State, places: Sequence[str], made: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    shown = Table("series", "from", "until", box=None, pad_edge=False)
    shown.add_column("rows", justify="right")
    shown.add_column("coverage", justify="right")
    shown.add_column("verdict")
    for name, one in zip(places, made, strict=True):
        verdict = "complete" if one["complete"] else "; ".join(one["reasons"])
        cells = (one["start"], one["end"], f"{one['rows']:,}", f"{one['coverage']:.2%}", verdict)
        shown.add_row(name, *cells)
    state.print_table(shown)
