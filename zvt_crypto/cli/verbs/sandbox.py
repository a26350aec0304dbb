"""``zvt-crypto sandbox``: a local exchange to try everything with."""

from __future__ import annotations

from typing import Any

import click

from zvt_crypto.cli.state import State, Verb


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=0, help="Port to listen at; a free one by default.")
@click.option("--seed", default=0, help="Another seed is another market.")
@click.option("--now", help="The exchange's time, standing still; by default the real time.")
@click.option(
    "--speed", type=float, help="How fast the exchange's clock, or a recorded stream, runs (0: at once)."
)
@click.option(
    "--fault", "faults", multiple=True, help="What goes wrong, such as status:429,path=klines,times=3."
)
@click.option("--replay", metavar="FILE", help="Candles to replay: .csv, .csv.gz, .feather or .parquet.")
@click.option("--symbol", help="Market of the replayed file, such as BTC/USDT.")
@click.option("--level", help="Level of the replayed file; by default inferred.")
@click.option("--capture", "captures", multiple=True, metavar="FILE", help="Recorded answers to serve.")
@click.option(
    "--capture-stream",
    "stream_captures",
    multiple=True,
    metavar="FILE",
    help="Recorded streams or their answers to send.",
)
@click.option("--tick-ms", default=50, type=click.IntRange(1), help="How often streams look at the market.")
@click.option("--book-step-ms", default=50, type=click.IntRange(1), help="How long an order book stays.")
@click.pass_obj
def command(state: State, /, **options: Any) -> None:
    """Run a local exchange until Ctrl-C; its first line sends all verbs there."""
    from zvt_crypto.sandbox import SandboxSettings, run

    def on_ready(url: str) -> None:
        if state.as_json:
            state.write_json({"gateway": url})
        else:
            click.echo(f"export ZVT_CRYPTO_GATEWAY={url}")
            click.echo("The sandbox runs; Ctrl-C ends it.", err=True)

    run(SandboxSettings(**options), on_ready)
