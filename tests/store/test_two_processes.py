"""Upserts, corrections, deletes, compactions and queries in two processes, against SQL alone."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from two_processes import FIRST, MINUTE, SPEC, Process

from zvt_crypto.store.reader import public_schema, typed

#: Rows of a symbol at first: two whole chunks and parts of two more.
ROWS = 160_000
CODES = ("btcusdt", "ethusdt")
PLACE = st.integers(-500, ROWS + 500)
SEED = st.integers(0, 1 << 30)
BOTH = st.booleans()


class Remote:
    """The other process."""

    def __init__(self, data_path):
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("two_processes.py"), data_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, name):
        def call(*arguments, **given):
            names = {"write": ("code", "first", "count", "seed"), "sql": ("statement",)}.get(name, ("path",))
            request = {"do": name, **dict(zip(names, arguments, strict=False)), **given}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == "done\n", name

        return call

    def end(self):
        self._process.stdin.close()
        assert self._process.wait(timeout=20) == 0


def in_sql(store, codes, start, end, columns, order, limit):
    conditions = [f"code IN ({', '.join(repr(code) for code in codes)})"]
    conditions += [] if start is None else [f"timestamp >= {start}"]
    conditions += [] if end is None else [f"timestamp < {end}"]
    schema = public_schema(SPEC)
    schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    with store.connect("binance", SPEC) as connection:
        rows = connection.query(
            f"SELECT {', '.join(schema.names)} FROM {SPEC.name} WHERE {' AND '.join(conditions)}"
            f" ORDER BY timestamp {order}, entity_id {order}{f' LIMIT {limit}' if limit else ''}"
        )
    return typed(rows, schema)


class TwoProcesses(RuleBasedStateMachine):
    @initialize(seed=SEED)
    def begin(self, seed):
        self.folder = Path(tempfile.mkdtemp())
        self.mine = Process(self.folder / "data")
        self.other = Remote(str(self.folder / "data"))
        for code in CODES:
            for first in range(0, ROWS, 40_000):
                self.mine.write(code, first, 40_000, seed + first)
        self.a_minute_passes()

    def teardown(self):
        self.other.end()
        shutil.rmtree(self.folder)

    def side(self, is_mine):
        return self.mine if is_mine else self.other

    @rule()
    def a_minute_passes(self):
        self.mine.sql("UPDATE chunks SET written_at = 0")

    @rule(is_mine=BOTH, code=st.sampled_from(CODES), first=PLACE, count=st.integers(1, 3_000), seed=SEED)
    def upsert_or_correct(self, is_mine, code, first, count, seed):
        self.side(is_mine).write(code, first, count, seed)

    @rule(is_mine=BOTH, first=PLACE, count=st.integers(1, 3_000), view=BOTH)
    def delete(self, is_mine, first, count, view):
        between = f"BETWEEN {FIRST + first * MINUTE} AND {FIRST + (first + count) * MINUTE}"
        self.side(is_mine).sql(
            f"DELETE FROM {SPEC.name} WHERE timestamp {between} AND code = '{CODES[0]}'"
            if view
            else f"DELETE FROM rows WHERE ts {between}"
        )

    @rule(is_mine=BOTH, first=PLACE, view=BOTH)
    def change_by_hand(self, is_mine, first, view):
        ts = FIRST + first * MINUTE
        self.side(is_mine).sql(
            f"UPDATE {SPEC.name} SET volume = volume + 1 WHERE timestamp = {ts} AND code = '{CODES[1]}'"
            if view
            else f"UPDATE rows SET trade_count = trade_count + 1 WHERE ts = {ts}"
        )

    @rule(is_mine=BOTH)
    def compact(self, is_mine):
        self.side(is_mine).compact()

    @rule(data=st.data(), damage=st.sampled_from(["gone", "cut", "flipped", "another"]))
    def damage(self, data, damage):
        segments = sorted(self.folder.glob("data/binance/*.segments/*/*.arrow"))
        if not segments:
            return
        victim = data.draw(st.sampled_from(segments))
        content = victim.read_bytes()
        if damage == "gone":
            shutil.rmtree(victim.parents[1])
        elif damage == "another":
            replace(victim, data.draw(st.sampled_from(segments)).read_bytes())
        else:
            place = data.draw(st.integers(0, len(content) - 1))
            replace(
                victim,
                content[:place]
                if damage == "cut"
                else content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
            )

    @rule(
        is_mine=BOTH,
        codes=st.sampled_from([CODES, CODES[:1], CODES[1:]]),
        start=st.one_of(st.none(), PLACE),
        length=st.one_of(st.none(), st.integers(1, ROWS)),
        columns=st.sampled_from([None, ["close", "timestamp"], ["timestamp", "entity_id", "vwap", "volume"]]),
        order=st.sampled_from(["asc", "desc"]),
        limit=st.one_of(st.none(), st.integers(1, 200), st.integers(5_000, 100_000)),
        streamed=st.sampled_from([0, 0, 10_000, 1 << 18]),
    )
    def query(self, is_mine, codes, start, length, columns, order, limit, streamed):
        begin = None if start is None else FIRST + start * MINUTE
        end = None if length is None else (begin or FIRST) + length * MINUTE
        path = self.folder / "answer.arrow"
        self.side(is_mine).query(
            str(path),
            streamed=streamed,
            codes=codes,
            start=begin,
            end=end,
            columns=columns,
            order=order,
            limit=limit,
        )
        answer = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        assert answer.equals(in_sql(self.mine.store, codes, begin, end, columns, order, limit))


def replace(path, content):
    """Put other content in a file's place: processes that have mapped it keep what they have."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.replace(path)


TestTwoProcesses = TwoProcesses.TestCase
TestTwoProcesses.settings = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A shorter example takes minutes to find.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
