# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the Test button finds out about a connection."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_isvapp.api.isvapp.client import SCOPE_ACCOUNTS, SCOPE_EXPORTS, SCOPE_IDENTITY, IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Account
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.errors import AuthenticationRefused, PermissionRefused, ProviderError, RequestRefused

# Longer than a response takes and than a synchronised clock is off; shorter than any margin before an expiry.
TOLERANCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of a test.

    :param works: whether there is nothing left to do. Airflow 3 shows the message of a failure only, so a connection
        that works but for one thing is a failure whose message says that it works.
    :param message: what was seen and what to do, without secrets.
    """

    works: bool
    message: str


def success(message: str, *, vendor: str, clock_skew: float | None) -> Finding:
    """Report that a connection works, unless the clocks differ."""
    warning = clock_warning(clock_skew, vendor=vendor)
    return Finding(works=not warning, message=f"{message} But: {warning}" if warning else message)


def failure(error: ProviderError, *, vendor: str, clock_skew: float | None) -> Finding:
    """Report an error, and that the clocks differ if they do: that may be the cause."""
    return Finding(works=False, message=f"{error} {clock_warning(clock_skew, vendor=vendor)}".rstrip())


def refused_at_once(error: AuthenticationRefused, *, vendor: str, clock_skew: float | None) -> Finding:
    """Report that the vendor gave a token and then did not take it, which no wrong field of the connection explains."""
    advice = clock_warning(clock_skew, vendor=vendor) or (
        f"The client id and the client secret are right, and the clocks agree: try again, then ask {vendor}."
    )
    text = (
        f"{vendor} gave a token and refused it at once ({error.status}): {error.vendor_message or 'without a message'}."
    )
    return Finding(works=False, message=f"{text} {advice}")


def clock_warning(skew: float | None, *, vendor: str) -> str:
    """Describe the difference of the clocks, its effect and the fix; empty where they agree or it is not known.

    :param skew: how many seconds this machine's clock is ahead, by the ``Date`` header (RFC 9110, 6.6.1).
    """
    if skew is None or abs(skew) <= TOLERANCE:
        return ""
    return (
        f"This machine's clock is {_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} {vendor}'s. "
        "Set it (NTP): tokens and exports expire by the vendor's clock and are judged by this one, so valid ones "
        "may be treated as expired, and vice versa."
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    return f"{round(seconds / 60)} min" if whole < 2 * 3600 else f"{seconds / 3600:.1f} h"


ISVAPP = "ISVapp"
# The one that covers every endpoint; the vendor knows no finer ones for API keys.
API_KEY_PERMISSION = "ISVapp metrics retrieval"

# What tasks cannot do without a scope.
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
        return _failed(
            client,
            f"ISVapp does not know this API key ({refused.status}): {refused.vendor_message or 'without a message'}. "
            "Check the connection's password, or give the client id that belongs to it as login.",
        )
    except PermissionRefused as refused:
        return _failed(
            client,
            f"ISVapp knows this API key and refuses it ({refused.status}): "
            f"{refused.vendor_message or 'without a message'}. Create one with the permission scope "
            f"{API_KEY_PERMISSION!r}, under Setup > REST API in ISVapp.",
        )
    except ProviderError as error:
        return failure(error, vendor=ISVAPP, clock_skew=client.clock_skew)
    message = f"Connected to ISVapp as {_name(account)} with an API key that has the permission {API_KEY_PERMISSION!r}."
    return success(message, vendor=ISVAPP, clock_skew=client.clock_skew)


def check_client_credentials(client: IsvappClient) -> Finding:
    """Test a connection with client id and secret: one token for each scope, and the account."""
    try:
        granted, refused = _ask_for_scopes(client)
        if not granted:
            return failure(refused[SCOPE_IDENTITY], vendor=ISVAPP, clock_skew=client.clock_skew)
        account = client.get_account() if SCOPE_IDENTITY in granted else None
    except AuthenticationRefused as error:
        return refused_at_once(error, vendor=ISVAPP, clock_skew=client.clock_skew)
    except ProviderError as error:
        return failure(error, vendor=ISVAPP, clock_skew=client.clock_skew)
    who = f" as {_name(account)}" if account else ""
    noun = "scope" if len(granted) == 1 else "scopes"
    message = f"Connected to ISVapp{who} with the {noun} {', '.join(granted)}."
    if not refused:
        return success(message, vendor=ISVAPP, clock_skew=client.clock_skew)
    missing = " ".join(
        f"Without the scope {scope}, tasks cannot {_NEEDED_TO[scope]} ({error.vendor_message or error.status})."
        for scope, error in refused.items()
    )
    return _failed(
        client,
        f"{message} {missing} Give it to the client under Setup > REST API in ISVapp. "
        "If no task needs it, leave the connection as it is.",
    )


def _ask_for_scopes(client: IsvappClient) -> tuple[list[str], dict[str, RequestRefused]]:
    """Ask for a token for each scope; a client that is refused as such is not asked about the others."""
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


def _failed(client: IsvappClient, message: str) -> Finding:
    return failure(ProviderError(message), vendor=ISVAPP, clock_skew=client.clock_skew)


def _name(account: Account) -> str:
    return account.company_name or f"account {account.id}"


PRODUCTIV = "Productiv"


def check_connection(client: ProductivClient, *, scope: str) -> Finding:
    """Ask for a token and for the list of active apps.

    The token endpoint is on another host: the list alone shows that the connection's own is right. Productiv has no
    smaller request that every client may make.

    :param scope: the connection's, for the message.
    """
    try:
        client.check_scope(scope)
    except ProviderError as error:
        return failure(error, vendor=PRODUCTIV, clock_skew=client.clock_skew)
    try:
        apps = client.list_apps()
    except AuthenticationRefused as refused:
        return refused_at_once(refused, vendor=PRODUCTIV, clock_skew=client.clock_skew)
    except ProviderError as error:
        return failure(error, vendor=PRODUCTIV, clock_skew=client.clock_skew)
    message = f"Connected to Productiv with the scope {scope}: {len(apps)} active apps as of {apps.as_of_date}."
    return success(message, vendor=PRODUCTIV, clock_skew=client.clock_skew)
