# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import capacity
from benchmarks.capacity_model import simulate
from benchmarks.capacity_plan import Auth, Plan, Tasks
from benchmarks.capacity_report import binding, growth, most_exports, verdict


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert capacity.main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exports", "many"], "argument --exports: 'many' is not a whole number"),
        (["--exports", "5,0"], "argument --exports: 0 is not a number of exports from 1 to 20,000"),
        (["--workers", "0"], "workers must be at least 1, not 0"),
        (["--latency", "-1"], "latency must be at least 0, not -1"),
        (["--latency", "nan"], "argument --latency: 'nan' is not a number"),
        (["--bandwidth", "0"], "bandwidth must be greater than 0, not 0"),
        (["--requests-per-second", "0"], "requests per second must be at least 0.01, not 0"),
        (["--export-seconds", "600-30"], "export seconds: the range (600.0, 30.0) ends before it begins"),
        (["--window", "soon"], "argument --window: 'soon' is not a time such as 3600, 90m or 2h"),
        (["--tasks", "two"], "argument --tasks: invalid choice: 'two'"),
        (["--compare", "/nowhere/run.json"], "/nowhere/run.json cannot be read: No such file or directory"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        capacity.main(arguments)

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_each_option_with_its_unit_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        capacity.main(["--help"])

    words = " ".join(capsys.readouterr().out.split())
    assert "--latency X from a request to its answer, in seconds (0.15)" in words
    assert "a number, or the ends of a range (30-600)" in words


def test_the_tables_are_markdown_with_a_line_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--exports", "5,10", "--export-seconds", "30")

    first = out.split("\n\n")[0].splitlines()
    assert [line.split("|")[1].strip() for line in first] == ["exports", "---", "5", "10"]
    assert len({line.count("|") for line in first}) == 1
    assert "| create_export | 10 |" in out
    assert "an API key instead of OAuth2" in out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start_seconds": 0.1, "export_seconds": (1.0, 1.0)}, "requests"),
        ({"start_seconds": 30.0, "export_seconds": (30.0, 30.0)}, "processors"),
        ({"megabytes": 5000.0, "task_bandwidth": 100.0}, "download line"),
        ({"tasks": Tasks.WAITING, "workers": 1, "slots": 2, "export_seconds": (300.0, 300.0)}, "task slots"),
        ({"exports": 2}, "none: exports and Airflow's own steps take this long"),
    ],
)
def test_what_binds_is_named(options: dict[str, Any], expected: str) -> None:
    assert binding(simulate(Plan(**{"exports": 100, **options}))) == expected


def test_a_sync_that_fits_says_how_many_more_would() -> None:
    plan = Plan(exports=20)

    most = most_exports(plan, 900.0)

    assert most > 20
    assert simulate(Plan(exports=most)).seconds <= 900.0
    assert simulate(Plan(exports=most + 1 + most // 40)).seconds > 900.0
    assert f"fits. Up to about {most:,} exports do." in verdict(simulate(plan), 900.0)


def test_when_requests_bind_the_vendor_is_to_be_asked() -> None:
    said = verdict(simulate(Plan(exports=400)), 600.0)

    assert "With an API key and one task an export" in said
    assert re.search(r"ask the vendor for at least [2-9] requests a second", said)


def test_tokens_that_make_the_difference_are_saved_before_the_vendor_is_asked() -> None:
    said = verdict(simulate(Plan(exports=400, tasks=Tasks.THREE, export_seconds=(30.0, 30.0))), 1500.0)

    assert "With an API key and one task an export" in said
    assert "ask the vendor" not in said


def test_when_something_else_binds_that_is_to_be_changed() -> None:
    said = verdict(simulate(Plan(exports=60, start_seconds=40.0)), 600.0)

    assert "the requests are not why" in said
    assert "4 processors a worker" in said
    assert "ask the vendor" not in said


def test_the_page_shows_what_the_command_prints() -> None:
    page = capacity.DOCUMENT.read_text()
    shown = page.partition(capacity.BEGIN)[2].partition(capacity.END)[0]
    assert '--exports 12,50,100,300,1000 --window 30m --write"' in page

    # The larger ones would take too long here; they are of the same run.
    head, line, *rows = growth([simulate(Plan(exports=exports)) for exports in (12, 50, 100)]).splitlines()

    assert shown.startswith("\n".join([head, line, *rows]))


def test_a_measured_run_stands_beside_its_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(exports=8, accounts=0, export_seconds=(20.0, 20.0), workers=3, slots=2, auth=Auth.API_KEY)
    predicted = simulate(plan)
    requests = {str(name): count for name, count in predicted.requests.items()}
    record = {
        "exports": 8,
        "wall_seconds": predicted.seconds / 2,
        # The model knows nothing of Productiv's endpoints, which have a limit of their own.
        "requests": {**requests, "download": 4, "productiv_apps": 1},
        "plan": {"export_seconds": [20, 20], "requests_per_second": 2, "workers": 2, "slots": 2},
        "kills": [{"host": "airflow-worker-1"}],
    }
    file = tmp_path / "report.json"
    file.write_text(json.dumps(record))

    out = printed(capsys, "--compare", str(file), "--workers", "3", "--auth", "api-key", "--accounts", "0")

    assert f"| wall time, s | {predicted.seconds:.1f} | {predicted.seconds / 2:.1f} | +100% |" in out
    assert "| download | 8 | 4 | +100% |" in out
    assert "| create_export | 8 | 8 | +0% |" in out
    assert "productiv" not in out
    assert "1 hosts were killed" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "is not JSON"),
        ('{"exports": 3}', "is not a report of make cluster-test: no exports, wall_seconds and requests"),
        ('{"exports": 3, "wall_seconds": 9, "requests": {}, "plan": {"speed": 1}}', "the model has no option speed"),
    ],
)
def test_a_file_that_is_no_report_is_refused(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)

    with pytest.raises(SystemExit):
        capacity.main(["--compare", str(file)])

    assert message in capsys.readouterr().err
