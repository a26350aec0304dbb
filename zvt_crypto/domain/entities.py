"""Instruments: currencies, spot pairs and perpetuals, one row each.

Fields follow ``crypto-api.md`` ("Entity Endpoints"), plus what recording needs (``symbol``, ``native_id``).
Steps, fees and sizes are NULL where the venue does not publish them.
"""

from __future__ import annotations

from zvt_crypto.core.tables import Column, TableSpec, tables

_IDENTITY = (
    Column("symbol", "text", "ccxt's unified symbol, such as BTC/USDT or BTC/USDT:USDT"),
    Column("native_id", "text", "the venue's own name of the market, such as BTCUSDT or BTC-USDT-SWAP"),
    Column("base_symbol", "text", "base currency in lower case"),
    Column("quote_symbol", "text", "quote currency in lower case"),
)

_TRADING = (
    Column("price_step", "float", "smallest price change, in quote currency"),
    Column(
        "qty_step", "float", "smallest quantity change; base currency for pairs, contracts for perpetuals"
    ),
    Column("min_qty", "float", "smallest order quantity, in the unit of qty_step"),
    Column("max_qty", "float", "largest order quantity, in the unit of qty_step"),
    Column("min_notional", "float", "smallest order value, in quote currency"),
    Column("maker_fee", "float", "maker fee at the lowest tier, as a fraction"),
    Column("taker_fee", "float", "taker fee at the lowest tier, as a fraction"),
    Column("margin_enabled", "bool", "whether margin trading is allowed"),
    Column("is_active", "bool", "whether the market trades now"),
)

_CONTRACT = (
    Column("underlying_symbol", "text", "currency that the contract follows, in lower case"),
    Column("settlement_symbol", "text", "currency that margin and profit are paid in, in lower case"),
    Column("contract_size", "float", "base currency of one contract; quote currency where inverse"),
    Column("inverse", "bool", "true where one contract is an amount of the quote currency"),
    Column("max_leverage", "float", "largest leverage, where the venue publishes it"),
    Column("funding_interval_hours", "float", "hours between funding payments, where the venue publishes it"),
)

ASSET = tables.add(
    TableSpec(
        name="cryptoasset",
        class_name="CryptoAsset",
        entity_type="cryptoasset",
        feed="instruments",
        layout="entities",
        columns=(
            Column("symbol", "text", "currency as the venue writes it, such as BTC"),
            Column("is_active", "bool", "whether any market of the currency trades now"),
        ),
        doc="Currencies that a venue's markets are quoted, based or settled in",
    )
)

PAIR = tables.add(
    TableSpec(
        name="cryptopair",
        class_name="CryptoPair",
        entity_type="cryptopair",
        feed="instruments",
        layout="entities",
        columns=_IDENTITY + _TRADING,
        doc="Spot pairs of a venue: steps, minimum notional, fees, list date",
    )
)

PERP = tables.add(
    TableSpec(
        name="cryptoperp",
        class_name="CryptoPerp",
        entity_type="cryptoperp",
        feed="instruments",
        layout="entities",
        columns=_IDENTITY + _TRADING + _CONTRACT,
        doc="Perpetuals of a venue: steps, fees, contract size, settlement, leverage, funding interval",
    )
)
