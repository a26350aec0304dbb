"""What monitoring reads: the server's own requests, the recorded tables, and how exchanges answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from flask import Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.server.providerfacts import measured
from zvt_crypto.server.services import services
from zvt_crypto.server.tablefacts import TableReader

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "OPTIONS")
#: What no view answers has one name: paths that clients make up would fill the memory.
_NO_VIEW: Final = "none"
_QUERIES: Final = "/api/data/"


class Metrics:
    """The metrics of one application, in a registry of its own.

    Args:
        tables: Tells what the tables hold.
    """

    def __init__(self, tables: TableReader) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "zvt_crypto_http_requests",
            "Requests that this server process answered.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "zvt_crypto_http_request_duration_seconds",
            "Time to the first byte of an answer.",
            ["path"],
            registry=self.registry,
        )
        self._deviations = Counter(
            "zvt_crypto_price_deviations",
            "Comparisons of prices that found them to disagree.",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Recorded(tables))
        self.registry.register(_Exchanges())

    def begin(self) -> None:
        """Note that the request under way begins."""
        g.began = time.perf_counter()

    def end(self, answer: Response) -> Response:
        """Count the request under way."""
        path = request.url_rule.rule if request.url_rule is not None else _NO_VIEW
        method = request.method if request.method in _METHODS else "other"
        self._requests.labels(method, path, str(answer.status_code)).inc()
        if "began" in g:  # not where an earlier hook refused the request
            self._seconds.labels(path).observe(time.perf_counter() - g.began)
        return answer

    def note_deviation(self) -> None:
        """Count a comparison of prices that do not agree."""
        self._deviations.inc()

    @property
    def deviations(self) -> int:
        """Comparisons so far that found prices to disagree."""
        return int(self.registry.get_sample_value("zvt_crypto_price_deviations_total") or 0)

    @property
    def mean_query_ms(self) -> float | None:
        """Mean time of the queries of ``/api/data`` so far; None without any."""
        found = {"sum": 0.0, "count": 0.0}
        for family in self._seconds.collect():
            for sample in family.samples:
                part = sample.name.rpartition("_")[2]
                if part in found and sample.labels["path"].startswith(_QUERIES):
                    found[part] += sample.value
        return 1000 * found["sum"] / found["count"] if found["count"] else None


class _Recorded(Collector):
    """What the tables hold, when it is asked for."""

    def __init__(self, tables: TableReader) -> None:
        self._tables = tables

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the tables."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See ``TableFacts``; a table whose rows are not counted yet has no sample for them."""
        labels = ["provider", "table"]
        rows = GaugeMetricFamily("zvt_crypto_table_rows", "Rows of a table.", labels=labels)
        newest = GaugeMetricFamily(
            "zvt_crypto_last_row_timestamp_seconds", "Time of a table's newest row.", labels=labels
        )
        disk = GaugeMetricFamily("zvt_crypto_table_bytes", "Size of a table's database.", labels=labels)
        is_readable = GaugeMetricFamily(
            "zvt_crypto_table_readable", "Whether a table can be read.", labels=labels
        )
        try:
            found = self._tables.look(services().settings, count_rows=True)
        except ZvtCryptoError:
            # The folder cannot be read, which the health check says in words.
            found = []
        for table in found:
            values = [table.provider, table.spec.name]
            is_readable.add_metric(values, float(table.error is None))
            disk.add_metric(values, table.disk_bytes)
            if table.rows is not None:
                rows.add_metric(values, table.rows)
            if table.newest is not None:
                newest.add_metric(values, table.newest / 1000)
        yield from (rows, newest, disk, is_readable)


class _Exchanges(Collector):
    """What recorders measured of exchanges, all processes of the machine together."""

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the files."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """By ccxt's id; an exchange that was never asked has no samples."""
        requests = CounterMetricFamily(
            "zvt_crypto_exchange_requests", "Requests to an exchange.", labels=["exchange"]
        )
        failures = CounterMetricFamily(
            "zvt_crypto_exchange_failures", "Requests that an exchange did not answer.", labels=["exchange"]
        )
        latency = SummaryMetricFamily(
            "zvt_crypto_exchange_latency_seconds", "Time to an exchange's answer.", labels=["exchange"]
        )
        used = GaugeMetricFamily(
            "zvt_crypto_rate_limit_used_ratio",
            "Share of an exchange's request budget that went out in the last whole minute.",
            labels=["exchange"],
        )
        paused = GaugeMetricFamily(
            "zvt_crypto_exchange_paused_until_seconds",
            "End of the pause that an exchange imposes, 0 without one.",
            labels=["exchange"],
        )
        for apis in measured(services().settings).values():
            for api in apis:
                totals, labels = api.health.totals, [api.name]
                paused.add_metric(labels, (api.paused_until or 0) / 1000)
                if totals.requests:
                    requests.add_metric(labels, totals.requests)
                    failures.add_metric(labels, totals.failures)
                    answered = totals.requests - totals.failures
                    latency.add_metric(labels, answered, totals.latency_ms / 1000)
                    used.add_metric(labels, api.health.used_ratio)
        yield from (requests, failures, latency, used, paused)
