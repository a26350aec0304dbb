"""The allowed imports of the house, low to high; a wrong arrow fails."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "zvt_crypto"

#: Room -> what of ours it may import, besides itself.
ALLOWED = {
    "core": set(),
    "zvt_bridge": {"core"},
    "domain": {"core", "zvt_bridge"},
    "exchanges": {"core"},
    "sandbox": {"core"},
    "store": {"core", "domain"},
    "quality": {"core", "domain", "store"},
    "transfer": {"core", "domain", "store", "quality"},
    "recorders": {"core", "domain", "store", "exchanges", "quality", "zvt_bridge"},
    "stream": {"core", "domain", "store", "exchanges", "quality", "recorders"},
    "scheduling": {"core", "domain", "store", "exchanges", "quality", "recorders"},
    "doctor": {"core", "domain", "store", "exchanges", "quality", "zvt_bridge"},
    "client": {"core", "domain", "store", "api"},
    "server": {
        "core",
        "domain",
        "store",
        "exchanges",
        "quality",
        "recorders",
        "scheduling",
        "stream",
        "api",
        "__init__",
    },
    "api": {"core", "domain", "store", "exchanges", "quality", "recorders", "stream", "zvt_bridge"},
    "__init__": {"api", "zvt_bridge"},
}
ALLOWED["cli"] = set(ALLOWED) | {"__init__"}

#: Outside package -> the only places that may import it.
FENCED = {
    "ccxt": {"exchanges/client.py"},
    "zvt": {"zvt_bridge.py", "domain", "recorders", "api"},
    "flask": {"server"},
    "apscheduler": {"scheduling"},
    "sqlite3": set(),
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports_of(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "zvt_crypto":
                yield from (f"zvt_crypto.{alias.name}" for alias in node.names)
            else:
                yield node.module


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(path)
    for name in imports_of(path):
        if name.startswith("zvt_crypto."):
            target = name.split(".")[1]
            target = target if target in ALLOWED else "__init__"
            assert target == room or target in ALLOWED[room], f"{room} imports {name}"
        elif name == "zvt_crypto":
            assert "__init__" in ALLOWED[room], f"{room} imports the package itself"


def test_live_tables_know_nothing_of_the_clients():
    recording = [path for path in MODULES if path.parent == PACKAGE / "stream"]
    assert len(recording) > 10
    for path in recording:
        assert not [name for name in imports_of(path) if name.startswith("zvt_crypto.stream.broadcast")], path


@pytest.mark.parametrize("outside", sorted(FENCED))
def test_outside_packages_stay_behind_their_fence(outside):
    users = {
        path.relative_to(PACKAGE)
        for path in MODULES
        for name in imports_of(path)
        if name.split(".")[0] == outside
    }
    allowed = FENCED[outside]
    assert {str(u) for u in users if str(u) not in allowed and u.parts[0] not in allowed} == set()


def test_a_wrong_arrow_would_be_seen(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from zvt_crypto.store.engine import Store\nimport zvt_crypto.cli\n")
    assert list(imports_of(wrong)) == ["zvt_crypto.store.engine", "zvt_crypto.cli"]
    assert "store" not in ALLOWED["core"]
