"""Connections to ``/ws``: handshakes, clients that misbehave or do not read, and the end of the server."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket
from live_publisher import PATIENCE, Client, LiveServer, serving, wait_for

from zvt_crypto.core.config import Settings
from zvt_crypto.server import wsprotocol, wssession
from zvt_crypto.server.wsprotocol import MOST_MESSAGE_BYTES


@pytest.fixture(scope="module", autouse=True)
def impatience() -> Iterator[None]:
    """Clients of these tests often do not answer a close."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wsprotocol, "_LINGER_SECONDS", 0.5)
        yield


@pytest.fixture
def server(settings: Settings) -> Iterator[LiveServer]:
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for what leaves no trace."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(Settings(data_path=folder / "data"), stream_connections_per_client=0) as running:
        yield running


HANDSHAKE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


def shake(
    server: LiveServer, path: str = "/ws", method: str = "GET", **changes: str | None
) -> tuple[socket.socket, http.client.HTTPResponse]:
    """A handshake as it is given; None leaves a header out."""
    headers = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return connection, answer


def error_of(answer: http.client.HTTPResponse) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/json"
    error: dict[str, Any] = json.loads(answer.read())["error"]
    assert set(error) == {"code", "message", "details", "recovery_suggestions", "timestamp", "trace_id"}
    assert error["trace_id"] == answer.headers["X-Trace-Id"]
    return error


def frame(data: bytes, opcode: int = 1, *, fin: bool = True, masked: bool = True) -> bytes:
    head = bytes([(0x80 if fin else 0) | opcode])
    mask = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([mask | len(data)])
    elif len(data) < 1 << 16:
        head += bytes([mask | 126]) + struct.pack("!H", len(data))
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", len(data))
    return head + (bytes(4) if masked else b"") + data


class Raw:
    """A client that sends whatever bytes it likes."""

    def __init__(self, server: LiveServer) -> None:
        self.socket, answer = shake(server)
        assert answer.status == 101
        self.rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            part = self.socket.recv(1 << 16)
            if not part:
                raise EOFError
            self.rest += part
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def frame(self) -> tuple[int, bytes]:
        """Opcode and data of the next frame."""
        first, size = self._exactly(2)
        assert not size & 0x80, "a server does not mask"
        if size == 126:
            size = int.from_bytes(self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(self._exactly(8), "big")
        return first & 0x0F, self._exactly(size)

    def until_closed(self) -> tuple[list[dict[str, Any]], int | None]:
        """The messages up to the end, and the close code."""
        messages = []
        code = None
        try:
            while True:
                opcode, data = self.frame()
                if opcode == 8:
                    code = int.from_bytes(data[:2], "big")
                elif opcode == 1:
                    messages.append(json.loads(data))
        except (EOFError, ConnectionError):
            return messages, code


def test_a_connection_serves_beside_the_api(server: LiveServer) -> None:
    with server.connect() as client:
        assert client.ask("ping")["event"] == "pong"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
    wait_for(lambda: server.service.clients == 0)


def test_messages_do_not_wait_for_acknowledgements(server: LiveServer) -> None:
    with server.connect() as client:
        client.ask("ping")
        [connection] = server.connections()
        end = connection._transport.get_extra_info("socket")
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("path", "method", "changes", "status"),
    [
        ("/", "GET", {}, 404),
        ("/ws/", "GET", {}, 404),
        ("//[", "GET", {}, 404),
        ("http://[/ws", "GET", {}, 404),
        ("/api/data/providers", "GET", {}, 404),
        ("/ws", "POST", {}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Version": "8"}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Version": None}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Key": "short"}, 400),
        ("/ws", "GET", {"Sec_WebSocket_Key": None}, 400),
        ("/ws", "GET", {"Content_Length": "5"}, 400),
        ("/ws", "GET", {"Cookie": "a" * 20_000}, 400),
    ],
)
def test_what_is_no_handshake_of_ours_is_refused_in_our_form(
    shared: LiveServer, path: str, method: str, changes: dict[str, str | None], status: int
) -> None:
    _, answer = shake(shared, path, method, **changes)
    assert answer.status == status
    error_of(answer)


def test_a_query_does_not_matter(shared: LiveServer) -> None:
    assert shake(shared, "/ws?token=1")[1].status == 101


def test_a_request_without_an_upgrade_is_told_to_make_one(shared: LiveServer) -> None:
    _, answer = shake(shared, Connection=None, Upgrade=None)
    assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    assert error_of(answer)["code"] == "CRYPTO_UPGRADE_REQUIRED"


@pytest.fixture(scope="module")
def befriended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("befriended")
    changes = {"stream_connections_per_client": 0, "cors_origins": ("https://friends.example.org",)}
    with serving(Settings(data_path=folder / "data"), **changes) as running:
        yield running


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", 101),
        ("http://LOCALHOST:8000", "localhost:8000", 101),
        ("https://charts.example.org", "charts.example.org", 101),
        ("https://charts.example.org", "charts.example.org:443", 101),
        ("https://charts.example.org:443", "charts.example.org", 101),
        ("https://friends.example.org", "charts.example.org", 101),
        ("https://evil.example.org", "charts.example.org", 403),
        ("http://charts.example.org:8080", "charts.example.org", 403),
        ("http://charts.example.org.evil.org", "charts.example.org", 403),
        ("null", "charts.example.org", 403),
        ("http://[", "charts.example.org", 403),
        ("", "charts.example.org", 403),
        ("file://", "charts.example.org", 403),
    ],
)
def test_pages_of_other_origins_need_permission(
    befriended: LiveServer, origin: str, host: str, status: int
) -> None:
    _, answer = shake(befriended, Origin=origin, Host=host)
    assert answer.status == status
    if status != 101:
        assert error_of(answer)["code"] == "CRYPTO_ORIGIN_REFUSED"


def test_one_address_has_five_connections(server: LiveServer) -> None:
    clients = [server.connect() for _ in range(5)]
    _, answer = shake(server)
    assert answer.status == 429
    assert error_of(answer)["code"] == "CRYPTO_RATE_LIMIT_EXCEEDED"
    clients[0].socket.close()
    wait_for(lambda: server.service.clients == 4)
    assert shake(server)[1].status == 101


def test_addresses_are_told_apart_by_the_configured_proxies_only(settings: Settings) -> None:
    with serving(settings, stream_connections_per_client=1, trusted_proxies=1) as server:
        kept = [shake(server, X_Forwarded_For=text) for text in ("10.0.0.1", "6.6.6.6, 10.0.0.2")]
        assert [answer.status for _, answer in kept] == [101, 101]
        assert shake(server, X_Forwarded_For="7.7.7.7, 10.0.0.1")[1].status == 429
        # One IPv6 customer has all addresses that begin alike.
        kept.append(shake(server, X_Forwarded_For="2001:db8::1"))
        assert kept[-1][1].status == 101
        assert shake(server, X_Forwarded_For="2001:db8::2")[1].status == 429
    with serving(settings, stream_connections_per_client=1) as server:
        kept = [shake(server, X_Forwarded_For="10.0.0.1")]
        assert shake(server, X_Forwarded_For="10.0.0.2")[1].status == 429


def test_there_are_as_many_connections_as_there_may_be(settings: Settings) -> None:
    with serving(settings, stream_connections_per_client=0, stream_connections=6) as server:
        kept = [server.connect() for _ in range(6)]
        _, answer = shake(server)
        assert (answer.status, error_of(answer)["code"]) == (503, "CRYPTO_SERVER_BUSY")
        assert answer.headers["Retry-After"]
        assert len(kept) == 6


def test_a_connection_outlives_the_time_that_a_request_may_take(settings: Settings) -> None:
    with serving(settings, receive_timeout_seconds=0.2) as server, server.connect() as client:
        time.sleep(0.6)
        assert client.ask("ping")["event"] == "pong"


def test_bytes_that_come_with_the_handshake_are_not_lost(shared: LiveServer) -> None:
    connection = socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE)
    head = "\r\n".join(["GET /ws HTTP/1.1", *(f"{k}: {v}" for k, v in HANDSHAKE.items()), "", ""])
    connection.sendall(head.encode() + frame(b'{"method":"ping","id":5}'))
    received = b""
    while b"pong" not in received:
        part = connection.recv(4096)
        assert part
        received += part


# Hostile clients


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "CRYPTO_INVALID_ARGUMENT"),
        (b"subscribe", "CRYPTO_INVALID_ARGUMENT"),
        (b"[]", "CRYPTO_INVALID_ARGUMENT"),
        (b"null", "CRYPTO_INVALID_ARGUMENT"),
        (b"1e999", "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"subscribe"', "CRYPTO_INVALID_ARGUMENT"),
        (b"[" * 30_000, "CRYPTO_INVALID_ARGUMENT"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"subscribe","params":' + b"[" * 900 + b"]" * 900 + b"}", "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"nothing"}', "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":["subscribe"]}', "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"ping","extra":1}', "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"ping","params":[1]}', "CRYPTO_INVALID_ARGUMENT"),
        (b'{"method":"' + b"a" * 60_000 + b'"}', "CRYPTO_INVALID_ARGUMENT"),
        (b'{"params":{}}', "CRYPTO_INVALID_ARGUMENT"),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else "",
)
def test_nonsense_is_answered_and_put_up_with_for_a_while(shared: LiveServer, data: bytes, code: str) -> None:
    raw = Raw(shared)
    raw.send(frame(data))
    opcode, answer = raw.frame()
    assert opcode == 1
    error = json.loads(answer)["error"]
    assert error["code"] == code
    assert len(answer) < 2_000
    raw.send(frame(b'{"method":"ping"}'))
    assert b"pong" in raw.frame()[1]
    raw.send(frame(data) * 12)
    messages, closed = raw.until_closed()
    assert (len(messages), closed) == (10, wssession.POLICY_VIOLATION)


def test_binary_messages_are_refused(shared: LiveServer) -> None:
    raw = Raw(shared)
    raw.send(frame(b'{"method":"ping"}', opcode=2))
    assert "binary" in json.loads(raw.frame()[1])["error"]["message"]
    raw.send(frame(b"\x00" * 1000, opcode=2) * 20)
    assert raw.until_closed()[1] == wssession.POLICY_VIOLATION


@pytest.mark.parametrize(
    ("data", "code", "error"),
    [
        (frame(b'{"method":"ping"}', masked=False), 1002, "CRYPTO_INVALID_REQUEST"),
        (frame(b'{"method":"\xff"}'), 1007, "CRYPTO_INVALID_REQUEST"),
        (frame(b" " * (MOST_MESSAGE_BYTES + 1)), 1009, "CRYPTO_REQUEST_TOO_LARGE"),
        (b"\x81\xff" + struct.pack("!Q", 1 << 62) + bytes(4), 1009, "CRYPTO_REQUEST_TOO_LARGE"),
        (
            frame(b" " * 40_000, fin=False) + frame(b" " * 40_000, opcode=0),
            1009,
            "CRYPTO_REQUEST_TOO_LARGE",
        ),
        (frame(b"more", opcode=0), 1002, "CRYPTO_INVALID_REQUEST"),
        (frame(b"{", fin=False) + frame(b"{}"), 1002, "CRYPTO_INVALID_REQUEST"),
        (b"\xf1" + frame(b"{}")[1:], 1002, "CRYPTO_INVALID_REQUEST"),
        (frame(b"{}", opcode=3), 1002, "CRYPTO_INVALID_REQUEST"),
        (frame(b"a" * 126, opcode=9), 1002, "CRYPTO_INVALID_REQUEST"),
    ],
    ids=[
        *("not masked", "not UTF-8", "too large", "an announced size", "too large in parts"),
        *("no beginning", "no end", "reserved bits", "unknown opcode", "long ping"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_with_a_reason(
    shared: LiveServer, data: bytes, code: int, error: str
) -> None:
    raw = Raw(shared)
    raw.send(data)
    messages, closed = raw.until_closed()
    assert closed == code
    assert [one["error"]["code"] for one in messages] == [error]


def test_a_message_may_come_in_parts_with_pings_between(shared: LiveServer) -> None:
    raw = Raw(shared)
    raw.send(
        frame(b'{"method":', fin=False)
        + frame(b"are you there", opcode=9)
        + frame(b'"ping",', opcode=0, fin=False)
        + frame(b'"id":1}', opcode=0)
    )
    assert raw.frame() == (10, b"are you there")
    assert json.loads(raw.frame()[1])["id"] == 1


@pytest.mark.parametrize("opcode", [1, 9])
def test_a_flood_of_frames_ends_the_connection(shared: LiveServer, opcode: int) -> None:
    raw = Raw(shared)
    params = {"stream": "crypto.trades", "provider": "binance", "symbols": ["btcusdt"]}
    data = json.dumps({"method": "subscribe", "params": params}).encode() if opcode == 1 else b"ping"
    with _maybe_broken():
        raw.send(frame(data, opcode) * 10_000)
    messages, closed = raw.until_closed()
    assert closed in (wssession.POLICY_VIOLATION, None)
    errors = [one["error"]["code"] for one in messages if "error" in one]
    assert set(errors) == {"CRYPTO_RATE_LIMIT_EXCEEDED"}
    assert len(errors) <= 12
    assert len(messages) <= 150
    with shared.connect() as client:
        assert client.ask("ping")["event"] == "pong"


class _maybe_broken:  # noqa: N801 - used as a function
    """The server may have hung up before everything was sent."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


# Clients that do not read


def publish_much(server: LiveServer, count: int) -> None:
    publisher = server.publisher
    server.do(lambda: publisher.trade(*(float(n + 1) for n in range(count))))
    time.sleep(0.02)


def test_a_client_that_does_not_read_is_cut_off_at_its_buffer(server: LiveServer) -> None:
    with server.connect(buffer=4_096) as stuck, server.connect() as well:
        stuck.trades()
        well.trades()
        sent = 0

        def is_cut_off() -> bool:
            nonlocal sent
            publish_much(server, 2_000)
            sent += 2_000
            seen = 0
            while seen < sent:
                seen = well.read()["sequence"]
            return server.service.clients == 1

        wait_for(is_cut_off)
        assert server.service.dropped["disconnected"] == 10_000
        with pytest.raises((websocket.WebSocketException, OSError, AssertionError)):
            while stuck.read()["sequence"] < sent:
                pass
    assert well.socket


def test_a_client_that_reads_nothing_for_long_is_cut_off(settings: Settings) -> None:
    with serving(settings, send_timeout_seconds=0.3) as server, server.connect(buffer=4_096) as stuck:
        stuck.ask("configure_flow", buffer_size=100, drop_policy="newest")
        stuck.trades()

        def is_cut_off() -> bool:
            publish_much(server, 2_000)
            return server.service.clients == 0

        wait_for(is_cut_off)


def test_a_slow_client_with_a_policy_of_its_own_stays_and_is_told_what_it_missed(
    server: LiveServer,
) -> None:
    with server.connect(buffer=65_536) as slow:
        slow.ask("configure_flow", buffer_size=50, drop_policy="oldest")
        slow.trades()
        total = 0
        while not server.service.dropped["oldest"]:
            publish_much(server, 2_000)
            total += 2_000
        numbers, dropped = 0, 0
        at = 0
        while at < total:
            found = slow.read()
            first = found.get("first_sequence", found["sequence"])
            assert first == at + 1
            at = found["sequence"]
            dropped += found.get("dropped", 0)
            numbers += "dropped" not in found
        assert numbers + dropped == total
        assert dropped == server.service.dropped["oldest"]


def test_commands_of_a_client_that_does_not_read_wait(server: LiveServer) -> None:
    """Their answers would fill the server's memory."""
    with server.connect(buffer=4_096) as client:
        for number in range(60):
            client.trades("btcusdt", "ethusdt", "solusdt", channel=f"name {number} {'a' * 50}")
            time.sleep(0.06)
        for number in range(80):
            client.say("list", number)
        [connection] = server.connections()
        waiting = max(wait_for(connection._transport.get_write_buffer_size) for _ in range(20))
        assert waiting < 1 << 20
        answers = [client.read() for _ in range(80)]
        assert [one["id"] for one in answers] == list(range(80))
        assert len(answers[0]["subscriptions"]) == 180


# Time


def test_a_quiet_connection_hears_a_heartbeat(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wssession, "HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr(wsprotocol, "_BEAT_SECONDS", 0.05)
    with server.connect() as client:
        assert set(client.read()) == {"event", "timestamp"}


def test_who_wants_nothing_for_long_is_sent_away(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wssession, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(wsprotocol, "_BEAT_SECONDS", 0.05)
    with server.connect() as subscribed, server.connect() as idle:
        subscribed.trades()
        assert idle.closed() == wssession.POLICY_VIOLATION
        assert subscribed.ask("ping")["event"] == "pong"


def test_a_silent_client_is_pinged_and_given_up_without_a_pong(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_BEAT_SECONDS", 0.05), ("_PING_SECONDS", 0.3), ("_PONG_SECONDS", 0.5)):
        monkeypatch.setattr(wsprotocol, name, seconds)
    raw, answering = Raw(server), Raw(server)
    opcode, payload = answering.frame()
    assert opcode == 9
    answering.send(frame(payload, opcode=10))
    opcode, _ = raw.frame()
    assert opcode == 9
    assert raw.until_closed()[1] == wssession.INTERNAL_ERROR
    assert answering.frame()[0] == 9, "it is asked again, and not given up"


# The end


def test_a_client_may_say_goodbye(server: LiveServer) -> None:
    with server.connect() as client:
        client.trades()
        client.socket.close(status=1000, timeout=5)
    wait_for(lambda: server.service.clients == 0)
    assert server.service.hub.subscriptions == 0


@pytest.mark.parametrize("leave", [lambda raw: raw.socket.shutdown(socket.SHUT_WR), lambda raw: reset(raw)])
def test_a_client_may_leave_without_a_word(server: LiveServer, leave: Callable[[Raw], None]) -> None:
    raw = Raw(server)
    params = {"stream": "crypto.trades", "provider": "binance", "symbols": ["btcusdt"]}
    raw.send(frame(json.dumps({"method": "subscribe", "params": params}).encode()))
    raw.frame()
    leave(raw)
    wait_for(lambda: server.service.clients == 0)
    assert server.service.hub.subscriptions == 0


def reset(raw: Raw) -> None:
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()


def test_the_end_of_the_server_is_told(settings: Settings) -> None:
    server = LiveServer(settings)
    with server:
        client = server.connect()
        client.trades()
        stuck = Client(server.port)
        stuck.trades()
        server.stop()
        assert client.closed() == 1001
    assert server.publisher.is_closed
