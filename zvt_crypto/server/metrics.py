"""What monitoring reads: the server's requests and streams, the recorded tables, how exchanges answer."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Iterator, Sequence
from typing import Final

from flask import Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.server.livefacts import report_of, streamed
from zvt_crypto.server.liveservice import LiveReport, TopicReport
from zvt_crypto.server.providerfacts import measured
from zvt_crypto.server.services import services
from zvt_crypto.server.tablefacts import TableReader
from zvt_crypto.stream.status import Status, published

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
        self.registry.register(_Streams())

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
        written = CounterMetricFamily(
            "zvt_crypto_rows_written",
            "Rows that recorders have stored since the table was made, replaced ones included.",
            labels=labels,
        )
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
            if table.written is not None:
                written.add_metric(values, table.written)
            if table.newest is not None:
                newest.add_metric(values, table.newest / 1000)
        yield from (rows, written, newest, disk, is_readable)


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


class _Streams(Collector):
    """Clients of ``/ws``, and what is subscribed to at exchanges for them."""

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See ``LiveReport``; of an application without streams everything is 0."""
        report = report_of(services().live)
        yield GaugeMetricFamily("zvt_crypto_ws_clients", "Connections to /ws.", report.clients)
        yield GaugeMetricFamily(
            "zvt_crypto_ws_subscriptions", "Subscriptions of all clients.", report.subscriptions
        )
        yield CounterMetricFamily(
            "zvt_crypto_ws_messages_sent", "Messages of channels, counted for each client.", report.sent
        )
        dropped = CounterMetricFamily(
            "zvt_crypto_ws_messages_dropped",
            "Messages that a client was not sent; conflated ones gave way to newer states.",
            labels=["reason"],
        )
        for reason in ("oldest", "newest", "disconnected", "conflated"):
            dropped.add_metric([reason], report.dropped.get(reason, 0))
        recording = published(services().settings)
        yield from (
            dropped,
            _reconnects(report, recording),
            *_topics(streamed(report, recording)),
            *_waiting(recording),
        )


def _reconnects(report: LiveReport, recording: Sequence[Status]) -> Metric:
    counts = Counts(report.reconnects)
    for status in recording:
        # A live recorder has one provider.
        for provider in {one.provider for one in status.channels}:
            counts[provider] += status.reconnects
    found = CounterMetricFamily(
        "zvt_crypto_ws_reconnects", "Connections to exchanges that were made anew.", labels=["provider"]
    )
    for provider, count in counts.items():
        found.add_metric([provider], count)
    return found


def _topics(everything: Sequence[TopicReport]) -> Iterator[Metric]:
    labels = ["provider", "symbol", "stream"]
    is_live = GaugeMetricFamily(
        "zvt_crypto_ws_live", "Whether nothing is missing in what an exchange streams.", labels=labels
    )
    newest = GaugeMetricFamily(
        "zvt_crypto_last_message_timestamp_seconds", "When an exchange last sent something.", labels=labels
    )
    resyncs = CounterMetricFamily(
        "zvt_crypto_book_resyncs", "How often an order book was begun anew.", labels=labels
    )
    # Candles and books of a market may be subscribed to at several levels and depths, by several processes.
    grouped: dict[tuple[str, str, str], list[TopicReport]] = {}
    for one in everything:
        grouped.setdefault((one.provider, one.symbol, one.stream), []).append(one)
    for values, topics in grouped.items():
        is_live.add_metric(values, float(all(one.state == "live" for one in topics)))
        times = [one.last_message for one in topics if one.last_message is not None]
        if times:
            newest.add_metric(values, max(times))
        if values[2] == "crypto.orderbook":
            resyncs.add_metric(values, sum(one.resyncs for one in topics))
    yield from (is_live, newest, resyncs)


def _waiting(recording: Sequence[Status]) -> Iterator[Metric]:
    """What live recorders have not stored yet."""
    labels = ["provider", "table"]
    waiting = GaugeMetricFamily(
        "zvt_crypto_stream_waiting_rows", "Streamed rows that wait in memory for their table.", labels=labels
    )
    spilled = GaugeMetricFamily(
        "zvt_crypto_stream_spilled_rows", "Streamed rows that wait on disk for their table.", labels=labels
    )
    dropped = CounterMetricFamily(
        "zvt_crypto_stream_dropped_rows", "Streamed rows that were given up.", labels=labels
    )
    for status in recording:
        for table in status.tables:
            values = [table.provider, table.table]
            waiting.add_metric(values, table.waiting_rows)
            spilled.add_metric(values, table.spilled_rows)
            dropped.add_metric(values, table.dropped_rows)
    yield from (waiting, spilled, dropped)
