"""Queries of a server elsewhere, as if its tables were here.

``Client("http://127.0.0.1:8000").query_data(CryptoPair1mKdata, provider="binance")`` gives the frame that
``CryptoPair1mKdata.query_data(provider="binance")`` gives on the server's machine.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import requests
import urllib3

from zvt_crypto.api.arguments import Asked
from zvt_crypto.api.failures import error_of
from zvt_crypto.api.frames import frame_of
from zvt_crypto.api.livestream import LiveStream
from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    ZvtCryptoError,
)
from zvt_crypto.domain import load_tables
from zvt_crypto.store.reader import answer_schema

_MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
#: Filters that the server has and the local call has not.
_SERVER_FILTERS: Final = frozenset(
    {"base_symbols", "quote_symbols", "underlying_symbols", "settlement_symbols", "is_active"}
    | {"margin_enabled", "max_leverage", "funding_interval_hours", "side", "min_volume"}
)
#: Arguments that the server takes as they are.
_PASSED_ON: Final = ("resample", "unfinished", "fill", "limit")
_WRONG_SERVER: Final = "check the URL, and that `zvt-crypto serve` runs there"


class Client:
    """A server of ``zvt-crypto serve``; as a context manager it closes its connections at the end.

    One thread at a time may use it.

    Args:
        url: The server's base URL, such as ``http://127.0.0.1:8000``.
        timeout: Seconds to wait for a connection, and for each further part of an answer.
        session: A session with proxies, certificates or credentials of your own.

    Raises:
        InvalidArgument: The URL is none.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, session: requests.Session | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(
                f"{url!r} is no URL of a server", suggestions=("write it as http://127.0.0.1:8000",), url=url
            )
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._session = requests.Session() if session is None else session
        # Between programs of one machine, compressing takes longer than sending.
        self._encoding = "identity" if _is_loopback(parts.hostname) else urllib3.util.request.ACCEPT_ENCODING

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def query_data(self, table: Any, **arguments: Any) -> Any:
        """The frame of the local call ``table.query_data(**arguments)``.

        Args:
            table: A table's class, or its name.
            **arguments: Those of the local call that make frames of rows (``provider``, ``codes``,
                ``entity_ids``, ``start_timestamp``, ``end_timestamp``, ``columns``, ``order``, ``limit``,
                ``resample``, ``fill``, ``index``, ``return_type="arrow"`` ...), and filters of the server,
                such as ``quote_symbols=["usdt"]`` or ``side="buy"``.

        Returns:
            A frame with naive UTC times, or an Arrow table.

        Raises:
            NotSupported: An argument only works where the data is.
            ProviderUnavailable: The server cannot be reached, or its answer broke off.
            ZvtCryptoError: The server refused, as the class that the local call would raise.
        """
        filters = {name: arguments.pop(name) for name in _SERVER_FILTERS & arguments.keys()}
        arguments["provider"] = arguments.get("provider") or _only_provider(table)
        asked = Asked(_with_spec(table), arguments)
        try:
            rows = self._rows(asked.query.spec.class_name, _parameters(asked, filters), asked.query.limit)
        except PairNotFound:
            # The local call has no rows of a market that is not recorded, which is no failure to it.
            rows = answer_schema(asked.query).empty_table()
        return rows if asked.return_type == "arrow" else frame_of(rows, asked)

    def stream(
        self,
        stream: str,
        symbols: str | Sequence[str],
        *,
        provider: str,
        interval: str | None = None,
        depth: int | None = None,
        as_frames: bool = False,
        reconnect: bool = True,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> LiveStream:
        """Live messages from the server, as they come.

        ::

            with Client("http://127.0.0.1:8000") as client:
                for trade in client.stream("trades", "btcusdt", provider="binance"):
                    print(trade["data"])

        A lost connection is made anew, and goes on where it was: what the server does not have any more is
        told by an event ``gap``. The stream has a connection of its own.

        Args:
            stream: ``trades``, ``klines``, ``orderbook`` or ``funding``.
            symbols: Markets in any notation.
            provider: The data source.
            interval: Length of candles, a minute by default.
            depth: Levels of order books, 20 by default.
            as_frames: Whether to yield frames of the messages that came together, with naive UTC times.
            reconnect: Whether a lost connection is made anew; without, it raises ``StreamDisconnected``.
            on_event: With ``as_frames``, is told of events; otherwise they are among the messages.

        Returns:
            An iterable of dicts, or of frames.

        Raises:
            ZvtCryptoError: When it is iterated over: as the local call would raise it, or
                ``ProviderUnavailable`` where the server cannot be reached at first.
        """
        wanted = {
            "stream": stream if "." in stream else f"crypto.{stream}",
            "provider": provider,
            "symbols": [symbols] if isinstance(symbols, str) else list(symbols),
            "interval": interval,
            "depth": depth,
        }
        return LiveStream(
            f"ws{self.url.removeprefix('http')}/ws",
            {name: value for name, value in wanted.items() if value is not None},
            timeout=self.timeout,
            as_frames=as_frames,
            reconnect=reconnect,
            on_event=on_event,
            options=_socket_options(self._session),
        )

    def _rows(self, table: str, parameters: Mapping[str, str], limit: int | None) -> pa.Table:
        with _told_as_ours(self.url), self._get(f"/api/data/{table}", parameters) as response:
            if response.status_code != requests.codes.ok:
                raise _error_of(response)
            if response.headers.get("Content-Type") != _MEDIA_TYPE:
                raise ProviderUnavailable(f"{self.url} answers no rows", suggestions=(_WRONG_SERVER,))
            with pa.ipc.open_stream(_Body(response.raw)) as reader:
                rows = reader.read_all()
            # Arrow takes a stream that was cut between two batches for a whole one; HTTP knows better.
            response.raw.read()
        return rows if limit is None else rows.slice(0, limit)

    def _get(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        return self._session.get(
            self.url + path,
            params=dict(parameters),
            headers={"Accept": _MEDIA_TYPE, "Accept-Encoding": self._encoding},
            timeout=self.timeout,
            stream=True,
        )


class _Body:
    """The body of an answer as the file that Arrow reads, decoded."""

    closed = False

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        found: bytes = self._raw.read(None if size < 0 else size, decode_content=True)
        return found

    def close(self) -> None:
        """Nothing: the answer is closed by whom it belongs to."""
        self.closed = True


def _parameters(asked: Asked, filters: Mapping[str, Any]) -> dict[str, str]:
    """A call's arguments as the server's parameters.

    Raises:
        NotSupported: One of them only works where the data is.
    """
    if asked.needs_objects or asked.needs_expressions or asked.query.ids is not None:
        raise NotSupported(
            "a server answers frames of rows chosen by codes, entity ids and times",
            suggestions=("leave out ids, filters, session, distinct, time_field and other return types",),
        )
    query, given = asked.query, asked.given
    codes = given.get("codes") or given.get("code")
    found: dict[str, Any] = {
        "provider": query.provider,
        "codes": codes,
        "entity_ids": query.entity_ids,
        "columns": query.columns,
        "start_timestamp": query.start,
        # Ranges are half-open inside and closed over HTTP.
        "end_timestamp": None if query.end is None else query.end - 1,
        "order": f"timestamp_{query.order}",
        **{name: getattr(given[name], "value", given[name]) for name in _PASSED_ON if name in given},
        **filters,
    }
    return {name: _text(value) for name, value in found.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return ",".join(str(part) for part in value)


def _with_spec(table: Any) -> Any:
    """A table's class, or what stands for the one of a name."""
    tables = load_tables()
    return SimpleNamespace(spec=tables.find(table)) if isinstance(table, str) else table


def _only_provider(table: Any) -> str:
    """The provider that the local call would ask."""
    providers: list[str] = getattr(table, "providers", [])
    if not providers:
        raise InvalidArgument(
            "provider is missing", suggestions=("give provider='binance' or another",), argument="provider"
        )
    return providers[0]


@contextmanager
def _told_as_ours(url: str) -> Iterator[None]:
    """Failures of the network as our error."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, pa.ArrowInvalid, OSError) as error:
        raise ProviderUnavailable(
            f"{url} gave no whole answer: {error}", suggestions=(_WRONG_SERVER,), url=url
        ) from error


def _error_of(response: requests.Response) -> ZvtCryptoError:
    """The error that an answer tells of."""
    try:
        return error_of(response.json()["error"], http_status=response.status_code)
    except (ValueError, KeyError, TypeError):
        return ProviderUnavailable(
            f"{response.url} answers {response.status_code} {response.reason}", suggestions=(_WRONG_SERVER,)
        )


def _socket_options(session: requests.Session) -> dict[str, Any]:
    """What a session has of its own, for a WebSocket."""
    usual = requests.utils.default_headers()
    headers = [f"{name}: {text}" for name, text in session.headers.items() if usual.get(name) != text]
    tls: dict[str, Any] = {}
    if session.verify is False:
        tls["cert_reqs"] = ssl.CERT_NONE
    elif isinstance(session.verify, str):
        tls["ca_certs"] = session.verify
    if session.cert is not None:
        parts = (session.cert,) if isinstance(session.cert, str) else tuple(session.cert)
        tls.update(zip(("certfile", "keyfile"), parts, strict=False))
    return {"header": headers, "sslopt": tls}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
