# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The test of an ISVapp connection: whose account it is, and what it may do there."""

from __future__ import annotations

from airflow_provider_isvapp.api.connection_check import Finding, failure, refused_at_once, success
from airflow_provider_isvapp.api.isvapp.account import Account
from airflow_provider_isvapp.api.isvapp.client import SCOPE_ACCOUNTS, SCOPE_EXPORTS, SCOPE_IDENTITY, IsvappClient
from airflow_provider_isvapp.errors import AuthenticationRefused, PermissionRefused, ProviderError, RequestRefused

VENDOR = "ISVapp"
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
            f"ISVapp does not know this API key ({refused.status}): {refused.said or 'without a message'}. Check the "
            "connection's password, or give the client id that belongs to it as login.",
        )
    except PermissionRefused as refused:
        return _failed(
            client,
            f"ISVapp knows this API key and refuses it ({refused.status}): {refused.said or 'without a message'}. "
            f"Create one with the permission scope {API_KEY_PERMISSION!r}, under Setup > REST API in ISVapp.",
        )
    except ProviderError as error:
        return failure(error, vendor=VENDOR, clock_ahead=client.clock_ahead)
    message = f"Connected to ISVapp as {_name(account)} with an API key that has the permission {API_KEY_PERMISSION!r}."
    return success(message, vendor=VENDOR, clock_ahead=client.clock_ahead)


def check_client_credentials(client: IsvappClient) -> Finding:
    """Test a connection with client id and secret: one token for each scope, and the account."""
    try:
        granted, refused = _ask_for_scopes(client)
        if not granted:
            return failure(refused[SCOPE_IDENTITY], vendor=VENDOR, clock_ahead=client.clock_ahead)
        account = client.get_account() if SCOPE_IDENTITY in granted else None
    except AuthenticationRefused as error:
        return refused_at_once(error, vendor=VENDOR, clock_ahead=client.clock_ahead)
    except ProviderError as error:
        return failure(error, vendor=VENDOR, clock_ahead=client.clock_ahead)
    who = f" as {_name(account)}" if account else ""
    noun = "scope" if len(granted) == 1 else "scopes"
    message = f"Connected to ISVapp{who} with the {noun} {', '.join(granted)}."
    if not refused:
        return success(message, vendor=VENDOR, clock_ahead=client.clock_ahead)
    missing = " ".join(
        f"Without the scope {scope}, tasks cannot {_NEEDED_TO[scope]} ({error.said or error.status})."
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
    return failure(ProviderError(message), vendor=VENDOR, clock_ahead=client.clock_ahead)


def _name(account: Account) -> str:
    return account.company_name or f"account {account.id}"
