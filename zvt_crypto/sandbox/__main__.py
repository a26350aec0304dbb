"""``python -m zvt_crypto.sandbox``: the sandbox as a process of its own; its first line is its URL."""

from __future__ import annotations

from typing import Any

import click

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.sandbox.faults import KINDS
from zvt_crypto.sandbox.process import SandboxSettings, run


@click.command(epilog=f"Faults: {', '.join(KINDS)}.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=0, help="Port to listen at; 0 takes a free one.")
@click.option("--seed", default=0, help="Another seed is another market.")
@click.option("--now", help="The exchange's time, standing still; by default the real time.")
@click.option(
    "--speed", type=float, help="How fast the exchange's clock, or a recorded stream, runs (0: at once)."
)
@click.option("--fault", "faults", multiple=True, help="Such as status:429,path=klines,times=3.")
@click.option("--replay", help="Candles to replay: .csv, .csv.gz, .feather or .parquet.")
@click.option("--symbol", help="Market of the replayed file, such as BTC/USDT.")
@click.option("--level", help="Level of the replayed file; by default inferred.")
@click.option("--capture", "captures", multiple=True, help="File of recorded answers to serve.")
@click.option(
    "--capture-stream", "stream_captures", multiple=True, help="Recorded streams or their answers to send."
)
@click.option("--tick-ms", default=50, type=click.IntRange(1), help="How often streams look at the market.")
@click.option("--book-step-ms", default=50, type=click.IntRange(1), help="How long an order book stays.")
def main(**options: Any) -> None:
    """Run a local exchange until Ctrl-C; the line that it prints is the gateway's URL."""
    try:
        run(SandboxSettings(**options), on_ready=click.echo)
    except ZvtCryptoError as error:
        click.echo(f"{error.code}: {error.one_line()}", err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
