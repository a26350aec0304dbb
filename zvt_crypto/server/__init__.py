"""What is recorded, over HTTP: a Flask application after ``crypto-api.md``."""

from zvt_crypto.server.app import create_app

__all__ = ["create_app"]
