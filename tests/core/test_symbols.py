import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zvt_crypto.core import symbols
from zvt_crypto.core.errors import SymbolMappingError

CURRENCY = st.text(
    st.characters(codec="utf-8", categories=["Lu", "Nd"], include_characters="_-.%"), min_size=1, max_size=8
)
PLAIN = st.text("ABCDEFGHXYZ0123456789", min_size=1, max_size=6)


@given(CURRENCY, CURRENCY, st.none() | CURRENCY)
def test_entity_id_takes_apart_into_what_it_was_made_of(base, quote, settle):
    market = symbols.Market(base, quote, settle)
    made = symbols.entity_id(market.entity_type, "binance", market.code)
    assert symbols.split_entity_id(made) == (market.entity_type, "binance", market.code)
    assert made.count("_") == 2


@given(CURRENCY, CURRENCY, st.none() | CURRENCY)
def test_unified_symbol_round_trip(base, quote, settle):
    assume("/" not in base + quote)
    market = symbols.Market(base, quote, settle)
    assert symbols.parse_symbol(market.symbol) == market
    assert symbols.parse_notation(market.symbol).codes == (market.code,)


@given(PLAIN, PLAIN)
def test_every_notation_of_a_pair_can_mean_its_code(base, quote):
    code = symbols.Market(base, quote).code
    for text in (
        f"{base}/{quote}",
        f"{base}-{quote}",
        f"{base}_{quote}",
        f"{base}{quote}",
        code,
        f" {code} ",
    ):
        assert code in symbols.parse_notation(text).codes, text


@pytest.mark.parametrize(
    ("text", "code", "entity_type"),
    [
        ("btcusdt", "btcusdt", None),
        ("BTCUSDT", "btcusdt", None),
        ("btcusdt-perp", "btcusdt", "cryptoperp"),
        ("BTC/USDT:USDT", "btcusdt", "cryptoperp"),
        ("BTC-USDT-SWAP", "btcusdt", "cryptoperp"),
        ("BTC/USD:BTC", "btcusd-btc", "cryptoperp"),
        ("BTC-USD-SWAP", "btcusd-btc", "cryptoperp"),
        ("btcusd-btc", "btcusd-btc", None),
        ("cryptoperp_okx_btcusd-btc", "btcusd-btc", "cryptoperp"),
    ],
)
def test_notation(text, code, entity_type):
    read = symbols.parse_notation(text)
    assert code in read.codes and read.entity_type == entity_type


@pytest.mark.parametrize("text", ["", "  ", "BTC/", "a/b/c", "cryptopair_binance", "cryptopair_a_b_c"])
def test_what_names_no_market_is_refused(text):
    with pytest.raises(SymbolMappingError):
        symbols.parse_notation(text)


def test_settlement_is_part_of_the_code_only_where_it_differs_from_the_quote():
    assert symbols.Market("BTC", "USDT", "USDT").code == "btcusdt"
    assert symbols.Market("BTC", "USD", "BTC").code == "btcusd-btc"
    assert symbols.Market("BTC", "USD", "BTC").code != symbols.Market("BTC", "USD", "USD").code
