# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The app portfolio that the emulated Productiv knows: the same for one seed."""

from __future__ import annotations

import random
from typing import Any

from airflow_provider_isvapp.emulator.json_text import number
from airflow_provider_isvapp.emulator.seeded import seeded

_NAMES = ("Übersetzer", "Chat", "Tables", "日程", "Café Manager", "Sign/Send", 'Say "Hi"', "Ledger", "Løn", "Vault")
_CATEGORIES = ("IT Management", "Analytics", "Finance", "Sales & Marketing")
_STATUSES = ("Approved", "Not approved", "In review", "None", "")
_SOURCES = ("Engagement", "Managed SSO", "Unmanaged SSO", "Expenses", "Payments", "Contract", "CASB")
_COMPLIANCE = ("ISO27001", "SOC2", "GDPR", "FedRAMP", "Fisma", "Swiss-U.S. Privacy Shield", "CCPA")


def app_ids(count: int) -> list[str]:
    """Return the application ids in the order of the list."""
    return [f"app-{index:04d}" for index in range(count)]


def is_inactive(index: int) -> bool:
    """Tell whether the app at this place in the list is inactive."""
    return index % 5 == 4


def app_rows(seed: int, count: int, *, include_inactive: bool, verbose: bool) -> list[dict[str, Any]]:
    """Return the rows of the apps endpoint."""
    return [app(seed, index, verbose=verbose) for index in range(count) if include_inactive or not is_inactive(index)]


def app(seed: int, index: int, *, verbose: bool) -> dict[str, Any]:
    """Return one app, as summary or with all its details."""
    rng = seeded("app", seed, index)
    name = f"{_NAMES[index % len(_NAMES)]} {index}"
    row: dict[str, Any] = {
        "ApplicationId": f"app-{index:04d}",
        "ApplicationName": name,
        "AppStatus": rng.choice(_STATUSES),
        "Capabilities": rng.sample(("SaaS Management", "Data & Analytics", "Überwachung"), k=2),
        "Description": f"{name} hält Teams zusammen \u2013 schnell, \u201cbilling included\u201d.\nSecond line.",
        "DiscoveryDate": f"2021-0{rng.randint(1, 9)}-15",
        "LastActivityDate": f"2024-0{rng.randint(1, 9)}-01",
        "FirstActivityDate": f"2020-0{rng.randint(1, 9)}-01",
        "Labels": ["größer als 10 €"] if index % 3 == 0 else [],
        "CustomFields": _custom_fields(rng),
        "Category": rng.choice(_CATEGORIES),
        "DataSources": rng.sample(_SOURCES, k=2),
        "AppContacts": {
            "NumContacts": 1,
            "Finance_Contacts": [{"Name": "Zoë Groß", "Email": "zoe@example.com"}],
        },
        "IsDiscovered": index % 2 == 1,
        "VendorName": f"Vendor/{index % 7}",
        "IsInactive": is_inactive(index),
    }
    return row | _details(rng, index) if verbose else row


def _custom_fields(rng: random.Random) -> list[dict[str, Any]]:
    values: list[tuple[str, Any]] = [
        ("multiselect", ["value 1", "Wert ü"]),
        ("number", number("1e3")),
        ("number", number(f"{rng.randrange(1, 9)}.50")),
        ("currency", {"currencyCode": "EUR", "amount": number(f"{rng.randrange(10**6)}.00")}),
        ("hyperlink", {"label": "Wiki", "url": "https://wiki.example.com/a/b?c=d&e=%20"}),
    ]
    return [
        {"FieldName": f"field {place}", "FieldValue": value, "FieldType": kind, "FieldKey": f"key{place}"}
        for place, (kind, value) in enumerate(values)
    ]


def _details(rng: random.Random, index: int) -> dict[str, Any]:
    licenses = rng.randrange(400)
    engaged = rng.randrange(licenses + 1)
    activity = {
        "ProvisionedLicenses": licenses,
        "RollingWindow30": {
            "EngagedLicenses": engaged,
            "InactiveLicenses": licenses - engaged,
            "PercentageActive": number(f"{engaged / licenses * 100:.2f}") if licenses else None,
        },
    }

    def money() -> dict[str, Any]:
        return {"Amount": number(f"{rng.randrange(10**5)}.{rng.randrange(10)}0"), "Currency": "USD"}

    contract = {
        "Summary": {
            "StartDate": "2024-01-01",
            "EndDate": "2024-12-31",
            "AutoRenews": rng.random() < 0.5,
            "LicensesPurchased": licenses,
            "TermMonths": 12,
            "AnnualAmount": money(),
            # Beyond 64 bits and beyond what a float holds: only a verbatim copy survives.
            "TermAmount": {"Amount": number("12345678901234567890.10"), "Currency": "USD"},
        }
    }
    return {
        "IsConnectorAvailable": index % 2 == 0,
        "Instances": [
            {
                "InstanceId": f"instance-{index}",
                "InstanceName": "Hauptinstanz",
                "ExternalSSOAppId": f"0oa{index:08d}",
                "DataSources": ["Managed SSO"],
                "DiscoveryDate": "2021-01-01",
                "LastActivityDate": "2024-01-01",
                "FirstActivityDate": "2020-01-01",
                "Activity": {"Summary": activity},
                "Contract": contract,
                "SSOProtocols": {"DetectedProtocols": ["SAML"], "DataSources": ["Okta"]},
                "AppContacts": {"NumContacts": 0},
            }
        ],
        "Activity": {"Engagement": {"Summary": activity, "LicenseTier": {"Größe L": activity}}},
        "Contract": contract,
        "FiscalSpend": {"TotalSpend": money(), "ExpenseManagementSpend": money(), "ErpSpend": money()},
        "PreviousYearFiscalSpend": {"TotalSpend": money(), "ExpenseManagementSpend": money(), "ErpSpend": money()},
        "Compliance": {name: rng.choice(("COMPLIANT", "NON_COMPLIANT", "UNKNOWN")) for name in _COMPLIANCE},
        "SSOProtocols": {
            "DetectedProtocols": ["SAML"],
            "SupportedProtocols": ["SAML", "OIDC"],
            "DataSources": ["Okta"],
        },
    }
