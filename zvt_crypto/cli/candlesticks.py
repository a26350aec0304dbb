"""Recorded candles and their volume, drawn by plotly into one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from zvt_crypto.cli.reading import Recorded, query_for
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ConfigError, InvalidArgument, PairNotFound
from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import read

#: A browser takes seconds to draw that many, and shows no more for it.
MOST_CANDLES: Final = 50_000
_COLUMNS: Final = ("timestamp", "code", "name", "open", "high", "low", "close", "volume")
_UP, _DOWN = "#26a69a", "#ef5350"


def write_chart(
    settings: Settings, recorded: Recorded, *, start: str | None, end: str | None, output: Path | None
) -> tuple[Path, int]:
    """Draw one market.

    Args:
        settings: Where the data is.
        recorded: The candle table, and exactly one code.
        start: First time.
        end: Last time, inclusive.
        output: File to write; by default named after the market, in the current folder.

    Returns:
        The file's absolute path, and how many candles it shows.

    Raises:
        InvalidArgument: More than one market, or more candles than can be looked at.
        PairNotFound: Nothing is recorded in that time.
        ConfigError: The file cannot be written.
    """
    if recorded.codes is None or len(recorded.codes) != 1:
        raise InvalidArgument("a chart shows one market", suggestions=("give one code",))
    rows = read(
        Store(settings),
        query_for(recorded, start=start, end=end, columns=_COLUMNS, limit=MOST_CANDLES + 1),
    )
    level = str(recorded.spec.level)
    if rows.num_rows > MOST_CANDLES:
        coarser = [name for name, step in LEVEL_MS.items() if step > LEVEL_MS[level]]
        hint = f"a coarser level ({', '.join(coarser)}) or " if coarser else ""
        raise InvalidArgument(
            f"more than {MOST_CANDLES:,} candles of {level} are too many for a chart",
            suggestions=(f"take {hint}a shorter range with --start and --end",),
        )
    if not rows.num_rows:
        raise PairNotFound(
            f"no {level} candles of {recorded.codes[0]} are recorded in that time",
            suggestions=("see `zvt-crypto report` for what is recorded",),
        )
    path = (output or Path(f"{recorded.provider}-{recorded.codes[0]}-{level}.html")).absolute()
    _write(path, _figure(rows, recorded))
    return path, rows.num_rows


def _write(path: Path, figure: Any) -> None:
    page = figure.to_html(include_plotlyjs=True, config={"displaylogo": False, "scrollZoom": True})
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", suggestions=("name another file with --output",)
        ) from error


def _figure(rows: pa.Table, recorded: Recorded) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = {name: rows[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    times = np.datetime_as_string(rows["timestamp"].to_numpy(), unit="s")
    rises = (columns["close"] >= columns["open"]).astype(np.int8)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.77, 0.23], vertical_spacing=0.02)
    volume = columns.pop("volume")
    candles = go.Candlestick(x=times, name="price", **columns)
    candles.increasing = {"line": {"color": _UP, "width": 1}, "fillcolor": _UP}
    candles.decreasing = {"line": {"color": _DOWN, "width": 1}, "fillcolor": _DOWN}
    figure.add_trace(candles, row=1, col=1)
    colours = {
        "color": rises,
        "colorscale": [[0, _DOWN], [1, _UP]],
        "cmin": 0,
        "cmax": 1,
        "line": {"width": 0},
    }
    figure.add_trace(go.Bar(x=times, y=volume, name="volume", marker=colours), row=2, col=1)
    code = rows["code"][0].as_py()
    name = rows["name"][0].as_py() or code
    base, quote = (name.split(":")[0].split("/") + ["", ""])[:2]
    figure.update_layout(
        title=_title(name, rows, recorded),
        template="plotly_white",
        showlegend=False,
        hovermode="x unified",
        bargap=0,
        dragmode="pan",
        height=820,
        margin={"l": 70, "r": 30, "t": 80, "b": 50},
        xaxis_rangeslider_visible=False,
    )
    figure.update_yaxes(title_text=f"price ({quote})" if quote else "price", row=1, col=1)
    figure.update_yaxes(title_text=f"volume ({base})" if quote else "volume", row=2, col=1)
    figure.update_xaxes(title_text="UTC", row=2, col=1)
    return figure


def _title(name: str, rows: pa.Table, recorded: Recorded) -> str:
    first, last = (rows["timestamp"][i].as_py() for i in (0, rows.num_rows - 1))
    span = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    kind = "perpetual" if recorded.spec.entity_type == "cryptoperp" else "spot"
    return (
        f"<b>{name}</b> {kind} · {recorded.provider} · {recorded.spec.level}"
        f"<br><sup>{span} · {rows.num_rows:,} candles</sup>"
    )
