"""A zvt home of its own for the whole run, set before anything imports zvt."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

pytest_plugins = ["sandbox_fixtures"]

# How long an example takes says nothing on a busy machine.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

_HOME = tempfile.TemporaryDirectory(prefix="zvt-crypto-tests-")
os.environ["ZVT_HOME"] = _HOME.name
os.environ["ZVT_CRYPTO_CONFIG"] = str(Path(_HOME.name) / "no-config.toml")
for _name in [name for name in os.environ if name.startswith("ZVT_CRYPTO_") and name != "ZVT_CRYPTO_CONFIG"]:
    del os.environ[_name]

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / ".." / "shared" / "real"


def pytest_collection_modifyitems(items):
    if REAL.exists():
        return
    skip = pytest.mark.skip(reason="recorded data of real exchanges is not here (../shared/real)")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def settings(tmp_path):
    """Settings of a data folder that only this test uses."""
    from zvt_crypto.core.config import Settings

    return Settings(data_path=tmp_path / "data", busy_timeout_seconds=2.0)


@pytest.fixture
def store(settings):
    from zvt_crypto.store.engine import Store

    return Store(settings)
