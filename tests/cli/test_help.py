from __future__ import annotations

import subprocess
import sys

import pytest

VERBS = (
    "chart",
    "doctor",
    "providers",
    "query",
    "record",
    "report",
    "sandbox",
    "schemas",
    "export",
    "import",
    "compact",
    "gaps",
    "repair",
    "verify",
    "certify",
    "schedule",
    "serve",
)
HEAVY = (
    *("pandas", "numpy", "pyarrow", "ccxt", "zvt", "plotly", "pydantic", "rich", "aiohttp", "sqlalchemy"),
    *("flask", "uvicorn"),
)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join
)
def test_help_imports_nothing_heavy(cli, arguments):
    program = (
        "import sys\nfrom zvt_crypto.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_names_every_verb_and_the_exit_codes(cli):
    text = cli("--help").stdout
    assert [verb for verb in VERBS if f"\n  {verb} " not in text] == []
    assert "130 interrupted" in text


def test_no_arguments_show_the_help(cli):
    assert "Commands:" in cli(code=2).stderr


def test_global_options_stand_before_or_after_the_verb(cli):
    assert cli("--json", "schemas").stdout == cli("schemas", "--json").stdout
