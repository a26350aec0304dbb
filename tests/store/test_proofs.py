from __future__ import annotations

from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata  # noqa: F401
from zvt_crypto.store import proofs
from zvt_crypto.store.proofs import Proof

SPEC = tables["cryptopair_1m_kdata"]
QUIET = Proof(60_000, 180_000, "no_trade", ({"trades_covered": True, "trades": 0},), 5)
DOWN = Proof(0, 60_000, "outage", ({"second_venue": "okx", "candles": 1}, {"note": "ü"}), 6)


def test_what_is_entered_is_read_back_by_time(store):
    with store.connect("binance", SPEC) as connection:
        with connection.transaction():
            proofs.add(connection, 1, [QUIET, DOWN])
            proofs.add(connection, 2, [QUIET])
            proofs.add(connection, 3, [])
        assert proofs.read(connection, 1) == [DOWN, QUIET]
        assert proofs.read(connection, 1, ["no_trade"]) == [QUIET]
        assert proofs.read(connection, 3) == []


def test_a_later_proof_of_the_same_replaces_the_one_before(store):
    later = Proof(DOWN.start, DOWN.stop, DOWN.kind, ({"asked_again": "x"},), 9)
    with store.connect("binance", SPEC) as connection:
        for proof in (DOWN, later):
            with connection.transaction():
                proofs.add(connection, 1, [proof])
        assert proofs.read(connection, 1) == [later]
