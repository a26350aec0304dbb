import subprocess
import sys

SCRIPT = """
import sys
from zvt_crypto.exchanges.client import import_exchange
binance, failure = import_exchange("binance")
loaded = [name for name in sys.modules if name.startswith("ccxt.async_support.") and name.count(".") == 2]
assert set(loaded) == {"ccxt.async_support.base", "ccxt.async_support.binance"}, loaded
import ccxt, ccxt.async_support
from ccxt.base.errors import BaseError
assert BaseError is failure and ccxt.BaseError is failure
assert ccxt.async_support.kraken.__name__ == "kraken"
assert ccxt.async_support.binance is binance
assert ccxt.__version__[0].isdigit() and "kraken" in ccxt.exchanges and ccxt.NetworkError
assert issubclass(ccxt.NetworkError, failure)
from ccxt import okx
try:
    ccxt.nonsense
except AttributeError as error:
    assert "nonsense" in str(error)
else:
    raise AssertionError("a name that does not exist was found")
"""


def test_ccxt_loads_one_exchange_and_becomes_whole_when_someone_uses_it():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
