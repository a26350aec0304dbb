import os
import subprocess
import sys
import threading

import pytest

from zvt_crypto.core.errors import ConfigError, StoreBusy, StoreCorrupt, ZvtCryptoError
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata  # noqa: F401

SPEC = tables["cryptopair_1m_kdata"]

HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


def test_nothing_is_made_before_first_use(store, settings):
    store.engine("binance", SPEC.name)
    assert not store.exists("binance", SPEC)
    assert not settings.data_path.exists()


def test_a_table_is_a_wal_file_that_any_sqlite_opens(store):
    store.connect("binance", SPEC).close()
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "print(c.execute('PRAGMA journal_mode').fetchone()[0],"
        "[r[1] for r in c.execute('PRAGMA table_info(cryptopair_1m_kdata)')])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, str(store.path("binance", SPEC))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith("wal ")
    for name in ("id", "entity_id", "timestamp", "open", "volume_base", "vwap", "turnover_rate"):
        assert f"'{name}'" in shown


def test_a_lock_held_by_another_process_is_waited_for_and_then_named(store):
    connection = store.connect("binance", SPEC)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(connection.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusy, match="written by another program"), connection.transaction():
            pass
    finally:
        holder.communicate()
    with connection.transaction():
        assert connection.run("DELETE FROM removed") == 0
    connection.close()


def test_zvt_sessions_and_our_writer_exclude_each_other(store):
    """Both must use one SQLite: two copies in one process do not see each other's locks."""
    connection = store.connect("binance", SPEC)
    session = store.engine("binance", SPEC.name).connect()
    session.exec_driver_sql("DELETE FROM removed")
    with pytest.raises(StoreBusy), connection.transaction():
        pass
    session.rollback()
    with connection.transaction():
        pass
    session.close()
    connection.close()


@pytest.mark.parametrize(
    "content",
    [b"this is no database, but some text of some length" * 30, b"SQLite format 3\0" + b"\xff" * 5000],
)
def test_a_damaged_file_is_named(store, content):
    path = store.path("binance", SPEC)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="damaged"):
        store.connect("binance", SPEC)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_layout_is_left_alone(store):
    with store.connect("binance", SPEC) as connection:
        connection.run("PRAGMA user_version = 99")
    with pytest.raises(StoreCorrupt, match="layout 99"):
        store.connect("binance", SPEC)


@pytest.mark.parametrize("provider", ["", "..", "a/b", "/etc"])
def test_a_provider_name_never_leads_out_of_the_data_folder(store, provider):
    with pytest.raises(ConfigError):
        store.path(provider, SPEC)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(store, settings):
    settings.data_path.mkdir()
    settings.data_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be"):
        store.connect("binance", SPEC)


def test_many_first_users_at_once(store):
    errors = []

    def use():
        try:
            store.connect("binance", SPEC).close()
        except ZvtCryptoError as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_file_of_the_first_layout_is_brought_up_to_date(store):
    """Layout 1 had the touch in the view's triggers only, and versions that count."""
    with store.connect("binance", SPEC) as connection:
        connection.run("DROP TABLE proofs")
        for trigger in ("rows_update", "rows_move", "rows_delete"):
            connection.run(f"DROP TRIGGER {trigger}")
        connection.run("INSERT INTO chunks VALUES (1, 1, 7, 0)")
        connection.run("PRAGMA user_version = 1")
    with store.connect("binance", SPEC) as connection:
        assert connection.value("PRAGMA user_version") == 3
        assert connection.value("SELECT count(*) FROM proofs") == 0
        assert connection.value("SELECT version FROM chunks") > 1_000_000
        triggers = connection.query("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    view = [f"{SPEC.name}_{verb}" for verb in ("delete", "insert", "update")]
    assert triggers["name"].to_pylist() == [*view, "rows_delete", "rows_move", "rows_update"]


def test_a_file_of_the_second_layout_gets_its_proofs_and_keeps_its_versions(store):
    with store.connect("binance", SPEC) as connection:
        connection.run("DROP TABLE proofs")
        connection.run("INSERT INTO chunks VALUES (1, 1, 7, 0)")
        connection.run("PRAGMA user_version = 2")
    with store.connect("binance", SPEC) as connection:
        assert connection.value("PRAGMA user_version") == 3
        assert connection.value("SELECT version FROM chunks") == 7
        assert connection.value("SELECT count(*) FROM proofs") == 0
