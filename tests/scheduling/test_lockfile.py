"""The lock of a data folder: one process, freed however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zvt_crypto.core.errors import ConfigError, StoreBusy
from zvt_crypto.scheduling.lockfile import ProcessLock

HOLD = """
import sys, time
from pathlib import Path
from zvt_crypto.scheduling.lockfile import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
lock.acquire("it")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "state" / "it.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert process.stdout.readline() == b"held\n"
    yield process, path
    process.kill()
    process.wait()


def test_another_process_is_named_and_a_killed_one_holds_nothing(holder):
    process, path = holder
    lock = ProcessLock(path)
    assert lock.is_held()
    with pytest.raises(StoreBusy, match=f"process {process.pid} runs the schedule already"):
        lock.acquire("the schedule")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not lock.is_held()
    lock.acquire("the schedule")
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()
    assert not lock.is_held()


def test_asking_makes_no_file_and_releasing_twice_does_nothing(tmp_path):
    lock = ProcessLock(tmp_path / "state" / "it.lock")
    assert not lock.is_held()
    assert not lock.path.parent.exists()
    lock.release()
    lock.acquire("it")
    lock.release()
    lock.release()
    assert lock.path.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        ProcessLock(tmp_path / "file" / "it.lock").acquire("it")
