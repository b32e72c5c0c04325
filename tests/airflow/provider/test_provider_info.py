# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow import __version__ as airflow_version
from airflow.providers_manager import ProvidersManager

from airflow_provider_isvapp.api.settings import ISVAPP_EXTRA, PRODUCTIV_EXTRA, Authentication
from airflow_provider_isvapp.get_provider_info import get_provider_info
from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM, PRODUCTIV_FORM, ConnectionForm
from airflow_provider_isvapp.version_compat import BaseHook, BaseOperatorLink

INFO = get_provider_info()
TYPES = {entry["connection-type"]: entry for entry in INFO["connection-types"]}


def airflow_schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(importlib.resources.files("airflow").joinpath(name).read_text())
    return schema


def test_follows_the_schema_of_the_installed_airflow() -> None:
    jsonschema.validate(INFO, airflow_schema("provider_info.schema.json"))


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_named_module_can_be_imported(kind: str) -> None:
    integrations = {entry["integration-name"] for entry in INFO["integrations"]}
    modules = [(entry["integration-name"], module) for entry in INFO[kind] for module in entry["python-modules"]]

    assert modules
    for integration, module in modules:
        assert integration in integrations
        importlib.import_module(module)


@pytest.mark.parametrize("name", INFO["extra-links"])
def test_every_named_link_is_a_link(name: str) -> None:
    module, _, link = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), link), BaseOperatorLink)


def test_airflow_shows_every_field_that_is_no_secret() -> None:
    """Airflow shows *** in place of a value whose name has a word such as "token"."""
    moved = {"2.": "airflow.utils.log.secrets_masker", "3.0.": "airflow.sdk.execution_time.secrets_masker"}
    place = next((name for line, name in moved.items() if airflow_version.startswith(line)), None)
    masker = importlib.import_module(place or "airflow._shared.secrets_masker")
    for form in (ISVAPP_FORM, PRODUCTIV_FORM):
        assert [field.name for field in form.fields if masker.should_hide_value_for_key(field.name)] == []


@pytest.mark.parametrize("conn_type", ["isvapp", "productiv"])
def test_the_hook_agrees_with_its_connection_type(conn_type: str) -> None:
    module, _, name = TYPES[conn_type]["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)

    assert hook.conn_type == conn_type
    assert hook.hook_name == TYPES[conn_type]["hook-name"]
    assert hook.conn_name_attr == f"{conn_type}_conn_id"
    assert hook(**{hook.conn_name_attr: "some_id"})


@pytest.mark.parametrize(
    ("form", "known"), [(ISVAPP_FORM, ISVAPP_EXTRA), (PRODUCTIV_FORM, PRODUCTIV_EXTRA)], ids=["isvapp", "productiv"]
)
class TestForms:
    def test_has_a_field_for_each_setting(self, form: ConnectionForm, known: tuple[str, ...]) -> None:
        assert sorted(form.provider_info()["conn-fields"]) == sorted(known)

    def test_no_field_is_required(self, form: ConnectionForm, known: tuple[str, ...]) -> None:
        fields = form.provider_info()["conn-fields"]

        assert all("null" in field["schema"]["type"] for field in fields.values())
        # A field prefilled with a default would freeze it in every stored connection.
        assert all("default" not in field["schema"] for field in fields.values())

    def test_every_field_has_a_label_and_help(self, form: ConnectionForm, known: tuple[str, ...]) -> None:
        assert all(field["label"] and field["description"] for field in form.provider_info()["conn-fields"].values())

    def test_every_shown_field_has_a_placeholder_in_the_old_form(
        self, form: ConnectionForm, known: tuple[str, ...]
    ) -> None:
        behaviour = form.ui_field_behaviour()

        jsonschema.validate(behaviour, airflow_schema("customized_form_field_behaviours.schema.json"))
        assert set(behaviour["placeholders"]) == {"host", "port", "login", "password", *known}
        # With a hidden extra, the Test button of Airflow 2.11 does nothing in the form of a saved connection.
        assert behaviour["hidden_fields"] == ["schema"]

    def test_both_forms_have_the_same_labels_for_airflows_own_fields(
        self, form: ConnectionForm, known: tuple[str, ...]
    ) -> None:
        new, old = form.provider_info()["ui-field-behaviour"], form.ui_field_behaviour()

        assert new["relabeling"] == old["relabeling"]
        assert new["hidden-fields"] == old["hidden_fields"]

    def test_the_old_form_is_built_of_the_fields_that_airflow_accepts(
        self, form: ConnectionForm, known: tuple[str, ...]
    ) -> None:
        pytest.importorskip("flask_appbuilder", reason="Airflow 3 draws the form without Flask")
        from wtforms import IntegerField, PasswordField, StringField  # type: ignore[import-untyped]

        widgets = form.widgets()

        assert sorted(widgets) == sorted(known)
        assert {widget.field_class for widget in widgets.values()} <= {IntegerField, PasswordField, StringField}


def test_the_storage_url_is_masked_since_it_can_hold_a_password() -> None:
    assert ISVAPP_FORM.provider_info()["conn-fields"]["rate_limit_storage"]["schema"]["format"] == "password"


@pytest.mark.parametrize(
    ("form", "name", "choices"),
    [(ISVAPP_FORM, "authentication", list(Authentication)), (PRODUCTIV_FORM, "api_version", ["v1", "v2", "v3"])],
)
def test_a_field_with_few_values_is_a_select(form: ConnectionForm, name: str, choices: list[str]) -> None:
    schema = form.provider_info()["conn-fields"][name]["schema"]

    assert schema["enum"] == choices == list(schema["values_display"])


@pytest.mark.parametrize("form", [ISVAPP_FORM, PRODUCTIV_FORM])
def test_the_form_does_not_replace_a_number_that_is_too_small(form: ConnectionForm) -> None:
    fields = form.provider_info()["conn-fields"].values()

    assert not any({"minimum", "maximum", "exclusiveMinimum"} & set(field["schema"]) for field in fields)


@cache
def form_of_the_ui() -> dict[str, dict[str, Any]]:
    """Return what Airflow 3's UI receives about each connection type, from a separate process.

    Before 3.2, Airflow replaces modules of Flask to find it out.
    """
    program = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
print()
print(json.dumps({meta.connection_type: meta.model_dump(mode="json") for meta in HookMetaService.hook_meta_data()}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    response: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return response


class TestInstalled:
    """What Airflow makes of the entry point, once the package is installed."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        try:
            importlib.metadata.distribution("airflow-provider-isvapp")
        except importlib.metadata.PackageNotFoundError:
            pytest.skip("the package is not installed here")

    @pytest.mark.filterwarnings("ignore")
    def test_airflow_registers_the_section_of_its_configuration(self) -> None:
        listed = subprocess.run(
            [Path(sys.executable).parent / "airflow", "config", "list", "--section", "isvapp", "--defaults", "-V"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

        assert "AIRFLOW__ISVAPP__RATE_LIMIT_STORAGE" in listed

    # Airflow loads all providers, some of which warn.
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.skipif(not airflow_version.startswith("2."), reason="Airflow 3 draws the form without Flask")
    @pytest.mark.parametrize(("conn_type", "form"), [("isvapp", ISVAPP_FORM), ("productiv", PRODUCTIV_FORM)])
    def test_airflow_2_draws_the_form(self, conn_type: str, form: ConnectionForm) -> None:
        manager = ProvidersManager()

        prefix = f"extra__{conn_type}__"
        drawn = {name.removeprefix(prefix) for name in manager.connection_form_widgets if name.startswith(prefix)}
        assert drawn == {field.name for field in form.fields}
        assert manager.field_behaviours[conn_type]["relabeling"] == form.labels
        assert set(form.placeholders.items()) <= set(manager.field_behaviours[conn_type]["placeholders"].items())

    @pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2.11 draws the form with Flask")
    @pytest.mark.parametrize(("conn_type", "form"), [("isvapp", ISVAPP_FORM), ("productiv", PRODUCTIV_FORM)])
    def test_airflow_3_draws_the_form(self, conn_type: str, form: ConnectionForm) -> None:
        if airflow_version.startswith("3.0."):
            pytest.importorskip("flask_appbuilder", reason="Airflow 3.0 draws no further field without Flask")
        drawn = form_of_the_ui()[conn_type]

        assert sorted(drawn["extra_fields"]) == sorted(field.name for field in form.fields)
        own_fields = drawn["standard_fields"]
        # The UI of Airflow 3 has no label for the extra as a whole.
        for name in form.labels.keys() - {"extra"}:
            assert own_fields[name]["title"] == form.labels[name]
        for name, placeholder in form.placeholders.items():
            assert own_fields[name]["placeholder"] == placeholder

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("conn_type", ["isvapp", "productiv"])
    def test_airflow_makes_the_hook_of_a_connection(self, conn_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_SOME_ID", json.dumps({"conn_type": conn_type}))

        hook = BaseHook.get_hook("some_id")

        assert (hook.conn_type, getattr(hook, hook.conn_name_attr)) == (conn_type, "some_id")
        assert callable(hook.test_connection)
