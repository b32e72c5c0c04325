# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.errors import AuthenticationRefused, InvalidConnection, ServiceUnavailable
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.plugins.export_list import ConnectionReader, ids_in_environment
from tests.support.airflow_connections import SetConnection, isvapp_fields


class TestIdsInEnvironment:
    def test_finds_both_notations_of_the_type(self) -> None:
        environment = {
            "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps({"conn_type": "isvapp", "password": "secret"}),
            "AIRFLOW_CONN_BY_URI": "isvapp://client:secret@",
            "AIRFLOW_CONN_DATABASE": "postgres://user:secret@host/isvapp",
            "AIRFLOW_CONN_OTHER": json.dumps({"conn_type": "productiv"}),
            "CONN_ISVAPP": "isvapp://client:secret@",
        }

        assert ids_in_environment(environment) == ["by_uri", "isvapp_default"]

    @pytest.mark.parametrize("definition", ["", "{", "[]", "null", '"isvapp"', "isvapp", "{}"])
    def test_skips_other_variables(self, definition: str) -> None:
        assert ids_in_environment({"AIRFLOW_CONN_X": definition}) == []


class TestConnectionReader:
    def test_lists_what_the_vendor_lists(self, isvapp: Emulator) -> None:
        with IsvappHook() as hook:
            created = hook.create_export(timeframe="2025-01", taxonomy_ids=["a"])

        assert [export.id for export in ConnectionReader()("isvapp_default")] == [created.id]

    def test_a_second_read_sends_one_request(self, isvapp: Emulator) -> None:
        reader = ConnectionReader()
        reader("isvapp_default")
        reader("isvapp_default")

        counts = isvapp.request_counts()
        assert (counts["token"], counts["list_exports"]) == (1, 2)

    def test_notices_that_the_connection_was_changed(self, isvapp: Emulator, set_connection: SetConnection) -> None:
        reader = ConnectionReader()
        reader("isvapp_default")
        set_connection("isvapp_default", **isvapp_fields(isvapp) | {"password": "another"})

        with pytest.raises(AuthenticationRefused):
            reader("isvapp_default")

    def test_gives_up_sooner_than_a_task(self, isvapp: Emulator, set_connection: SetConnection) -> None:
        set_connection("isvapp_default", **isvapp_fields(isvapp, attempts=50))
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=None))

        with pytest.raises(ServiceUnavailable, match="after 2 attempts"):
            ConnectionReader()("isvapp_default")

    def test_refuses_a_connection_of_another_type(self, set_connection: SetConnection) -> None:
        set_connection("some_database", conn_type="postgres", host="127.0.0.1", password="sentinel")

        with pytest.raises(
            InvalidConnection, match="Connection 'some_database' has type 'postgres'; expected 'isvapp'"
        ):
            ConnectionReader()("some_database")
