# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The connection forms, defined once for all Airflow versions.

Airflow 3.2 and later render a form from the provider info (``conn-fields``, ``ui-field-behaviour``); earlier versions
take wtforms fields from the hook class. Both come from the :class:`ConnectionForm` of the connection type. This module
does not import Airflow: every Airflow process reads the provider info when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class SelectWidget:
    """Renders a text field of wtforms as a select.

    :param choices: stored values and their labels.
    """

    choices: Mapping[str, str]

    def __call__(self, field: Any, **_: Any) -> Any:
        """Return the field's HTML."""
        from markupsafe import Markup, escape
        from wtforms.widgets import html_params  # type: ignore[import-untyped]

        chosen = field.data or ""
        # A stored value that is not a choice is offered as well, so that saving the form does not drop it silently.
        offered = {**self.choices, **({} if chosen in self.choices else {chosen: chosen})}
        options = [
            f"<option {html_params(value=value, selected=value == chosen)}>{escape(label)}</option>"
            for value, label in offered.items()
        ]
        parameters = html_params(id=field.id, name=field.name, class_="form-control")
        return Markup(f"<select {parameters}>{''.join(options)}</select>")  # noqa: S704 - all parts are escaped


@dataclass(frozen=True, kw_only=True)
class ExtraField:
    """A field of the form that is stored in the connection's extra.

    :param example: the placeholder (2.11) or suggestion (3.x). In a select, the label of the empty choice (2.11).
    :param masked: whether the form hides the input.
    :param choices: makes the field a select: stored values and their labels. No choice is stored as nothing (3.x: null)
        and means the default.
    """

    name: str
    label: str
    help: str
    kind: Literal["string", "number", "integer"] = "string"
    example: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    masked: bool = False


@dataclass(frozen=True, kw_only=True)
class ConnectionForm:
    """The form of one connection type.

    :param labels: labels of Airflow's own fields, by the field's name.
    :param placeholders: placeholders of Airflow's own fields.
    """

    labels: dict[str, str]
    placeholders: dict[str, str]
    fields: tuple[ExtraField, ...]

    # The extra is not hidden, though it repeats the fields: without its editor, the script of the Test button of
    # Airflow 2.11 fails in the form of a saved connection.
    hidden = ("schema",)

    def ui_field_behaviour(self) -> dict[str, Any]:
        """Describe Airflow's own fields for a hook class, with the examples of the extra fields as placeholders."""
        examples = {field.name: field.example for field in self.fields if field.example}
        return {
            "hidden_fields": list(self.hidden),
            "relabeling": dict(self.labels),
            "placeholders": {**self.placeholders, **examples},
        }

    def provider_info(self) -> dict[str, Any]:
        """Describe the form for the provider info of Airflow 3.2 and later."""
        return {
            "ui-field-behaviour": {
                "hidden-fields": list(self.hidden),
                "relabeling": dict(self.labels),
                "placeholders": dict(self.placeholders),
            },
            "conn-fields": {
                field.name: {"label": field.label, "description": field.help, "schema": _json_schema(field)}
                for field in self.fields
            },
        }

    def widgets(self) -> dict[str, Any]:
        """Build the wtforms fields of Airflow 2.11 to 3.1."""
        # Only web servers have these packages, and only they call this.
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget  # type: ignore[import-not-found]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]
        from wtforms import IntegerField, PasswordField, StringField  # type: ignore[import-untyped]
        from wtforms.validators import Optional, any_of  # type: ignore[import-untyped]

        def widget(field: ExtraField) -> Any:
            validators: list[Any] = [Optional()]
            label, described = lazy_gettext(field.label), {"description": field.help}
            if field.choices:
                # Airflow 3.0 and 3.1 render a select from the validator and ignore the widget.
                validators.append(any_of(list(field.choices)))
                select = SelectWidget({"": field.example or "", **field.choices})
                return StringField(label, widget=select, validators=validators, **described)
            if field.masked:
                return PasswordField(label, widget=BS3PasswordFieldWidget(), validators=validators, **described)
            if field.kind == "integer":
                return IntegerField(label, widget=BS3TextFieldWidget(), validators=validators, **described)
            # Airflow accepts no decimal fields here: such a number is entered as text and checked by the hook.
            return StringField(label, widget=BS3TextFieldWidget(), validators=validators, **described)

        return {field.name: widget(field) for field in self.fields}


def _json_schema(field: ExtraField) -> dict[str, Any]:
    """Return the JSON schema of a field; without "null" among its types, Airflow shows it as required.

    Numbers have no minimum: the form would silently store the minimum for a smaller number, where the check of the
    connection is an error that names the field.
    """
    schema: dict[str, Any] = {"type": [field.kind, "null"]}
    if field.choices:
        # Without null: Airflow 3.3 itself stores null for an empty select, and shows a null entry as "null".
        schema["enum"] = list(field.choices)
        schema["values_display"] = dict(field.choices)
    if field.masked:
        schema["format"] = "password"
    elif field.example and field.kind == "string" and not field.choices:
        schema["examples"] = [field.example]
    return schema


_EXTRA_LABEL = "The fields below, as JSON"
_CONNECT_TIMEOUT = ExtraField(
    name="connect_timeout",
    label="Connect timeout",
    help="Connection timeout in seconds. Default: 10.",
    kind="number",
    example="10",
)
_READ_TIMEOUT = ExtraField(
    name="read_timeout",
    label="Read timeout",
    help="Seconds of inactivity before a response is abandoned. Default: 60.",
    kind="number",
    example="60",
)
_ATTEMPTS = ExtraField(
    name="attempts",
    label="Attempts",
    help="Maximum attempts per request while the service is busy or unreachable. Default: 5.",
    kind="integer",
    example="5",
)

ISVAPP_FORM = ConnectionForm(
    labels={
        "host": "Base URL",
        "login": "Client ID",
        "password": "Client secret or API key",
        "extra": _EXTRA_LABEL,
    },
    placeholders={
        "host": "https://api.isvapp.com",
        "port": "443, which Test needs in Airflow 3.3",
        "login": "leave empty to use an API key",
        "password": "the client's secret, or the API key alone",
    },
    fields=(
        ExtraField(
            name="authentication",
            label="Authentication",
            help="Default: OAuth2 if there is a client ID, otherwise the API key.",
            example="default",
            choices={"oauth2": "OAuth2 (client ID and secret)", "api_key": "API key"},
        ),
        ExtraField(
            name="requests_per_second",
            label="Requests per second",
            help="Shared by all tasks, workers and triggerers that use this account. Default: 2, ISVapp's limit.",
            kind="number",
            example="2",
        ),
        ExtraField(
            name="rate_limit_storage",
            label="Rate limit storage",
            help=(
                "Where the shared request limit is stored: redis://… or postgresql://… for several machines. "
                "Default: [isvapp] rate_limit_storage in Airflow's configuration, else a file on each machine."
            ),
            example="redis://redis:6379/0",
            # Such a URL can hold a password.
            masked=True,
        ),
        _CONNECT_TIMEOUT,
        _READ_TIMEOUT,
        _ATTEMPTS,
    ),
)

PRODUCTIV_FORM = ConnectionForm(
    labels={"host": "Base URL", "login": "Client ID", "password": "Client secret", "extra": _EXTRA_LABEL},
    placeholders={
        "host": "https://public-api.productiv.com",
        "port": "443, which Test needs in Airflow 3.3",
        "login": "the client's ID",
        "password": "the client's secret",
    },
    fields=(
        ExtraField(
            name="auth_url",
            label="Authentication URL",
            help="The token endpoint. Default: https://login.api.productiv.com/oauth2/token.",
            example="https://login.api.productiv.com/oauth2/token",
        ),
        ExtraField(
            name="scope",
            label="Scope",
            help="The OAuth2 scope to request. Default: https://api.productiv.com/apps.read.",
            example="https://api.productiv.com/apps.read",
        ),
        ExtraField(
            name="api_version",
            label="API version",
            help="The version of the app endpoints. Default: v1.",
            example="default",
            choices={"v1": "v1", "v2": "v2", "v3": "v3"},
        ),
        _CONNECT_TIMEOUT,
        _READ_TIMEOUT,
        _ATTEMPTS,
    ),
)
