"""A sandbox on a socket, for the folders that define the ``market`` behind it (scope: module or session)."""

import pytest

from zvt_crypto.sandbox import Sandbox


@pytest.fixture(scope="module")
def running(market):
    with Sandbox(market) as box:
        yield box


@pytest.fixture
def box(running):
    """The module's sandbox, without faults and without requests of another test."""
    running.faults = []
    running.forget_requests()
    yield running
    running.faults = []
