# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from airflow_provider_isvapp.emulator.cli import main

RUN = "import sys; from airflow_provider_isvapp.emulator.cli import main; sys.exit(main())"
Run = Callable[..., tuple["subprocess.Popen[str]", list[str]]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start the command as a process; return the process and its first lines."""
    with ExitStack() as processes:

        def run(*arguments: str, **environment: str) -> tuple[subprocess.Popen[str], list[str]]:
            process = processes.enter_context(
                _process([sys.executable, "-c", RUN, *arguments], {**os.environ, **environment})
            )
            lines: list[str] = []
            assert process.stdout is not None
            while not lines or "Ctrl-C" not in lines[-1]:
                line = process.stdout.readline()
                assert line, lines
                lines.append(line.rstrip("\n"))
            return process, lines

        yield run


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        yield process
        process.terminate()


def url_in(lines: list[str]) -> str:
    found = re.search(r"http://[\d.]+:\d+", lines[0])
    assert found
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_stops_it(run: Run, number: signal.Signals) -> None:
    process, lines = run("--port", "0")
    url = url_in(lines)
    response = requests.get(f"{url}/api/v1/account", headers={"Authorization": "Bearer demo-api-key"}, timeout=10)
    assert response.status_code == 200
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    line, last = output.splitlines()
    assert re.fullmatch(r"[\d:.]+ 200 GET /api/v1/account api_key \d+ ms", line)
    assert last == "Stopped."


def test_it_prints_connections_to_paste(run: Run) -> None:
    _, lines = run("--port", "0", "--client-secret", "it's")
    url = url_in(lines)
    pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
    connections = {name: json.loads(value) for name, _, value in pairs}
    assert connections == {
        "AIRFLOW_CONN_ISVAPP_DEFAULT": {
            "conn_type": "isvapp",
            "host": url,
            "login": "demo-client",
            "password": "it's",
        },
        "AIRFLOW_CONN_PRODUCTIV_DEFAULT": {
            "conn_type": "productiv",
            "host": url,
            "login": "demo-productiv-client",
            "password": "demo-productiv-secret",
            "extra": {"auth_url": f"{url}/oauth2/token"},
        },
    }


def test_options_reach_the_configuration(run: Run) -> None:
    _, lines = run(
        *("--rows", "7", "--requests-per-second", "none", "--export-seconds", "0.5", "--pretty", "--etag", "weak"),
        *("--no-content-encoding", "--fault", "endpoint=account,kind=status,status=500,message=No.,times=forever"),
        *("--fault", '{"endpoint": "token", "kind": "edit", "remove": ["scope"]}', "--quiet"),
        ISVAPP_EMULATOR_PORT="0",
    )
    state = requests.get(f"{url_in(lines)}/_emulator/state", timeout=10).json()
    expected = {
        "rows": 7,
        "requests_per_second": None,
        "export_seconds": 0.5,
        "pretty": True,
        "etag": "weak",
        "content_encoding": False,
        "port": 0,
        "salesforce_accounts": None,
    }
    assert {name: state["config"][name] for name in expected} == expected
    assert [(fault["endpoint"], fault["status"], fault["remove"], fault["left"]) for fault in state["faults"]] == [
        ("account", 500, [], None),
        ("token", None, ["scope"], 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "many"], "argument --rows: invalid int value: 'many'"),
        (["--rows", "-1"], "rows and apps must not be negative"),
        (["--rows", "none"], "argument --rows: invalid int value"),
        (["--etag", "some"], "argument --etag: invalid choice"),
        (["--fault", "endpoint=account,kind=explode"], "argument --fault: unknown kind of fault 'explode'"),
        (["--fault", "{"], "argument --fault: "),
    ],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_help_names_every_option_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "--salesforce-accounts X number of Salesforce accounts; none: one per 40 rows, at least 50 (default: none)"
        in text
    )
    assert "--port X port to listen on; 0 picks a free one; also ISVAPP_EMULATOR_PORT (default: 8099)" in text


def test_a_port_that_is_taken(run: Run) -> None:
    _, lines = run("--port", "0")
    port = url_in(lines).rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--port", port], text=True, capture_output=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"Cannot listen: .*{port}.*address already in use.\n", done.stderr)


def test_without_aiohttp_it_names_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['aiohttp'] = None; " + RUN.removeprefix("import sys; ")],
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "The emulator needs aiohttp: pip install 'airflow-provider-isvapp[emulator]'\n"
