# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The fields that the vendors document, for the schemas in lineage events. Name and type of each."""

from __future__ import annotations

from typing import get_type_hints

Fields = tuple[tuple[str, str], ...]

# ISVapp's REST API, "Show a list of active Salesforce accounts".
_ACCOUNT: Fields = (("isvapp_id", "string"), ("salesforce_id", "string"), ("name", "string"))

# Productiv's "App summaries": of both objects, of the summary, of the details.
_APP: Fields = (
    ("ApplicationId", "string"),
    ("ApplicationName", "string"),
    ("Category", "string"),
    ("Capabilities", "array"),
    ("Description", "string"),
    ("DiscoveryDate", "string"),
    ("LastActivityDate", "string"),
    ("FirstActivityDate", "string"),
    ("IsDiscovered", "boolean"),
    ("AppStatus", "string"),
    ("Labels", "array"),
    ("CustomFields", "array"),
    ("DataSources", "array"),
    ("VendorName", "string"),
    ("IsInactive", "boolean"),
)
_APP_DETAILS: Fields = (
    ("IsConnectorAvailable", "boolean"),
    ("Instances", "array"),
    ("Activity", "object"),
    ("Contract", "object"),
    ("FiscalSpend", "object"),
    ("PreviousYearFiscalSpend", "object"),
    ("Compliance", "object"),
    ("SSOProtocols", "object"),
    ("AppContacts", "object"),
)


def usage_fields(output_format: str = "ndjson") -> Fields:
    """Return the fields of an export of feature usage.

    :param output_format: ``ndjson``, whose counters are strings, or ``parquet``, whose columns have types.
    """
    from airflow_provider_isvapp.transfer.validation import Count, Month, TaxonomyItemRow

    hints = get_type_hints(TaxonomyItemRow, include_extras=True)
    if output_format == "ndjson":
        return tuple((name, "string") for name in hints)
    types = {Count: "int64", Month: "date"}
    return (*((name, types.get(hint, "string")) for name, hint in hints.items()), ("other_fields", "string"))


def account_fields(*, health_scores: bool, subscriber_orgs: bool) -> Fields:
    """Return the fields of a Salesforce account.

    :param health_scores: whether they were asked for.
    :param subscriber_orgs: whether they were asked for.
    """
    asked_for = {"health_scores": health_scores, "subscriber_orgs": subscriber_orgs}
    return (*_ACCOUNT, *((name, "array") for name, asked in asked_for.items() if asked))


def app_fields(*, verbose: bool) -> Fields:
    """Return the fields of an app.

    :param verbose: whether all attributes were asked for instead of the summary.
    """
    return (*_APP, *_APP_DETAILS) if verbose else _APP
