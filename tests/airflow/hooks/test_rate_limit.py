# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The storage of a connection's limit, and the warning about a file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks import base
from airflow_provider_isvapp.hooks.base import distributed_executors, isvapp_settings
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.plugins.export_list import ConnectionReader
from airflow_provider_isvapp.version_compat import AirflowFailException, BaseHook
from tests.support.airflow_connections import SetConnection, isvapp_fields

CONFIGURED = "AIRFLOW__ISVAPP__RATE_LIMIT_STORAGE"


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Clear the cache of warnings, and use a separate default file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    base._warn_of_a_file.cache_clear()


def in_a_task() -> None:
    IsvappHook().get_account()


def in_the_triggerer() -> None:
    async def run() -> None:
        client = await IsvappHook().aget_conn()
        await asyncio.to_thread(client.get_account)

    asyncio.run(run())


def on_the_page() -> None:
    ConnectionReader()("isvapp_default")


everywhere = pytest.mark.parametrize("use", [in_a_task, in_the_triggerer, on_the_page])


@everywhere
def test_airflows_configuration_is_the_default(
    use: Callable[[], None],
    emulator: Emulator,
    set_connection: SetConnection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(CONFIGURED, f"file://{tmp_path}/configured")
    set_connection("isvapp_default", **isvapp_fields(emulator, rate_limit_storage=""))

    use()

    assert list((tmp_path / "configured").iterdir())


@everywhere
def test_a_connections_own_field_wins(
    use: Callable[[], None],
    emulator: Emulator,
    set_connection: SetConnection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(CONFIGURED, f"file://{tmp_path}/configured")
    set_connection("isvapp_default", **isvapp_fields(emulator, rate_limit_storage=f"file://{tmp_path}/own"))

    use()

    assert list((tmp_path / "own").iterdir())
    assert not (tmp_path / "configured").exists()


def test_an_error_of_the_configuration_is_shown_without_the_password(
    emulator: Emulator, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIGURED, "mongo://:sentinel@cache/0")
    set_connection("isvapp_default", **isvapp_fields(emulator, rate_limit_storage=""))

    with pytest.raises(
        AirflowFailException, match=r"\[isvapp\] in Airflow's configuration, is wrong: mongo://"
    ) as error:
        IsvappHook().get_account()

    assert "sentinel" not in str(error.value)
    assert emulator.requests == []


def test_a_password_in_the_configuration_is_hidden_from_logs(
    emulator: Emulator, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: list[object] = []
    monkeypatch.setattr(base, "mask_secret", hidden.append)
    monkeypatch.setenv(CONFIGURED, "redis://:sentinel%20storage@127.0.0.1:1/0")
    set_connection("isvapp_default", **isvapp_fields(emulator, rate_limit_storage=""))

    settings = isvapp_settings(BaseHook.get_connection("isvapp_default"))

    assert hidden[-1] == "sentinel storage"
    assert "sentinel storage" in settings.secrets


@pytest.mark.parametrize(
    ("configured", "executors"),
    [
        ("LocalExecutor", []),
        ("SequentialExecutor", []),
        ("", []),
        ("CeleryExecutor", ["CeleryExecutor"]),
        ("LocalExecutor, KubernetesExecutor", ["KubernetesExecutor"]),
        ("airflow.providers.edge3.executors.EdgeExecutor", ["EdgeExecutor"]),
        ("local:LocalExecutor,far:our.executors.FarExecutor", ["FarExecutor"]),
        ("LocalExecutor;team1=CeleryExecutor;team2=KubernetesExecutor", ["CeleryExecutor", "KubernetesExecutor"]),
    ],
)
def test_executors_of_several_machines_are_recognised_in_every_notation(configured: str, executors: list[str]) -> None:
    assert distributed_executors(configured) == executors


def test_a_pod_of_the_kubernetes_executor_is_recognised_with_a_local_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")

    assert distributed_executors("LocalExecutor") == ["KubernetesExecutor"]


class TestWarning:
    @pytest.fixture
    def warnings(self, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
        logger = "airflow_provider_isvapp.hooks.base"
        caplog.set_level(logging.WARNING, logger=logger)
        return lambda: [record.getMessage() for record in caplog.records if record.name == logger]

    @everywhere
    @pytest.mark.parametrize("storage", ["", "file://{tmp_path}"])
    def test_comes_once_in_a_process(
        self,
        use: Callable[[], None],
        storage: str,
        warnings: Callable[[], list[str]],
        emulator: Emulator,
        set_connection: SetConnection,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        set_connection(
            "isvapp_default", **isvapp_fields(emulator, rate_limit_storage=storage.format(tmp_path=tmp_path))
        )

        use()
        use()

        (warning,) = warnings()
        assert "CeleryExecutor may run tasks on several machines" in warning
        assert "[isvapp] rate_limit_storage" in warning

    @pytest.mark.parametrize(
        ("executor", "storage"), [("CeleryExecutor", "memory://"), ("LocalExecutor", ""), ("LocalExecutor", "file://")]
    )
    def test_does_not_come_for(
        self,
        executor: str,
        storage: str,
        warnings: Callable[[], list[str]],
        emulator: Emulator,
        set_connection: SetConnection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        set_connection("isvapp_default", **isvapp_fields(emulator, rate_limit_storage=storage))

        in_a_task()

        assert warnings() == []
