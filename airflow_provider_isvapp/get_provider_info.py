# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The provider info, which Airflow reads when it starts (entry point ``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any

from airflow_provider_isvapp import __version__
from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM, PRODUCTIV_FORM

_MODULES = {
    "hooks": {"ISVapp": ["hooks.isvapp"], "Productiv": ["hooks.productiv"]},
    "operators": {"ISVapp": ["operators.isvapp"], "Productiv": ["operators.productiv"]},
    "sensors": {"ISVapp": ["sensors.isvapp"]},
    "triggers": {"ISVapp": ["triggers.isvapp"]},
}

_EXTRA_LINKS = ("isvapp.IsvappExportLink", "isvapp.WrittenObjectLink")

_CONFIGURATION = {
    "isvapp": {
        "description": "Defaults for all connections of the type isvapp.",
        "options": {
            "rate_limit_storage": {
                "description": (
                    "Where the shared request limit is stored for connections without rate_limit_storage: redis://… or "
                    "postgresql://… if tasks run on several machines, which cannot share a file. Empty: a file on "
                    "each machine.\n"
                ),
                "version_added": "0.1.0",
                "type": "string",
                # It can hold a password: Airflow masks it, and can read it from a command or a secrets backend.
                "sensitive": True,
                "example": "redis://redis:6379/0",
                "default": "",
            },
        },
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider in the terms of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-isvapp",
        "name": "ISVapp",
        "description": "Usage exports and health scores from ISVapp, and the app portfolio from Productiv.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "ISVapp", "external-doc-url": "https://www.isvapp.com/", "tags": ["service"]},
            {"integration-name": "Productiv", "external-doc-url": "https://productiv.com/", "tags": ["service"]},
        ],
        "connection-types": [
            {
                "connection-type": "isvapp",
                "hook-class-name": "airflow_provider_isvapp.hooks.isvapp.IsvappHook",
                "hook-name": "ISVapp",
                **ISVAPP_FORM.provider_info(),
            },
            {
                "connection-type": "productiv",
                "hook-class-name": "airflow_provider_isvapp.hooks.productiv.ProductivHook",
                "hook-name": "Productiv",
                **PRODUCTIV_FORM.provider_info(),
            },
        ],
        "config": _CONFIGURATION,
        "extra-links": [f"airflow_provider_isvapp.links.{link}" for link in _EXTRA_LINKS],
        **{
            kind: [
                {
                    "integration-name": integration,
                    "python-modules": [f"airflow_provider_isvapp.{module}" for module in modules],
                }
                for integration, modules in by_integration.items()
            ]
            for kind, by_integration in _MODULES.items()
        },
    }
