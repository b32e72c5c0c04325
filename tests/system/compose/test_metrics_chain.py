# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The chain behind the dashboard with the real programs: statsd_exporter maps, Prometheus scrapes and is queried."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import ROOT, free_port
from tests.support.http_server import HttpServer, QuietHandler
from tests.system.compose.statsd_mapping import MAPPINGS, Exposition, every_line
from tests.system.compose.test_dashboard import DASHBOARD, PAGE

pytestmark = pytest.mark.timeout(180)


def program(*names: str, install: str) -> str:
    """Find a program; without it, skip the test unless it is required."""
    for name in names:
        if found := shutil.which(name):
            return found
    if install and "ISVAPP_REQUIRE_PROMETHEUS" in os.environ:
        pytest.fail(f"{names[0]} is not installed; {install} does it")
    pytest.skip(f"needs {names[0]}" + (f"; {install} installs it" if install else ""))


def wait_for(what: str, condition: Callable[[], Any], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


@pytest.fixture
def exposition() -> Exposition:
    return Exposition()


@pytest.fixture
def exposed_at(exposition: Exposition) -> Iterator[str]:
    """The host and port of the substitute for statsd_exporter."""

    class Exporter(HttpServer):
        def _handler(self) -> type[BaseHTTPRequestHandler]:
            class Handler(QuietHandler):
                def do_GET(self) -> None:
                    body = exposition.text().encode()
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            return Handler

    with Exporter() as server:
        yield server.url.removeprefix("http://")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Start programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str | Path) -> None:
        with (tmp_path / f"{len(running)}.log").open("wb") as log:
            running.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path))

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture
def prometheus(tmp_path: Path, started: Callable[..., None]) -> Callable[[str], str]:
    """Start a Prometheus that scrapes a target each second; returns its URL."""
    path = program("prometheus", install="scripts/install_prometheus.sh")

    def start(target: str) -> str:
        config = (ROOT / "docker/prometheus/prometheus.yml").read_text()
        assert "statsd-exporter:9102" in config
        assert "scrape_interval: 15s" in config
        config = config.replace("statsd-exporter:9102", target).replace("scrape_interval: 15s", "scrape_interval: 1s")
        (tmp_path / "prometheus.yml").write_text(config)
        address = f"127.0.0.1:{free_port()}"
        started(
            path,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
        )
        wait_for("Prometheus is ready", lambda: is_up(f"http://{address}/-/ready"))
        return f"http://{address}"

    return start


def results_of(url: str, query: str) -> list[dict[str, Any]]:
    reply = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
    assert reply["status"] == "success", f"{query}: {reply}"
    result: list[dict[str, Any]] = reply["data"]["result"]
    return result


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def query_of(query: str) -> str:
    """Replace Grafana's variables by ranges that cover the whole test, even on a slow machine."""
    return query.replace("$__rate_interval", "1h").replace("$__range", "1h")


def assert_all_move(url: str) -> None:
    """Send every query of the dashboard: each has a value, even without "or vector(0)"."""
    for query in dashboard_queries():
        found = [float(series["value"][1]) for series in results_of(url, query_of(query))]
        assert found, query
        assert max(found) > 0, query


def test_promtool_accepts_the_configuration() -> None:
    path = program("promtool", install="scripts/install_prometheus.sh")
    config = ROOT / "docker/prometheus/prometheus.yml"

    ended = subprocess.run([path, "check", "config", config], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr


def test_promtool_accepts_the_alerts_of_the_page(tmp_path: Path) -> None:
    path = program("promtool", install="scripts/install_prometheus.sh")
    (rules,) = re.findall(r"^```yaml\n(groups:.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.yml").write_text(rules)

    ended = subprocess.run(
        [path, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{rules.count('alert:')} rules found" in ended.stdout


def test_prometheus_has_data_for_every_query_of_the_dashboard(
    exposition: Exposition, exposed_at: str, prometheus: Callable[[str], str]
) -> None:
    exposition.take(every_line())
    url = prometheus(exposed_at)
    for seen in range(1, 5):
        wait_for("a scrape", lambda seen=seen: results_of(url, f"airflow_isvapp_exports_created >= {seen}"))  # type: ignore[misc]
        exposition.take(every_line(number=seen))
    wait_for("the last scrape", lambda: results_of(url, "airflow_isvapp_exports_created >= 5"))

    assert_all_move(url)


@pytest.fixture
def exporter(started: Callable[..., None]) -> tuple[int, str]:
    """A real statsd_exporter with our mappings: its UDP port, and the host and port to scrape."""
    # Debian 12 has no package of it, so it is never installed for this test.
    path = program("statsd_exporter", "prometheus-statsd-exporter", install="")
    port, address = free_port(socket.SOCK_DGRAM), f"127.0.0.1:{free_port()}"
    started(
        path,
        f"--statsd.mapping-config={MAPPINGS}",
        f"--statsd.listen-udp=127.0.0.1:{port}",
        "--statsd.listen-tcp=",
        f"--web.listen-address={address}",
    )
    wait_for("statsd_exporter is ready", lambda: is_up(f"http://{address}/metrics"))
    return port, address


def test_the_real_exporter_exposes_what_the_stand_in_does(exporter: tuple[int, str], exposition: Exposition) -> None:
    port, address = exporter
    exposition.take(every_line())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for line in every_line():
            sender.sendto(line.encode(), ("127.0.0.1", port))

    def samples(text: str) -> dict[str, float]:
        found = {}
        for line in text.splitlines():
            if match := re.fullmatch(r"(airflow_\w+)(?:\{(.*)\})? (\S+)", line):
                labels = ",".join(sorted(filter(None, (match[2] or "").split(","))))
                found[f"{match[1]}{{{labels}}}"] = float(match[3])
        return found

    expected = samples(exposition.text())
    wait_for(
        "all metrics are there",
        lambda: samples(requests.get(f"http://{address}/metrics", timeout=5).text).keys() >= expected.keys(),
    )
    assert samples(requests.get(f"http://{address}/metrics", timeout=5).text) == pytest.approx(expected)


def test_the_real_chain_from_end_to_end(exporter: tuple[int, str], prometheus: Callable[[str], str]) -> None:
    port, scraped = exporter
    url = prometheus(scraped)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for seen in range(1, 6):
            for line in every_line(number=seen):
                sender.sendto(line.encode(), ("127.0.0.1", port))
            wait_for("a scrape", lambda seen=seen: results_of(url, f"airflow_isvapp_exports_created >= {seen}"))  # type: ignore[misc]

    assert_all_move(url)
