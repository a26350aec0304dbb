"""Metrics and health, under ``/api/crypto`` in the specification's shape and under the usual short paths."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import DAY_MS, iso
from zvt_crypto.scheduling.history import History, RunRecord
from zvt_crypto.scheduling.places import history_path
from zvt_crypto.server import healthchecks, livefacts, memory
from zvt_crypto.server.bodies import json_body
from zvt_crypto.server.clock import now_ms
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.metrics import Metrics
from zvt_crypto.server.providerfacts import measured
from zvt_crypto.server.services import services
from zvt_crypto.server.tablefacts import TableReader
from zvt_crypto.stream.status import published

_TAG = Tag(name="monitoring", description="Metrics and health.")

_GB: Final = 1 << 30
#: Runs of the schedule that are looked at for a day's numbers.
_MOST_RUNS: Final = 5_000
_MINUTES_A_DAY: Final = 24 * 60

Verdict = Literal["pass", "warn", "fail", "unknown", "not_used"]


class WebsocketMetrics(BaseModel):
    """What is streamed."""

    total_reconnects_24h: int = Field(description="Connections of this server to exchanges, made anew.")
    average_message_lag_ms: float | None = Field(description="Age of the newest rows when they came.")
    messages_dropped_24h: int = Field(description="Messages that clients of /ws missed, by their own limits.")


class DataQualityMetrics(BaseModel):
    """What scheduled runs and comparisons found."""

    validation_failures_24h: int = Field(description="Scheduled runs with rows that cannot be true.")
    cross_exchange_deviations: int = Field(description="Comparisons of prices, so far, that disagreed.")
    data_gaps_detected_24h: int = Field(description="Series that scheduled runs left incomplete.")


class PerformanceMetrics(BaseModel):
    """The server process."""

    average_query_response_ms: float | None
    current_memory_usage_gb: float | None
    active_websocket_connections: int


class ExchangeMetrics(BaseModel):
    """Requests of this machine's recorders to one exchange."""

    requests_24h: int
    failures_24h: int
    rate_limit_used_ratio: float


class MetricsAnswer(BaseModel):
    """Operational metrics."""

    websocket_metrics: WebsocketMetrics
    data_quality_metrics: DataQualityMetrics
    performance_metrics: PerformanceMetrics
    exchange_metrics: dict[str, ExchangeMetrics]


class HealthAnswer(BaseModel):
    """Whether the server can do its work."""

    status: Literal["healthy", "degraded", "unhealthy"]
    checks: dict[str, Verdict]
    reasons: dict[str, str] = Field(description="Why checks did not pass.")
    uptime_seconds: int
    last_check: str


def monitoring_views(tables: TableReader, metrics: Metrics) -> APIBlueprint:
    """The views of metrics and health; counts every request of the application.

    Args:
        tables: Tells what the tables hold.
        metrics: The application's.
    """
    api = APIBlueprint("monitoring", __name__, abp_tags=[_TAG])
    api.before_app_request(metrics.begin)
    api.after_app_request(metrics.end)

    @api.get("/api/crypto/metrics", summary="Operational metrics", responses={200: MetricsAnswer})
    def operational() -> Response:
        found = services()
        return json_body(_operational(found.settings, metrics, found.live))

    @api.get("/metrics", summary="Metrics for Prometheus", doc_ui=False)
    def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    def health() -> Response:
        return _health(tables)

    for path, name in (("/api/crypto/health", "health"), ("/health", "healthShort")):
        api.get(
            path,
            summary="Whether the server can do its work",
            operation_id=name,
            endpoint=name,
            responses={200: HealthAnswer, 503: HealthAnswer},
        )(health)
    return api


def _health(tables: TableReader) -> Response:
    found = services()
    streams = livefacts.streamed(livefacts.report_of(found.live), published(found.settings))
    checks = healthchecks.run_checks(found.settings, tables, streams)
    status = healthchecks.overall(checks)
    body = {
        "status": status,
        "checks": {name: check.verdict for name, check in checks.items()},
        "reasons": {name: check.reason for name, check in checks.items() if check.reason is not None},
        "uptime_seconds": int(time.time() - found.started),
        "last_check": iso(now_ms()),
    }
    return json_body(body, 503 if status == "unhealthy" else 200)


def _operational(settings: Settings, metrics: Metrics, live: LiveService | None) -> dict[str, Any]:
    report = livefacts.report_of(live)
    streams = livefacts.streamed(report, published(settings))
    lags = [one.lag_ms for one in streams if one.lag_ms is not None]
    runs = _runs_of_a_day(settings)
    used = memory.resident_bytes()
    mean = metrics.mean_query_ms
    return {
        "websocket_metrics": {
            "total_reconnects_24h": report.reconnects_24h,
            "average_message_lag_ms": round(sum(lags) / len(lags), 1) if lags else None,
            "messages_dropped_24h": report.dropped_24h,
        },
        "data_quality_metrics": {
            "validation_failures_24h": sum(_has_bad_rows(run) for run in runs),
            "cross_exchange_deviations": metrics.deviations,
            "data_gaps_detected_24h": sum(len(run.missing) for run in runs),
        },
        "performance_metrics": {
            "average_query_response_ms": None if mean is None else round(mean, 1),
            "current_memory_usage_gb": None if used is None else round(used / _GB, 3),
            "active_websocket_connections": report.clients,
        },
        "exchange_metrics": _exchange_metrics(settings),
    }


def _exchange_metrics(settings: Settings) -> dict[str, dict[str, Any]]:
    found = {}
    for apis in measured(settings).values():
        for api in apis:
            day = api.health.last(_MINUTES_A_DAY)
            if day.requests:
                found[api.name] = {
                    "requests_24h": day.requests,
                    "failures_24h": day.failures,
                    "rate_limit_used_ratio": round(api.health.used_ratio, 4),
                }
    return found


def _runs_of_a_day(settings: Settings) -> list[RunRecord]:
    """The scheduled runs that began in the last day; none where nothing was ever scheduled."""
    path = history_path(settings)
    if not path.exists():
        return []
    history = History(path, busy_timeout=settings.busy_timeout_seconds)
    try:
        newest = history.newest(_MOST_RUNS)
    finally:
        history.close()
    since = now_ms() - DAY_MS
    return [run for run in newest if run.started >= since]


def _has_bad_rows(run: RunRecord) -> bool:
    return any(error.code == DataQualityFailure.code for error in run.errors)
