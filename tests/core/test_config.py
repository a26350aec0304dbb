import pytest

from zvt_crypto.core.config import load_settings
from zvt_crypto.core.errors import ConfigError


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("ZVT_CRYPTO_CONFIG", str(path))
    return path


def test_command_line_beats_environment_beats_file_beats_default(config, monkeypatch):
    assert load_settings().concurrency == 8
    config.write_text("concurrency = 3\n")
    assert load_settings().concurrency == 3
    monkeypatch.setenv("ZVT_CRYPTO_CONCURRENCY", "4")
    assert load_settings().concurrency == 4
    assert load_settings(concurrency=5).concurrency == 5
    assert load_settings(concurrency=None).concurrency == 4


def test_data_path_is_zvts_own(config, monkeypatch, tmp_path):
    monkeypatch.setenv("ZVT_HOME", str(tmp_path / "home"))
    assert load_settings().data_path == tmp_path / "home" / "data"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concurrency = 0", "concurrency"),
        ("gateway = 'localhost:1'", "http://"),
        ("colour = 'red'", "colour"),
        ("concurrency = ", "config.toml"),
    ],
)
def test_a_wrong_setting_is_named(config, text, words):
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert words in caught.value.one_line()
    assert "\n" not in caught.value.one_line()
