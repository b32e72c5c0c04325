# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a row of an export must look like, field by field.

From the vendor's description of taxonomy item exports (REST API, "Taxonomy item exports"): counters are strings of
digits, and all fields but the parent item are set.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]+\Z")]
Month = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-(0[1-9]|1[0-2])\Z")]
SalesforceId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9]{15}([A-Za-z0-9]{3})?\Z")]


class TaxonomyItemRow(msgspec.Struct, gc=False):
    """A row of a taxonomy item export; fields that are not documented may be there, too."""

    type: Literal["TAXONOMY_ITEM"]
    aggregation: Literal["MONTHLY"]
    reference_date: Month
    salesforce_account_id: SalesforceId
    salesforce_account_name: str
    taxonomy_id: str
    taxonomy_item_id: str
    taxonomy_item_label: str
    taxonomy_item_parent_item_id: str | None
    taxonomy_label: str
    taxonomy_level_id: str
    taxonomy_level_label: str
    unique_users: Count
    unique_users_external: Count
    unique_users_internal: Count
    operations: Count
    operations_external: Count
    operations_internal: Count
