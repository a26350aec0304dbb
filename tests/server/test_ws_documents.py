"""What the documents say to send to ``/ws`` is understood, and the snippet of the README runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from docs_blocks import ROOT, blocks
from live_publisher import Client, LiveServer, serving, wait_for

from zvt_crypto.core.config import Settings
from zvt_crypto.server import wscommands
from zvt_crypto.stream.broadcast import channellog, hub

DOCUMENTS = ("README.md", "docs/streaming.md")
COMMANDS = [
    line
    for path in DOCUMENTS
    for block in blocks(path, "json")
    for line in block.splitlines()
    if "method" in line
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = Settings(data_path=tmp_path_factory.mktemp("documents") / "data")
    with serving(settings, "binance", "okx") as running:
        yield running


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(server: LiveServer, command: str) -> None:
    with Client(server.port) as client:
        client.socket.send(command)
        answer = client.read()
        assert "error" not in answer, answer
        assert answer.get("errors", []) == []
        assert answer["event"] in ("subscribed", "unsubscribed", "flow", "list", "pong")
        assert answer["id"] == json.loads(command).get("id")
    wait_for(lambda: server.service.clients == 0)


def test_every_method_is_shown() -> None:
    shown = {json.loads(command)["method"] for command in COMMANDS}
    assert shown == set(wscommands.METHODS)


def test_numbers_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    assert f"{channellog.MOST_KEPT:,} messages ({channellog.MOST_KEPT_BYTES // 1024} KiB)" in text
    assert f"for {hub.LINGER_SECONDS:.0f} seconds after its last client" in text


def test_the_snippet_of_the_readme_runs(server: LiveServer) -> None:
    [snippet] = [block for block in blocks("README.md", "py") if ".stream(" in block]
    shown = []

    def publish() -> None:
        server.publisher.trade(1.5)

    class Enough(Exception):
        pass

    def show(value: object) -> None:
        shown.append(value)
        raise Enough

    threading.Timer(1.0, lambda: server.do(publish)).start()
    text = snippet.replace("http://127.0.0.1:8000", server.url)
    with pytest.raises(Enough):
        exec(compile(text, "README.md", "exec"), {"print": show})
    assert shown[0]["price"] == 1.5  # type: ignore[index]
