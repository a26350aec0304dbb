"""What venues answer when they refuse, as our errors."""

import pytest
from venue_helpers import candles, once_listed

from zvt_crypto.core.errors import (
    AuthError,
    ClockSkew,
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
    RegionBlocked,
)
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.ccxt_errors import readable, refusal

MARKET = {
    "binance": Instrument("cryptopair", "foousdt", "FOO/USDT", "FOOUSDT"),
    "binance perp": Instrument("cryptoperp", "foousdt", "FOO/USDT:USDT", "FOOUSDT"),
    "okx": Instrument("cryptopair", "foousdt", "FOO/USDT", "FOO-USDT"),
}
RESTRICTED = '{"code":0,"msg":"Service unavailable from a restricted location according to b."}'
PAGE = "<html><head><style>b{color:red}</style><title>502 Bad Gateway</title></head><body>{}</body></html>"

CASES = [
    ("binance", 400, '{"code":-1121,"msg":"Invalid symbol."}', PairNotFound),
    ("binance perp", 400, '{"code":-1121,"msg":"Invalid symbol."}', PairNotFound),
    ("binance", 400, '{"code":-1021,"msg":"Timestamp is outside of the recvWindow."}', ClockSkew),
    ("binance", 400, '{"code":-1100,"msg":"Illegal characters found in a parameter."}', NotSupported),
    ("binance", 401, '{"code":-2014,"msg":"API-key format invalid."}', AuthError),
    (
        "binance",
        418,
        '{"code":-1003,"msg":"Way too much request weight used; IP banned."}',
        RateLimitExceeded,
    ),
    ("binance", 429, '{"code":-1003,"msg":"Too much request weight used."}', RateLimitExceeded),
    ("binance", 451, RESTRICTED, RegionBlocked),
    ("binance", 403, RESTRICTED, RegionBlocked),
    ("binance", 503, '{"code":1,"msg":"System is under maintenance."}', ExchangeMaintenance),
    ("binance perp", 503, '{"code":-1008,"msg":"Server is currently overloaded."}', ProviderUnavailable),
    ("binance", 500, '{"code":-1000,"msg":"An unknown error occurred."}', ProviderUnavailable),
    ("binance", 502, PAGE, ProviderUnavailable),
    ("binance", 503, "<html>We are down for maintenance</html>", ExchangeMaintenance),
    ("binance", 524, "<html>A timeout occurred</html>", ProviderUnavailable),
    ("binance", 524, "{}", ProviderUnavailable),
    ("binance", 200, PAGE, ProviderUnavailable),
    ("binance", 200, "", ProviderUnavailable),
    ("binance", 200, '[[1,"2"', ProviderUnavailable),
    ("binance", 200, '{"rows":1}', ProviderUnavailable),
    ("okx", 200, '{"code":"51001","data":[],"msg":"Instrument ID doesn\'t exist."}', PairNotFound),
    ("okx", 200, '{"code":"50001","data":[],"msg":"Service temporarily unavailable."}', ExchangeMaintenance),
    ("okx", 200, '{"code":"50011","data":[],"msg":"Too Many Requests"}', RateLimitExceeded),
    ("okx", 429, '{"code":"50011","data":[],"msg":"Too Many Requests"}', RateLimitExceeded),
    ("okx", 401, '{"code":"50102","data":[],"msg":"Timestamp request expired"}', ClockSkew),
    ("okx", 400, '{"code":"51000","data":[],"msg":"Parameter bar error"}', NotSupported),
    ("okx", 503, '{"code":"50013","data":[],"msg":"Systems are busy."}', ProviderUnavailable),
    ("okx", 200, '{"code":"0","msg":""}', ProviderUnavailable),
    ("okx", 451, '{"code":"51155","data":[],"msg":"local laws and regulations"}', RegionBlocked),
]


@pytest.mark.parametrize(("market", "status", "body", "kind"), CASES)
def test_a_refusal_becomes_our_error(refused, market, status, body, kind):
    answers = [(status, body)]
    if market == "okx":
        answers.insert(0, '{"code":"0","data":[{"ts":"1717243200000"}],"msg":""}')
    provider = market.split()[0]
    error = refused(kind, candles(MARKET[market], 0, 600_000), *answers, provider=provider)
    assert error.details["attempts"] == 1
    assert "?" not in error.message.replace("mean", "")
    assert len(error.message) < 300
    assert provider in error.message or "exchange" in error.message


def test_a_missing_pair_names_the_nearest(asked):
    wrong = Instrument("cryptopair", "btcusdx", "BTC/USDX", "BTCUSDX")
    with pytest.raises(PairNotFound, match="unknown binance symbol 'BTC/USDX'") as caught:
        asked(once_listed(candles(wrong, 0, 600_000), "cryptopair"), provider="binance")
    assert "BTC/USDT" in caught.value.one_line()


@pytest.mark.parametrize(
    ("headers", "body", "least", "most"),
    [
        ({"Retry-After": "17"}, "", 17, 17),
        ({"retry-after": "2.5"}, "", 2.5, 2.5),
        ({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}, "", 1e9, 1e10),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, "", 1, 1),
        ({}, '{"code":-1003,"msg":"IP banned until 4102444800000."}', 1e9, 1e10),
        ({"Retry-After": "9"}, '{"msg":"IP banned until 4102444800000."}', 9, 9),
    ],
)
def test_the_time_to_wait_is_read(headers, body, least, most):
    assert least <= refusal("x", 418, headers, body).retry_after <= most


@pytest.mark.parametrize("value", ["soon", "", "-5"])
def test_an_unreadable_time_to_wait_is_none(value):
    assert refusal("x", 429, {"Retry-After": value}, "").retry_after is None


def test_what_is_shown_of_an_answer_is_short_and_holds_no_query():
    assert readable(PAGE) == "502 Bad Gateway {}"
    assert readable('{"code":1,"msg":"No."}') == "No."
    assert "secret" not in readable("GET https://x.com/a?signature=secret&b=1 500")
    assert len(readable("x" * 10_000)) == 200
