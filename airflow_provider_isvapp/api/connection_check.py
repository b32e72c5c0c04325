# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The checks of the connection form's Test button."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_isvapp.api.client import VendorClient
from airflow_provider_isvapp.api.isvapp.client import SCOPE_ACCOUNTS, SCOPE_EXPORTS, SCOPE_IDENTITY, IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Account
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.errors import AuthenticationRefused, PermissionRefused, ProviderError, RequestRefused

# More than the duration of a response plus the error of a synchronized clock; less than any margin before an expiry.
TOLERANCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check.

    :param works: whether there is nothing left to do. Airflow 3 shows the message of a failure only, so a connection
        that works with a restriction is a failure whose message says that it works.
    :param message: the result and the next step, without secrets.
    """

    works: bool
    message: str


def success(client: VendorClient[Any], message: str) -> Finding:
    """Report that a connection works, unless the clocks differ."""
    warning = clock_warning(client.clock_skew, vendor=client.vendor)
    return Finding(works=not warning, message=f"{message} But: {warning}" if warning else message)


def failure(client: VendorClient[Any], error: ProviderError | str) -> Finding:
    """Report an error, with a difference of the clocks, which may be the cause."""
    warning = clock_warning(client.clock_skew, vendor=client.vendor)
    return Finding(works=False, message=f"{error} {warning}".rstrip())


def refused_at_once(client: VendorClient[Any], error: AuthenticationRefused) -> Finding:
    """Report that the vendor issued a token and then refused it, which no wrong field of the connection explains."""
    advice = clock_warning(client.clock_skew, vendor=client.vendor) or (
        f"The client id and the client secret are right, and the clocks agree: try again, then ask {client.vendor}."
    )
    reason = error.vendor_message or "without a message"
    text = f"{client.vendor} issued a token and refused it at once ({error.status}): {reason}. {advice}"
    return Finding(works=False, message=text)


def clock_warning(skew: float | None, *, vendor: str) -> str:
    """Describe the difference of the clocks, its effect and the fix; empty if they agree or it is not known.

    :param skew: the seconds that this machine's clock is ahead, by the ``Date`` header (RFC 9110, 6.6.1).
    """
    if skew is None or abs(skew) <= TOLERANCE:
        return ""
    return (
        f"This machine's clock is {_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} {vendor}'s. "
        "Set it (NTP): tokens and exports expire by the vendor's clock but are checked by this one, so valid ones "
        "may be treated as expired, and vice versa."
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    return f"{round(seconds / 60)} min" if whole < 2 * 3600 else f"{seconds / 3600:.1f} h"


# Covers every endpoint; the vendor has no finer permissions for API keys.
API_KEY_PERMISSION = "ISVapp metrics retrieval"

# What tasks need each scope for.
_NEEDED_TO = {
    SCOPE_IDENTITY: "show the account",
    SCOPE_EXPORTS: "create, list and download exports",
    SCOPE_ACCOUNTS: "list the Salesforce accounts",
}


def check_api_key(client: IsvappClient) -> Finding:
    """Test a connection with an API key: one request."""
    try:
        account = client.get_account()
    except AuthenticationRefused as refused:
        return failure(
            client,
            f"ISVapp does not know this API key ({refused.status}): {refused.vendor_message or 'without a message'}. "
            "Check the connection's password, or give the client id that belongs to it as login.",
        )
    except PermissionRefused as refused:
        return failure(
            client,
            f"ISVapp knows this API key and refuses it ({refused.status}): "
            f"{refused.vendor_message or 'without a message'}. Create one with the permission scope "
            f"{API_KEY_PERMISSION!r}, under Setup > REST API in ISVapp.",
        )
    except ProviderError as error:
        return failure(client, error)
    message = f"Connected to ISVapp as {_name(account)} with an API key that has the permission {API_KEY_PERMISSION!r}."
    return success(client, message)


def check_client_credentials(client: IsvappClient) -> Finding:
    """Test a connection with client id and secret: one token for each scope, and the account."""
    try:
        granted, refused = _request_scopes(client)
        if not granted:
            return failure(client, refused[SCOPE_IDENTITY])
        account = client.get_account() if SCOPE_IDENTITY in granted else None
    except AuthenticationRefused as error:
        return refused_at_once(client, error)
    except ProviderError as error:
        return failure(client, error)
    who = f" as {_name(account)}" if account else ""
    noun = "scope" if len(granted) == 1 else "scopes"
    message = f"Connected to ISVapp{who} with the {noun} {', '.join(granted)}."
    if not refused:
        return success(client, message)
    missing = " ".join(
        f"Without the scope {scope}, tasks cannot {_NEEDED_TO[scope]} ({error.vendor_message or error.status})."
        for scope, error in refused.items()
    )
    return failure(
        client,
        f"{message} {missing} Give it to the client under Setup > REST API in ISVapp. "
        "If no task needs it, leave the connection as it is.",
    )


def _request_scopes(client: IsvappClient) -> tuple[list[str], dict[str, RequestRefused]]:
    """Request a token for each scope; stop if the client itself is refused."""
    granted: list[str] = []
    refused: dict[str, RequestRefused] = {}
    for scope in _NEEDED_TO:
        try:
            client.check_scope(scope)
        except RequestRefused as error:
            refused[scope] = error
            may_be_the_scope = isinstance(error, PermissionRefused) or error.status == 400
            if not granted and not may_be_the_scope:
                break
        else:
            granted.append(scope)
    return granted, refused


def _name(account: Account) -> str:
    return account.company_name or f"account {account.id}"


def check_connection(client: ProductivClient, *, scope: str) -> Finding:
    """Request a token and the list of active apps.

    The token endpoint is on another host, so only the list shows that the connection's own host is right. Productiv
    has no smaller request that every client may send.

    :param scope: the connection's, for the message.
    """
    try:
        client.check_scope(scope)
    except ProviderError as error:
        return failure(client, error)
    try:
        apps = client.list_apps()
    except AuthenticationRefused as refused:
        return refused_at_once(client, refused)
    except ProviderError as error:
        return failure(client, error)
    message = f"Connected to Productiv with the scope {scope}: {len(apps)} active apps as of {apps.as_of_date}."
    return success(client, message)
