# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The values of rate_limit_storage, and the errors about wrong ones."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from airflow_provider_isvapp.errors import InvalidConnection
from airflow_provider_isvapp.ratelimit import open_limiter
from tests.support import ROOT


def opened(storage: str, *, key: str = "key", requests_per_second: float = 2) -> str:
    return repr(open_limiter(storage, key=key, requests_per_second=requests_per_second))


@pytest.mark.parametrize("storage", ["", "  ", "file://"])
def test_the_default_is_a_file_of_this_user(storage: str) -> None:
    assert f"file {tempfile.gettempdir()}/airflow-provider-isvapp-" in opened(storage)


@pytest.mark.parametrize(
    ("storage", "name"),
    [
        ("file:///var/lib/lim%20iter", "file /var/lib/lim iter/key.json"),
        ("memory://", "memory://"),
        ("redis://:secret@cache:6380/1?socket_keepalive=1", "redis://cache:6380/1"),
        ("rediss://user:secret@cache/0", "rediss://cache/0"),
        ("redis://cache", "redis://cache"),
        ("postgresql://u:secret@db:5433/airflow?sslmode=require", "postgresql://db:5433/airflow"),
        ("postgres://u@db/airflow", "postgres://db/airflow"),
    ],
)
def test_storages_by_url(storage: str, name: str) -> None:
    assert opened(storage) == f"<SharedLimiter 2 requests/s in {name}>"


@pytest.mark.parametrize(
    ("storage", "hint"),
    [
        ("/var/lib/limiter", "not a URL"),
        ("file://var/lib/limiter", "three slashes"),
        ("memory://here", "nothing may follow"),
        ("mysql://u:s3cret@db/x", "mysql:// is not known"),
        ("redis://", "needs a host"),
        ("postgresql:///database", "needs a host"),
        ("redis://cache/zero-s3cret", "after the host"),
        ("redis://cache/0?s3cret=1", "after the host"),
        ("postgresql://db/airflow?s3cret=1", "after the host"),
        ("redis://:***@cache/0", "three asterisks"),
        # A password with special characters must not appear as a host or a port.
        ("redis://:s3cret@s3cret@cache/0", "Percent-encode"),
        ("redis://:s3/cret@cache/0", "Percent-encode"),
        ("postgresql://u:s3#cret@db/x", "Percent-encode"),
        ("postgresql://u:s3?cret@db/x", "Percent-encode"),
        ("postgresql://u:p@db:s3cret/x", "Percent-encode"),
        ("redis://[s3cret/0", "Percent-encode"),
    ],
)
def test_an_invalid_url_is_an_error_that_names_the_field_only(storage: str, hint: str) -> None:
    with pytest.raises(InvalidConnection, match="rate_limit_storage, of the connection") as raised:
        opened(storage)
    assert hint in str(raised.value)
    assert "cret" not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize(("scheme", "driver"), [("redis", "redis"), ("postgresql", "psycopg")])
def test_a_missing_driver_names_the_extra_to_install(scheme: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.delitem(sys.modules, f"airflow_provider_isvapp.ratelimit.storage_{scheme}", raising=False)
    with pytest.raises(InvalidConnection, match=rf"pip install 'airflow-provider-isvapp\[{scheme}\]'"):
        opened(f"{scheme}://host/0")


@pytest.mark.parametrize("rate", [0, -1, 0.001, 1001, 1e300, float("nan"), float("inf")])
def test_an_invalid_rate_is_an_error_that_names_the_field(rate: float) -> None:
    with pytest.raises(InvalidConnection, match="requests_per_second"):
        opened("memory://", requests_per_second=rate)


@pytest.mark.parametrize("key", ["", "../key", "a b", "x" * 129])
def test_a_key_is_safe_to_name_files_with(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        opened("memory://", key=key)


def test_opening_imports_no_driver_that_is_not_used() -> None:
    program = (
        "import sys; from airflow_provider_isvapp.ratelimit import open_limiter;"
        "open_limiter('', key='k', requests_per_second=2);"
        "sys.exit(bool({'redis', 'psycopg', 'airflow', 'requests'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
