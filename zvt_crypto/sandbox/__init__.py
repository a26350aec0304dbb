"""A local exchange that speaks the venues' own wire formats over HTTP and WebSocket.

::

    with Sandbox(seed=1, faults=["status:429,path=klines,times=3"]) as box:
        os.environ["ZVT_CRYPTO_GATEWAY"] = box.url
"""

from zvt_crypto.sandbox.faults import KINDS, Fault, FaultPlan, parse_fault
from zvt_crypto.sandbox.live import ConnectionState
from zvt_crypto.sandbox.market import Candles, Instrument, Market, running_clock
from zvt_crypto.sandbox.process import SandboxSettings, run
from zvt_crypto.sandbox.replay import ReplayMarket
from zvt_crypto.sandbox.server import Request, Sandbox
from zvt_crypto.sandbox.simulated import SimulatedMarket

__all__ = [
    "KINDS",
    "Candles",
    "ConnectionState",
    "Fault",
    "FaultPlan",
    "Instrument",
    "Market",
    "ReplayMarket",
    "Request",
    "Sandbox",
    "SandboxSettings",
    "SimulatedMarket",
    "parse_fault",
    "run",
    "running_clock",
]
