# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A substitute for statsd_exporter with docker/statsd-exporter/mappings.yml.

It only has the features that the file uses: glob matches, labels from them, and histograms. If the program itself is
installed, test_metrics_chain.py compares both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import yaml

from tests.support import ROOT

MAPPINGS = ROOT / "docker/statsd-exporter/mappings.yml"
Labels = tuple[tuple[str, str], ...]


class Exposition:
    """Receives lines of statsd and exposes them for Prometheus."""

    def __init__(self) -> None:
        self._mappings: list[dict[str, Any]] = yaml.safe_load(MAPPINGS.read_text())["mappings"]
        self._values: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self._types: dict[str, str] = {}

    def take(self, lines: Iterable[str]) -> None:
        """Count some lines, such as ``airflow.isvapp.exports.created:1|c``."""
        for line in lines:
            stat, value, kind = re.fullmatch(r"([\w.-]+):([\d.]+)\|(c|ms|g)", line).groups()  # type: ignore[union-attr]
            mapping, matched = self._mapping_of(stat)
            name = mapping.get("name", re.sub(r"\W", "_", stat))
            labels = tuple((key, matched[int(text.lstrip("$")) - 1]) for key, text in mapping.get("labels", {}).items())
            if kind == "ms":
                assert mapping["observer_type"] == "histogram", stat
                self._observe(name, mapping["histogram_options"]["buckets"], float(value) / 1000)
            elif kind == "g":
                self._types[name] = "gauge"
                self._values[name, labels] = float(value)
            else:
                self._types[name] = "counter"
                self._values[name, labels] += float(value)

    def _mapping_of(self, stat: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        for mapping in self._mappings:
            pattern = re.escape(mapping["match"]).replace(r"\*", r"([^.]*)")
            if match := re.fullmatch(pattern, stat):
                return mapping, match.groups()
        return {}, ()

    def _observe(self, name: str, buckets: list[float], seconds: float) -> None:
        self._types[name] = "histogram"
        for bound in [*buckets, float("inf")]:
            text = "+Inf" if bound == float("inf") else f"{bound:g}"
            self._values[f"{name}_bucket", (("le", text),)] += seconds <= bound
        self._values[f"{name}_sum", ()] += seconds
        self._values[f"{name}_count", ()] += 1

    @property
    def series(self) -> set[str]:
        """The names that a query can use."""
        return {name for name, _ in self._values}

    @property
    def labelled(self) -> set[tuple[str, frozenset[str]]]:
        """The names with the names of their labels."""
        return {(name, frozenset(key for key, _ in labels)) for name, labels in self._values}

    def text(self) -> str:
        """Return Prometheus' text format."""
        types = "".join(f"# TYPE {name} {kind}\n" for name, kind in self._types.items())
        values = (f"{name}{_braced(labels)} {value}\n" for (name, labels), value in self._values.items())
        # All samples of a histogram must follow its type, so the types come first and the format is not checked for it.
        return types + "".join(values)


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}"


def every_line(*, number: int = 1) -> list[str]:
    """Return the lines that Airflow sends for each metric, recorded by the package itself."""
    from airflow_provider_isvapp import events, metrics

    sent: list[str] = []

    class Recorder:
        def incr(self, name: str, count: int = 1, tags: Any = None) -> None:
            sent.append(f"airflow.{name}:{count}|c")

        def timing(self, name: str, duration: Any) -> None:
            sent.append(f"airflow.{name}:{duration.total_seconds() * 1000:.3f}|ms")

        def gauge(self, name: str, value: float) -> None:
            sent.append(f"airflow.{name}:{value}|g")

    before, metrics.Stats = metrics.Stats, Recorder()  # type: ignore[assignment, attr-defined]
    try:
        for status in (200, 429, 503, None):
            for endpoint in ("list_exports", "download", "productiv_apps"):
                metrics.record(events.RequestSent(endpoint=endpoint, status=status))
        metrics.record(events.PermitAcquired(seconds=0.7))
        metrics.record(events.ExportCreated())
        metrics.record(events.ExportReattached())
        metrics.record(events.ExportEnded(outcome="completed", waited=100.0 * number))
        metrics.record(events.ExportEnded(outcome="errored"))
        metrics.record(events.ExportEnded(outcome="expired"))
        metrics.record(events.MonthLate())
        metrics.record(events.ChecksFailed(checks=number))
        for then in ("resumed", "restarted", "retried"):
            metrics.record(events.DownloadInterrupted(then=then))
        metrics.record(
            events.DownloadFinished(
                rows=1000,
                bytes=500_000,
                compressed_bytes=50_000,
                seconds=12.5,
                drifted_fields=number,
                restated_months=number,
            )
        )
    finally:
        metrics.Stats = before  # type: ignore[attr-defined]
    return sent
