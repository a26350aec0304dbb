"""``zvt-crypto serve``: what is recorded over HTTP, what exchanges stream over WebSocket."""

from __future__ import annotations

from typing import Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import State, Verb


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--trusted-proxies", type=int, help="Proxies in front whose X-Forwarded-For is believed; none by default."
)
@opt.data_path
@click.pass_obj
def command(state: State, /, host: str, port: int, **options: Any) -> None:
    """Answer queries over HTTP and stream at /ws until SIGTERM or Ctrl-C; -v logs each request."""
    from zvt_crypto.server.serving import is_loopback, serve

    settings = opt.settings_of(options)
    if not is_loopback(host) and not settings.trusted_proxies:
        click.echo(
            f"warning: {host} can be reached from other machines, without encryption or accounts. "
            "Put a proxy in front and set --trusted-proxies 1, or listen at 127.0.0.1",
            err=True,
        )

    def on_ready(url: str) -> None:
        if state.as_json:
            state.write_json({"url": url})
        else:
            click.echo(f"Serving {settings.data_path} at {url}; Ctrl-C ends")

    serve(settings, host, port, on_ready, access_log=bool(state.verbosity))
