"""Package metadata; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    # zvt's exact pins decide most of what follows. 4.5.64 is the newest ccxt that installs beside them.
    "zvt==0.13.5",
    "ccxt>=4.5.64",
    # pkg_resources, which zvt imports, left setuptools with version 82.
    "setuptools<82",
    "pandas",
    "sqlalchemy>=2.0",
    "pyarrow>=17",
    "adbc-driver-manager>=1.3",
    "adbc-driver-sqlite>=1.3",
    "orjson",
    # Streamed frames are decoded by type: faster than JSON to dicts, and a renamed field is an error.
    "msgspec>=0.18",
    "aiohttp>=3.10",
    "tenacity>=8.2",
    "platformdirs>=3",
    "pydantic-settings>=2.2",
    "tomli>=2; python_version < '3.11'",
    "click>=8.1",
    "rich>=13",
    "plotly>=5.13",
    "flask>=3.0",
    "flask-openapi3>=4.2,<5",
    "flask-openapi3-swagger>=5.31,<6",
    "flask-limiter>=3.8",
    "flask-compress>=1.15",
    "prometheus-client>=0.20",
    "a2wsgi>=1.10",
    "uvicorn>=0.30",
    "starlette",
    "requests",
    "websocket-client",
    # The server side of WebSocket without I/O of its own: frames that many clients get are made once.
    "websockets>=14",
    "apscheduler",
]

TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "schemathesis>=4,<5",
    "selenium>=4.20",
    "ruff==0.17.5",
    "mypy==2.4.1",
    "pandas-stubs>=2.2.3,<2.3",
    "pre-commit>=3.7",
]

setup(
    name="zvt-crypto",
    version="0.1.0",
    description="Crypto markets for zvt: record, keep complete and query candles of any exchange",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["zvt_crypto", "zvt_crypto.*"]),
    package_data={
        "zvt_crypto": ["zvt_config.json", "py.typed"],
        "zvt_crypto.server.pages": ["*.html", "*.css", "*.js", "*.svg"],
    },
    install_requires=RUNTIME,
    extras_require={"test": TEST},
    entry_points={"console_scripts": ["zvt-crypto = zvt_crypto.cli:main"]},
)
