"""The SQL of a table: compact rows under a view, made from its ``TableSpec``.

A series lives in ``rows``, keyed (entity, ts) and by the table's own keys, without rowid. The view of the
table's own name shows what people and zvt expect, and its INSTEAD OF triggers carry their writes to the rows.
Columns with a unit hold an integer where ``value * scale`` is one exactly (the scale is a power of ten kept
with the entity), and the value itself where it is not; the type of the stored value tells which.

A stretch of an entity's time (``chunks``) carries a version that every change of its rows replaces, whoever
makes it: our writer and the view's triggers when they insert, triggers of ``rows`` for updates and deletes.
"""

from __future__ import annotations

from typing import Final

from zvt_crypto.core.tables import Column, TableSpec
from zvt_crypto.store.keys import kept_key_sql

#: Raised with every change of the SQL below; ``upgrade_statements`` brings older files up to it.
LAYOUT_VERSION: Final = 3

_SQL_TYPE: Final = {"float": "REAL", "int": "INTEGER", "text": "TEXT", "time": "INTEGER", "bool": "INTEGER"}

#: Columns of the view that no TableSpec lists, with their SQL.
_VIEW_HEAD: Final = {
    "id": "e.entity_id || '_' || strftime('%Y-%m-%dT%H:%M:', r.ts / 1000, 'unixepoch') ||"
    " CASE r.ts % 1000 WHEN 0 THEN strftime('%SZ', r.ts / 1000, 'unixepoch')"
    " ELSE strftime('%S', r.ts / 1000, 'unixepoch') || printf('.%03dZ', r.ts % 1000) END",
    "entity_id": "e.entity_id",
    "timestamp": "r.ts",
    "provider": "'{provider}'",
    "code": "e.code",
    "name": "e.name",
    "level": "{level}",
}

#: Columns of an entity table before those of its TableSpec, in zvt's order.
ENTITY_HEAD: Final = {
    "id": "TEXT PRIMARY KEY NOT NULL",
    "entity_id": "TEXT NOT NULL",
    "timestamp": "INTEGER",
    "entity_type": "TEXT NOT NULL",
    "exchange": "TEXT NOT NULL",
    "code": "TEXT NOT NULL",
    "name": "TEXT",
    "list_date": "INTEGER",
    "end_date": "INTEGER",
}

#: Rows that our writer has stored since the file was made, replaced ones included.
WRITTEN: Final = "SELECT CAST(coalesce(max(value), 0) AS INTEGER) FROM meta WHERE key = 'rows_written'"

_NEW_VERSION: Final = "random() & 9223372036854775807"

#: What was found out about stretches of an entity's time; see ``proofs``.
_PROOFS: Final = (
    "CREATE TABLE proofs (entity INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,"
    " kind TEXT NOT NULL, evidence TEXT NOT NULL, proved_at INTEGER NOT NULL,"
    " PRIMARY KEY (entity, start, stop, kind)) WITHOUT ROWID"
)

# pandas and ORM sessions write times as text, our own code as epoch milliseconds.
_NEW_TS = (
    "CASE typeof(NEW.timestamp) WHEN 'integer' THEN NEW.timestamp"
    " ELSE CAST(round((julianday(NEW.timestamp) - 2440587.5) * 86400000.0) AS INTEGER) END"
)
# What follows the last underscore of the entity id.
_NEW_CODE = (
    "coalesce(NEW.code, replace(NEW.entity_id, rtrim(NEW.entity_id, replace(NEW.entity_id, '_', '')), ''))"
)


def create_statements(spec: TableSpec, provider: str) -> list[str]:
    """The statements that make an empty file into the table of ``spec`` for ``provider``."""
    if spec.layout == "entities":
        return [_entity_table(spec)]
    return [*_series_tables(spec), _view(spec, provider), *_triggers(spec)]


def upgrade_statements(spec: TableSpec, version: int) -> list[str]:
    """The statements that bring a file of an older layout up to this one.

    Args:
        spec: The table.
        version: The file's layout, from 1 on.
    """
    if spec.layout == "entities":
        return []
    statements: list[str] = []
    if version < 2:
        statements += [
            *(f"DROP TRIGGER IF EXISTS {spec.name}_{verb}" for verb in ("insert", "delete", "update")),
            *_triggers(spec),
            f"UPDATE chunks SET version = {_NEW_VERSION}",
        ]
    if version < 3:
        statements.append(_PROOFS)
    return statements


def decoded(column: Column) -> str:
    """SQL of a stored column's value, over ``rows r`` and ``entities e``."""
    if column.is_key:
        return f"CAST(r.{column.name} AS TEXT)"
    if column.unit is None:
        return f"r.{column.name}"
    return (
        f"CASE typeof(r.{column.name}) WHEN 'integer'"
        f" THEN r.{column.name} / e.{column.unit}_scale ELSE r.{column.name} END"
    )


def upsert_statement(spec: TableSpec, entity: int, count: int = 1) -> str:
    """Insert rows (ts, columns in order) of an entity, or bring the rows of these times up to date.

    Args:
        spec: The table.
        entity: The entity's key.
        count: Rows of which the parameters come at once, one row's after the other's.
    """
    names = ["ts", *(c.name for c in spec.columns)]
    row = f"({entity:d}, {', '.join('?' for _ in names)})"
    values = ", ".join([row] * count)
    return f"INSERT INTO rows (entity, {', '.join(names)}) VALUES {values} {_on_conflict(spec)}"


def entity_upsert_statement(names: list[str]) -> str:
    """Insert an entity row with these columns, or bring it up to date; a known list date is kept."""
    marks = ", ".join("?" for _ in names)
    updates = ", ".join(
        f"{n} = coalesce(excluded.{n}, {n})" if n in ("list_date", "timestamp") else f"{n} = excluded.{n}"
        for n in names
        if n != "id"
    )
    return (
        f"INSERT INTO {{table}} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT(id) DO UPDATE SET {updates}"
    )


def touch_statement(spec: TableSpec, entity: str, chunk: str) -> str:
    """Give a chunk (``ts / chunk_ms``) a new version, which tells copies of its rows that they are stale.

    Versions are drawn at random: a file restored from a backup and written again never comes to one that a
    copy of other rows has.

    Args:
        spec: The table.
        entity: SQL of the entity's key.
        chunk: SQL of the chunk's number.
    """
    return (
        f"INSERT INTO chunks (entity, chunk, version, written_at)"
        f" VALUES ({entity}, {chunk}, {_NEW_VERSION}, strftime('%s', 'now') * 1000)"
        " ON CONFLICT (entity, chunk) DO UPDATE SET version = excluded.version,"
        " written_at = excluded.written_at"
    )


def count_statement(rows: int) -> str:
    """Add to the count of rows that our writer has stored since the file was made; ``WRITTEN`` reads it."""
    return (
        f"INSERT INTO meta VALUES ('rows_written', {rows:d})"
        " ON CONFLICT (key) DO UPDATE SET value = value + excluded.value"
    )


def _entity_table(spec: TableSpec) -> str:
    columns = [f"{name} {sql}" for name, sql in ENTITY_HEAD.items()]
    columns += [f"{c.name} {_SQL_TYPE[c.type]}" for c in spec.columns]
    return f"CREATE TABLE {spec.name} ({', '.join(columns)})"


def _series_tables(spec: TableSpec) -> list[str]:
    scales = "".join(f", {unit}_scale REAL" for unit in spec.units)
    # Columns with a unit, and keys, have no affinity: SQLite must not turn 5.0 into 5, or 5 into '5'.
    columns = ", ".join(
        f"{c.name} {'' if c.unit or c.is_key else _SQL_TYPE[c.type]}".strip() for c in spec.columns
    )
    return [
        "CREATE TABLE entities (key INTEGER PRIMARY KEY, entity_id TEXT NOT NULL UNIQUE,"
        f" code TEXT NOT NULL, name TEXT{scales})",
        "CREATE INDEX entities_code ON entities (code)",
        f"CREATE TABLE rows (entity INTEGER NOT NULL, ts INTEGER NOT NULL, {columns},"
        f" PRIMARY KEY ({', '.join(_key(spec))})) WITHOUT ROWID",
        "CREATE TABLE coverage (entity INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,"
        " state TEXT NOT NULL, source TEXT NOT NULL,"
        " PRIMARY KEY (entity, state, source, start)) WITHOUT ROWID",
        "CREATE TABLE chunks (entity INTEGER NOT NULL, chunk INTEGER NOT NULL, version INTEGER NOT NULL,"
        " written_at INTEGER NOT NULL, PRIMARY KEY (entity, chunk)) WITHOUT ROWID",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)",
        "INSERT INTO meta VALUES ('uid', lower(hex(randomblob(8))))",
        "CREATE TABLE removed (entity INTEGER NOT NULL, ts INTEGER NOT NULL,"
        " PRIMARY KEY (entity, ts)) WITHOUT ROWID",
        _PROOFS,
    ]


def _key(spec: TableSpec) -> list[str]:
    return ["entity", "ts", *(c.name for c in spec.keys)]


def _view(spec: TableSpec, provider: str) -> str:
    quoted = provider.replace("'", "''")
    level = f"'{spec.level}'" if spec.level else "NULL"
    shown = dict(_VIEW_HEAD)
    if spec.keys:
        shown["id"] = " || '_' || ".join(["e.entity_id", *(f"r.{c.name}" for c in spec.keys)])
    head = [f"{sql.format(provider=quoted, level=level)} AS {name}" for name, sql in shown.items()]
    body = [f"{decoded(c)} AS {c.name}" for c in spec.columns]
    tail = "".join(f", {d.sql} AS {d.name}" for d in spec.derived)
    inner = f"SELECT {', '.join([*head, *body])} FROM rows r JOIN entities e ON e.key = r.entity"
    return f"CREATE VIEW {spec.name} AS SELECT *{tail} FROM ({inner})"


def _on_conflict(spec: TableSpec) -> str:
    names = [c.name for c in spec.columns if not c.is_key]
    updates = ", ".join(f"{n} = excluded.{n}" for n in names)
    # The same data twice writes no page.
    old, new = ", ".join(names), ", ".join(f"excluded.{n}" for n in names)
    return f"ON CONFLICT ({', '.join(_key(spec))}) DO UPDATE SET {updates} WHERE ({old}) IS NOT ({new})"


def _triggers(spec: TableSpec) -> list[str]:
    names = ", ".join(["entity", "ts", *(c.name for c in spec.columns)])
    values = ", ".join(map(_new_value, spec.columns))
    key = "(SELECT key FROM entities WHERE entity_id = {row}.entity_id)"
    new_key = key.format(row="NEW")
    insert = (
        "INSERT OR IGNORE INTO entities (entity_id, code, name)"
        f" VALUES (NEW.entity_id, {_NEW_CODE}, NEW.name);"
        f" INSERT INTO rows ({names}) SELECT key, {_NEW_TS}, {values} FROM entities"
        f" WHERE entity_id = NEW.entity_id {_on_conflict(spec)};"
        f" DELETE FROM removed WHERE ts = {_NEW_TS} AND entity = {new_key};"
        f" {touch_statement(spec, new_key, f'({_NEW_TS}) / {spec.chunk_ms}')};"
    )
    which = "".join(f" AND {c.name} IS {kept_key_sql(f'OLD.{c.name}')}" for c in spec.keys)
    delete = f"DELETE FROM rows WHERE ts = OLD.timestamp AND entity = {key.format(row='OLD')}{which};"
    return [
        f"CREATE TRIGGER {spec.name}_{verb.lower()} INSTEAD OF {verb} ON {spec.name} BEGIN {body} END"
        for verb, body in (("INSERT", insert), ("DELETE", delete), ("UPDATE", delete + insert))
    ] + _row_triggers(spec)


def _new_value(column: Column) -> str:
    value = f"NEW.{column.name}"
    if column.is_key:
        return kept_key_sql(value)
    return f"CAST({value} AS REAL)" if column.type == "float" else value


def _row_triggers(spec: TableSpec) -> list[str]:
    """What must follow an update or a delete of ``rows``, from wherever it comes."""
    touch = {
        row: f"UPDATE chunks SET version = {_NEW_VERSION}"
        f" WHERE entity = {row}.entity AND chunk = {row}.ts / {spec.chunk_ms};"
        for row in ("OLD", "NEW")
    }
    # A removed row counts as never asked for, so that the next backfill fetches it again.
    removed = "INSERT OR IGNORE INTO removed VALUES (OLD.entity, OLD.ts);"
    return [
        f"CREATE TRIGGER rows_update AFTER UPDATE ON rows BEGIN {touch['OLD']} END",
        f"CREATE TRIGGER rows_move AFTER UPDATE OF entity, ts ON rows BEGIN {touch['NEW']} END",
        f"CREATE TRIGGER rows_delete AFTER DELETE ON rows BEGIN {removed} {touch['OLD']} END",
    ]
