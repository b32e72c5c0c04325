# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Model of every object that the documentation of Productiv's apps API describes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, UnsetType, field

from airflow_provider_isvapp.api.schema.fields import Count, CurrencyCode, Date, Identifier, Object, facts

# A field with the name of its own type needs an alias of that type, which begins with an underscore.

_DEFAULT = "for the default"


class AppsRequest(Object, kw_only=True):
    """Query and headers of a request for the list of apps."""

    includeInactive: Annotated[Literal["true", "false"] | UnsetType, facts(place="query", absent=_DEFAULT)] = UNSET
    verbose: Annotated[
        Literal["true", "false"] | UnsetType,
        facts(place="query", absent=_DEFAULT, note="AppDetails instead of AppSummary"),
    ] = UNSET
    Content_Type: Annotated[Literal["application/json"], facts(place="header")] = field(name="Content-Type")
    Authorization: Annotated[str, facts(unit="Bearer", place="header")]


class AppOwner(Object, kw_only=True):
    """A contact of an app."""

    Name: Annotated[str, facts(personal=True)]
    Email: Annotated[str, facts(personal=True)]


Contacts: TypeAlias = Annotated[
    list[AppOwner] | UnsetType, facts(absent="if there are no contacts of this kind", personal=True)
]


class AppContacts(Object, kw_only=True):
    """The contacts of an app, by kind."""

    NumContacts: Count
    Finance_Contacts: Contacts = UNSET
    Security_Contacts: Contacts = UNSET
    IT_Contacts: Contacts = UNSET
    Legal_Contacts: Contacts = UNSET
    Functional_Contacts: Contacts = UNSET
    Vendor_Contacts: Contacts = UNSET
    Procurement_Contacts: Contacts = UNSET
    Other_Contacts: Contacts = UNSET


_AppContacts: TypeAlias = AppContacts


class Currency(Object, kw_only=True):
    """The value of a custom field of type currency."""

    currencyCode: CurrencyCode
    amount: float


class Hyperlink(Object, kw_only=True):
    """The value of a custom field of type hyperlink."""

    label: str
    url: str


class CustomField(Object, tag_field="FieldType", kw_only=True):
    """A custom field of the customer; the type of its value depends on ``FieldType``."""

    FieldName: str
    FieldKey: Annotated[str, facts(key=True)]


class SingleSelect(CustomField, tag="singleselect", kw_only=True):
    """One of the configured values."""

    FieldValue: str


class MultiSelect(CustomField, tag="multiselect", kw_only=True):
    """Several of the configured values."""

    FieldValue: list[str]


class FreeText(CustomField, tag="text", kw_only=True):
    """A text."""

    FieldValue: str


class NumberField(CustomField, tag="number", kw_only=True):
    """A number."""

    FieldValue: float


class DateField(CustomField, tag="date", kw_only=True):
    """A date."""

    FieldValue: Date


class CurrencyField(CustomField, tag="currency", kw_only=True):
    """An amount of money."""

    FieldValue: Currency


class HyperlinkField(CustomField, tag="hyperlink", kw_only=True):
    """A link."""

    FieldValue: Hyperlink


AnyCustomField: TypeAlias = (
    SingleSelect | MultiSelect | FreeText | NumberField | DateField | CurrencyField | HyperlinkField
)

Status: TypeAlias = Literal["Approved", "Not approved", "In review", "None", ""]
DataSource: TypeAlias = Literal[
    "Engagement", "Managed SSO", "Unmanaged SSO", "Expenses", "Payments", "Contract", "CASB"
]
InstanceDataSource: TypeAlias = Literal["Engagement", "Managed SSO", "Unmanaged SSO", "Contract", "CASB"]

_IN_AN_EXAMPLE = "in one of the examples"


class AppSummary(Object, kw_only=True):
    """An app in the list without ``verbose``."""

    ApplicationId: Annotated[Identifier, facts(key=True)]
    ApplicationName: str
    Category: str
    Capabilities: Annotated[list[str] | UnsetType, facts(absent=_IN_AN_EXAMPLE)] = UNSET
    Description: Annotated[str | UnsetType, facts(absent=_IN_AN_EXAMPLE)] = UNSET
    DiscoveryDate: Annotated[Date | UnsetType, facts(absent=_IN_AN_EXAMPLE)] = UNSET
    LastActivityDate: Annotated[Date | UnsetType, facts(absent=_IN_AN_EXAMPLE)] = UNSET
    FirstActivityDate: Annotated[Date | UnsetType, facts(absent=_IN_AN_EXAMPLE)] = UNSET
    IsDiscovered: bool
    AppStatus: Status
    Labels: list[str]
    CustomFields: list[AnyCustomField]
    DataSources: list[DataSource]
    VendorName: str
    IsInactive: Annotated[bool | UnsetType, facts(absent="in all examples")] = UNSET
    AppContacts: _AppContacts


class RollingWindowActivity(Object, kw_only=True):
    """Licenses by activity in a rolling window of 30 days."""

    EngagedLicenses: Count
    InactiveLicenses: Count
    PercentageActive: Annotated[
        float | None, facts(unit="EngagedLicenses / ProvisionedLicenses", null="with 0 provisioned licenses")
    ]


class ActivityStatsCounts(Object, kw_only=True):
    """Number of licenses and their activity."""

    ProvisionedLicenses: Count
    RollingWindow30: Annotated[RollingWindowActivity, facts(note="of 30 days")]


class ActivityStats(Object, kw_only=True):
    """Activity of all licenses, and by license tier."""

    Summary: ActivityStatsCounts
    LicenseTier: Annotated[
        dict[str, ActivityStatsCounts] | UnsetType,
        facts(absent="unless the source is Engagement", note="by the name of the license tier"),
    ] = UNSET


class Activity(StrEnum):
    """Sources of an app's activity, best first; an app has the best source that is available."""

    ENGAGEMENT = "Engagement"
    MANAGED_SSO = "Managed SSO"
    UNMANAGED_SSO = "Unmanaged SSO"


_Activity: TypeAlias = Activity


class ContractAmount(Object, kw_only=True):
    """Cost of a contract."""

    amount: float
    currency: CurrencyCode


class ContractSummary(Object, kw_only=True):
    """The terms of a contract."""

    StartDate: Date
    EndDate: Date
    AutoRenews: bool
    LicensesPurchased: Count
    TermMonths: Annotated[Count, facts(unit="months")]
    AnnualAmount: ContractAmount
    TermAmount: ContractAmount


class Contract(Object, kw_only=True):
    """A contract."""

    Summary: ContractSummary


_Contract: TypeAlias = Contract


class Cost(Object, kw_only=True):
    """An amount of money."""

    Amount: float
    Currency: CurrencyCode


class FiscalSpend(Object, kw_only=True):
    """Spend in the current fiscal year."""

    TotalSpend: Cost
    ExpenseManagementSpend: Cost
    ErpSpend: Cost


_FiscalSpend: TypeAlias = FiscalSpend


class PreviousYearFiscalSpend(FiscalSpend, kw_only=True):
    """Spend in the previous fiscal year."""


_PreviousYearFiscalSpend: TypeAlias = PreviousYearFiscalSpend


ComplianceState: TypeAlias = Literal["COMPLIANT", "NON_COMPLIANT", "UNKNOWN"]


class Compliance(Object, kw_only=True):
    """Compliance of an app with each standard."""

    ISO27001: ComplianceState
    SOC2: ComplianceState
    GDPR: ComplianceState
    FedRAMP: ComplianceState
    Fisma: ComplianceState
    Swiss_US_Privacy_Shield: ComplianceState = field(name="Swiss-U.S. Privacy Shield")
    CCPA: ComplianceState


_Compliance: TypeAlias = Compliance


class SSOProtocols(Object, kw_only=True):
    """Protocols of single sign-on."""

    DetectedProtocols: list[str]
    SupportedProtocols: Annotated[list[str] | UnsetType, facts(absent="for an instance")] = UNSET
    DataSources: Annotated[list[str], facts(note="display names of the providers")]


_SSOProtocols: TypeAlias = SSOProtocols


class Instance(Object, kw_only=True):
    """An instance of an app."""

    InstanceId: Annotated[str, facts(key=True)]
    InstanceName: str
    ExternalSSOAppId: Annotated[str | UnsetType, facts(absent="unless found through Okta")] = UNSET
    DataSources: list[InstanceDataSource]
    DiscoveryDate: Date
    LastActivityDate: Date
    FirstActivityDate: Date
    Activity: Annotated[ActivityStats, facts(note="not by source, unlike the app's")]
    Contract: _Contract
    SSOProtocols: _SSOProtocols
    AppContacts: _AppContacts


class AppDetails(AppSummary, kw_only=True):
    """An app with all its attributes."""

    IsConnectorAvailable: bool
    Instances: list[Instance]
    Activity: dict[_Activity, ActivityStats]
    Contract: _Contract
    FiscalSpend: _FiscalSpend
    PreviousYearFiscalSpend: _PreviousYearFiscalSpend
    Compliance: _Compliance
    SSOProtocols: _SSOProtocols


class FiscalDate(Object, kw_only=True):
    """A month of the customer's fiscal year."""

    FiscalYear: Annotated[str, facts(unit="YYYY")]
    AsOfMonth: Annotated[str, facts(unit="MM")]


_FiscalDate: TypeAlias = FiscalDate


class FiscalDateRange(Object, kw_only=True):
    """First and last day of the customer's fiscal year."""

    Start: Annotated[str, facts(note="format not stated")]
    End: Annotated[str, facts(note="format not stated")]


_FiscalDateRange: TypeAlias = FiscalDateRange


class _Response(Object, kw_only=True):
    """Fields that all responses share."""

    AsOfDate: Date
    ResponseTimeMs: Annotated[float, facts(unit="ms")]
    FiscalDate: Annotated[_FiscalDate | UnsetType, facts(absent="in v1")] = UNSET
    FiscalDateRange: Annotated[_FiscalDateRange | UnsetType, facts(absent="in v1")] = UNSET


class AppsResponse(_Response, kw_only=True):
    """The list of apps."""

    Apps: list[AppSummary]


class VerboseAppsResponse(_Response, kw_only=True):
    """The list of apps with verbose=true."""

    Apps: list[AppDetails]


class AppResponse(_Response, kw_only=True):
    """One app."""

    App: AppDetails


OBJECTS: tuple[type[Object], ...] = (AppsRequest, AppsResponse, VerboseAppsResponse, AppResponse)
"""All top-level objects; nested objects are reached through them."""
