# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import re

import pytest

from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM, PRODUCTIV_FORM

wtforms = pytest.importorskip("wtforms", reason="only Airflow before 3.2 draws the form with wtforms")
pytest.importorskip("flask_appbuilder", reason="only Airflow before 3.2 draws the form with wtforms")


def draw(name: str, stored: str | None) -> str:
    """Draw the select of a field as Airflow 2.11 does."""

    class Form(wtforms.Form):  # type: ignore[misc, name-defined]
        pass

    for form in (ISVAPP_FORM, PRODUCTIV_FORM):
        if any(field.name == name for field in form.fields):
            setattr(Form, f"extra__x__{name}", form.widgets()[name])
    (field,) = Form(data={f"extra__x__{name}": stored})
    return str(field())


def options(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<option (?:selected )?value="([^"]*)">([^<]*)</option>', html)


def test_a_select_is_one_in_airflow_2_as_well() -> None:
    html = draw("authentication", None)

    assert html.startswith(
        '<select class="form-control" id="extra__x__authentication" name="extra__x__authentication">'
    )
    assert options(html) == [("", "default"), ("oauth2", "OAuth2 (client ID and secret)"), ("api_key", "API key")]
    assert re.findall(r"<option selected value=\"(.*?)\"", html) == [""]


def test_the_form_selects_the_stored_value() -> None:
    assert re.findall(r"<option selected value=\"(.*?)\"", draw("api_version", "v2")) == ["v2"]


def test_the_form_keeps_a_stored_value_that_it_does_not_offer() -> None:
    assert options(draw("api_version", '"v9"<'))[-1] == ("&#34;v9&#34;&lt;", "&#34;v9&#34;&lt;")
