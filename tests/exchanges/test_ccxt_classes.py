"""Exchanges are imported one at a time; the user's own code still finds ccxt as it is."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
from zvt_crypto.exchanges.client import import_streaming

import_streaming("kucoinfutures")
import ccxt.async_support, ccxt.pro

for package in (ccxt.pro, ccxt.async_support):
    for name in ("kucoin", "kucoinfutures", "okx"):
        assert isinstance(getattr(package, name), type), (package, name)
assert issubclass(ccxt.pro.kucoinfutures, ccxt.pro.kucoin)
assert ccxt.pro.okx().id == "okx"
"""


def test_classes_stand_where_ccxt_has_them():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr
