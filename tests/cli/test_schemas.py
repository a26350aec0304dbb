from __future__ import annotations

from zvt_crypto.domain import load_tables


def test_every_table_is_listed(inside):
    tables = load_tables()
    listed = inside.json("schemas")
    assert [row["table"] for row in listed] == list(tables)
    text = inside("schemas").stdout
    assert all(spec.class_name in text and spec.doc in text for spec in tables.values())


def test_columns_with_their_meaning(inside):
    text = inside("schemas", "CryptoPair1mKdata").stdout
    assert "number of trades" in text
    assert "cryptopair_5m_kdata" not in text
    assert "number of trades" in inside("schemas", "-v").stdout


def test_providers(inside):
    from zvt_crypto.exchanges.base import venues

    listed = {row["provider"]: row for row in inside.json("providers")}
    assert set(listed) == set(venues())
    for name, venue in venues().items():
        assert listed[name]["levels"] == list(venue.capabilities.levels)
        assert name in inside("providers").stdout
