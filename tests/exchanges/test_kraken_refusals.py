"""Kraken's refusals, of pairs and of perpetuals, as our errors."""

import re

import pytest
from venue_helpers import candles, once_listed

from zvt_crypto.core.errors import (
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
)
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.base import Instrument

PROVIDER = "kraken"
SPOT = Instrument("cryptopair", "btcusdt", "BTC/USDT", "XBTUSDT")
LINEAR = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "PF_XBTUSD", contract_size=1.0)


@pytest.mark.parametrize(
    ("instrument", "status", "body", "kind"),
    [
        (SPOT, 200, '{"error":["EQuery:Unknown asset pair"]}', PairNotFound),
        (SPOT, 200, '{"error":["EQuery:Invalid asset pair"]}', PairNotFound),
        (SPOT, 200, '{"error":["EGeneral:Invalid arguments"]}', NotSupported),
        (SPOT, 200, '{"error":["EAPI:Rate limit exceeded"]}', RateLimitExceeded),
        (SPOT, 200, '{"error":["EGeneral:Too many requests"]}', RateLimitExceeded),
        (SPOT, 200, '{"error":["EService:Unavailable"]}', ProviderUnavailable),
        (SPOT, 200, '{"error":["EService:Busy"]}', ProviderUnavailable),
        (SPOT, 200, '{"error":["EService:Market in cancel_only mode"]}', ExchangeMaintenance),
        (SPOT, 520, "", ProviderUnavailable),
        (LINEAR, 404, '{"errors":[{"code":87,"message":"Contract does not exist"}]}', PairNotFound),
        (LINEAR, 200, '{"result":"error","error":"invalidArgument: symbol"}', PairNotFound),
        (LINEAR, 400, '{"errors":[{"code":40,"message":"Invalid request"}]}', NotSupported),
        (LINEAR, 200, '{"result":"error","error":"apiLimitExceeded"}', RateLimitExceeded),
        (LINEAR, 200, '{"result":"error","error":"Server Error"}', ProviderUnavailable),
        (LINEAR, 503, '{"result":"error","error":"Unavailable"}', ProviderUnavailable),
    ],
)
def test_a_refusal_becomes_our_error(refused, instrument, status, body, kind):
    error = refused(kind, candles(instrument, 0, MINUTE_MS), (status, body))
    assert "kraken" in error.message and len(error.message) < 300


@pytest.mark.parametrize("code", ["nope", "btcusd"])
def test_an_unknown_market_names_the_nearest(asked, code):
    instrument = {
        "nope": Instrument("cryptopair", "btcusdx", "BTC/USDX", "XBTUSDX"),
        "btcusd": Instrument("cryptoperp", "btcusdx", "BTC/USDX:USDX", "PF_XBTUSDX"),
    }[code]
    with pytest.raises(PairNotFound, match=re.escape(instrument.symbol)) as caught:
        asked(once_listed(candles(instrument, 0, MINUTE_MS), instrument.entity_type))
    assert "BTC/USD" in caught.value.one_line().split(instrument.symbol)[-1]
