"""All of ``/api/crypto``, with what its views share."""

from __future__ import annotations

from flask_openapi3.blueprint import APIBlueprint

from zvt_crypto.server.configviews import config_views
from zvt_crypto.server.metrics import Metrics
from zvt_crypto.server.monitoringviews import monitoring_views
from zvt_crypto.server.providerviews import provider_views
from zvt_crypto.server.tablefacts import TableReader
from zvt_crypto.server.validationviews import validation_views


def crypto_views() -> tuple[APIBlueprint, ...]:
    """The views of one application: providers, validation, configuration, monitoring and health."""
    tables = TableReader()
    metrics = Metrics(tables)
    return (
        provider_views(tables),
        validation_views(metrics),
        config_views(),
        monitoring_views(tables, metrics),
    )
