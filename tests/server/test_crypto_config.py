"""``/api/crypto/config``: what is shown, who may change it, and how the settings file changes."""

import logging
import stat
import threading

import pytest

from zvt_crypto.cli import recording
from zvt_crypto.core.config import Settings, load_settings
from zvt_crypto.core.errors import ConfigError
from zvt_crypto.scheduling.lockfile import ProcessLock
from zvt_crypto.server.app import create_app
from zvt_crypto.server.configviews import DEFAULT_BACKFILL_DAYS

TOKEN = "correct horse battery staple"
PASSWORD = "gateway-password"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
TEXT = f"""\
# the settings of the house
admin_token = "{TOKEN}"

[exchange.okx]
concurrency = 3  # okx is slow
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    path.chmod(0o640)
    monkeypatch.setenv("ZVT_CRYPTO_CONFIG", str(path))
    return path


@pytest.fixture
def admin(config, tmp_path):
    """A client of an application whose settings come from the file."""
    settings = load_settings(data_path=tmp_path / "data", gateway=f"http://user:{PASSWORD}@localhost:9")
    return create_app(settings).test_client()


def put(client, exchange="binance", headers=ADMIN, **values):
    return client.put(f"/api/crypto/config/exchanges/{exchange}", json=values, headers=headers)


def test_the_shape_of_the_specification(admin):
    found = admin.get("/api/crypto/config").json
    binance = found["exchanges"]["binance"]
    assert binance["api_endpoint"] == "https://api.binance.com"
    assert binance["websocket_endpoint"] == "wss://stream.binance.com:9443/ws"
    assert binance["rate_limits"] == {"requests_per_minute": 1200, "burst_limit": 1}
    assert found["exchanges"]["okx"]["concurrency"] == 3
    assert found["exchanges"]["okx"]["overrides"] == {"concurrency": 3}
    assert (
        found["data_collection"]["default_backfill_days"] == DEFAULT_BACKFILL_DAYS == recording._DEFAULT_DAYS
    )
    assert found["data_collection"]["max_concurrent_streams"] == 200


def test_a_change_is_written_and_holds_for_who_starts_then(admin, config):
    answer = put(admin, concurrency=2, timeout_seconds=7)
    assert answer.status_code == 200
    assert answer.json["config"]["overrides"] == {"concurrency": 2, "timeout_seconds": 7.0}
    assert config.read_text() == TEXT + "\n[exchange.binance]\nconcurrency = 2\ntimeout_seconds = 7.0\n"
    assert admin.get("/api/crypto/config").json["exchanges"]["binance"]["concurrency"] == 2
    settings = load_settings()
    assert settings.of_exchange("binance").concurrency == 2
    assert settings.of_exchange("okx").concurrency == 3
    assert settings.of_exchange("kraken").concurrency == 8


def test_null_goes_back_to_the_general_setting_and_the_rest_stays(admin, config):
    put(admin, concurrency=2, rate_limit=False)
    assert admin.get("/api/crypto/config").json["exchanges"]["binance"]["rate_limits"] == {
        "requests_per_minute": None,
        "burst_limit": None,
    }
    answer = put(admin, concurrency=None)
    assert answer.json["config"]["overrides"] == {"rate_limit": False}
    assert put(admin, "okx", enabled=False).json["config"]["enabled"] is False
    assert "concurrency = 3  # okx is slow\nenabled = false\n" in config.read_text()


def test_other_exchanges_of_ccxt_go_by_their_id(admin):
    assert put(admin, "gate", concurrency=1).status_code == 200
    assert load_settings().of_exchange("gate").concurrency == 1
    assert admin.get("/api/crypto/config").json["exchanges"]["gate"]["api_endpoint"] is None


def test_the_file_keeps_its_mode_its_place_and_nothing_is_left_beside_it(
    admin, config, tmp_path, monkeypatch
):
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    monkeypatch.setenv("ZVT_CRYPTO_CONFIG", str(link))
    assert put(admin, concurrency=2).status_code == 200
    assert link.is_symlink()
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert "[exchange.binance]" in config.read_text()
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_a_new_file_is_its_owners_only(tmp_path, monkeypatch):
    path = tmp_path / "new" / "config.toml"
    monkeypatch.setenv("ZVT_CRYPTO_CONFIG", str(path))
    client = create_app(Settings(data_path=tmp_path / "data", admin_token=TOKEN)).test_client()
    assert put(client, concurrency=2).status_code == 200
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_changes_at_once_are_all_kept(admin):
    names = ["binance", "okx", "bybit", "kraken", "kucoin", "coinbase", "cryptocom", "gate"]
    app = admin.application
    statuses = []

    def change(name):
        statuses.append(put(app.test_client(), name, concurrency=5).status_code)

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(names)
    assert {name: entry.concurrency for name, entry in load_settings().exchange.items()} == dict.fromkeys(
        names, 5
    )


def test_another_process_that_changes_the_file_is_waited_for_a_moment(admin, tmp_path):
    lock = ProcessLock(tmp_path / "state" / "settings.lock")
    lock.acquire("a test")
    try:
        answer = put(admin, concurrency=2)
    finally:
        lock.release()
    assert answer.status_code == 503
    assert answer.json["error"]["code"] == "CRYPTO_STORE_BUSY"
    assert put(admin, concurrency=2).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer \u00e9\u00e8"},
    ],
)
def test_only_the_token_opens(admin, config, headers):
    answer = put(admin, headers=headers, concurrency=2)
    assert answer.status_code == 401
    assert answer.json["error"]["code"] == "CRYPTO_AUTH_FAILED"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert config.read_text() == TEXT


def test_who_has_no_token_learns_nothing_of_the_body(admin):
    assert put(admin, headers={}, colour="red").status_code == 401
    assert put(admin, "nosuch", headers={}).status_code == 401


def test_without_a_token_in_the_settings_nobody_may(tmp_path, config):
    config.write_text("")
    client = create_app(Settings(data_path=tmp_path / "data")).test_client()
    answer = put(client, concurrency=2)
    assert answer.status_code == 403
    assert answer.json["error"]["code"] == "CRYPTO_ADMIN_DISABLED"
    assert "admin_token" in answer.json["error"]["recovery_suggestions"][0]
    assert config.read_text() == ""


@pytest.mark.parametrize(
    ("exchange", "values", "words"),
    [
        ("binance", {"concurrency": 0}, "concurrency"),
        ("binance", {"concurrency": 65}, "concurrency"),
        ("binance", {"concurrency": True}, "concurrency"),
        ("binance", {"concurrency": "2"}, "concurrency"),
        ("binance", {"timeout_seconds": 0}, "timeout_seconds"),
        ("binance", {"timeout_seconds": 1e9}, "timeout_seconds"),
        ("binance", {"timeout_seconds": float("inf")}, "timeout_seconds"),
        ("binance", {"enabled": "no"}, "enabled"),
        ("binance", {"api_key": "x"}, "api_key"),
        ("binance", {}, "nothing"),
        ("binanse", {"concurrency": 2}, "binance"),
        ("binanceusdm", {"concurrency": 2}, "binance"),
        ("x]\n[schedule", {"concurrency": 2}, "exchange"),
        ("y" * 60, {"concurrency": 2}, "exchange_name"),
    ],
)
def test_a_wrong_change_is_refused_and_nothing_is_written(admin, config, exchange, values, words):
    answer = put(admin, exchange, **values)
    assert answer.status_code == 400
    error = answer.json["error"]
    assert words in error["message"] + str(error["recovery_suggestions"])
    assert config.read_text() == TEXT


def test_a_broken_file_is_not_made_worse(admin, config):
    config.write_text("concurrency = \n")
    assert put(admin, concurrency=2).json["error"]["code"] == "CRYPTO_CONFIG_INVALID"
    assert config.read_text() == "concurrency = \n"


def test_a_variable_that_would_overrule_the_file_is_named(admin, config, monkeypatch):
    monkeypatch.setenv("ZVT_CRYPTO_EXCHANGE", '{"okx": {"concurrency": 4}}')
    answer = put(admin, concurrency=2)
    assert answer.status_code == 400
    assert "ZVT_CRYPTO_EXCHANGE" in answer.json["error"]["message"]
    assert config.read_text() == TEXT


def test_no_answer_log_or_repr_holds_a_secret(admin, config, caplog):
    caplog.set_level(logging.DEBUG)
    answers = [
        admin.get(path)
        for path in ("/api/crypto/config", "/api/crypto/metrics", "/metrics", "/health", "/openapi.json")
    ]
    answers += [put(admin, concurrency=2), put(admin, concurrency=0), put(admin, "nosuch", concurrency=1)]
    config.write_text(TEXT.replace("concurrency = 3", "concurrency = "))
    answers += [admin.get("/api/crypto/config"), put(admin, concurrency=2)]
    told = "".join(answer.text for answer in answers) + caplog.text
    for secret in (TOKEN, PASSWORD):
        assert secret not in told
    config.write_text(TEXT)
    settings = load_settings()
    assert settings.admin_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_token_that_is_too_short_is_refused_unseen(config):
    config.write_text('admin_token = "sesame"\n')
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "admin_token" in caught.value.one_line()
    assert "sesame" not in caught.value.one_line() + repr(caught.value.__cause__) + str(caught.value.details)


@pytest.mark.parametrize(
    "text",
    [
        "[exchange.binance]\nconcurrency = 0\n",
        "[exchange.binance]\ncolour = 'red'\n",
        "[exchange.'Binance US']\nconcurrency = 1\n",
        "[exchange.binance]\nconcurrency = '3'\n",
    ],
)
def test_wrong_overrides_in_the_file_are_named(config, text):
    config.write_text(text)
    with pytest.raises(ConfigError, match="exchange"):
        load_settings()
