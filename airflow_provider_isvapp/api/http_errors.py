# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The errors for HTTP responses with an error status and for failed TLS handshakes."""

from __future__ import annotations

import ssl

import msgspec
import requests

from airflow_provider_isvapp.api.connection_fields import origin
from airflow_provider_isvapp.api.environment import bundle_failure
from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    InvalidConnection,
    NotFound,
    PermissionRefused,
    RequestRefused,
)

REFUSED_AGAIN = "It will be refused again as it is; change the request."
WEB_PAGE = "a web page instead of an API response"
"""Stands for the message of a refusal in HTML, which comes from a gateway, a login page or another server."""


def client_error(*, vendor: str, label: str, status: int, vendor_message: str, scope: str | None) -> RequestRefused:
    """Build the error for a refused request.

    :param vendor_message: the vendor's own message, see :func:`find_vendor_message`.
    :param scope: the scope that the endpoint needs, named in the advice for a 403.
    """
    kind: type[RequestRefused] = RequestRefused
    advice = REFUSED_AGAIN
    match status:
        case 401:
            kind = AuthenticationRefused
            advice = "Check the connection's login and password (an API key goes into the password, without a login)."
        case 403:
            kind = PermissionRefused
            needed = f" {scope!r}" if scope else ""
            advice = f"Give the client the scope{needed}, or the API key its permission, in the vendor's settings."
        case 404:
            kind = NotFound
            advice = "Check the id and the connection's host, and that the connection is of the account that made it."
    if vendor_message == WEB_PAGE:
        advice = f"{vendor}'s API does not respond like this: check the connection's host, and any gateway in between."
    text = f"{vendor} refused {label} ({status}): {vendor_message or 'without a message'}."
    return kind(f"{text} {advice}", status=status, vendor_message=vendor_message)


def find_vendor_message(body: bytes, *, redact: Redactor) -> str:
    """Find the vendor's message in the body of an error: the JSON field of its error schema, else the start of a text.

    ISVapp documents ``{"error": message, "success": false}``; OAuth2 (RFC 6749, 5.2) has ``error_description``;
    Productiv documents no format, and gateways use ``message``. An HTML page says nothing that helps.
    """
    try:
        answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        text = WEB_PAGE if text.startswith("<") else text
    else:
        found = [_string(answer[name]) for name in _MESSAGE_FIELDS if name in answer]
        text = ": ".join([text for text in found if text is not None][:2])
    return redact(text).rstrip(".")


_MESSAGE_FIELDS = ("error", "error_description", "message", "Message")


def _string(value: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def tls_failure(error: requests.exceptions.SSLError, *, url: str, url_field: str) -> InvalidConnection:
    """Build the error for a failed handshake; the library's own text is not repeated, as it quotes the URL."""
    cause = _ssl_error(error)
    if not isinstance(cause, ssl.SSLCertVerificationError) and (failure := bundle_failure()):
        return failure
    text = f"TLS with {origin(url)} failed"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InvalidConnection(
            f"{text}: {cause.verify_message.rstrip('.')}. Check the connection's {url_field}; if it is right, let this "
            "machine trust the certificate authority (REQUESTS_CA_BUNDLE names another bundle)."
        )
    reason = (cause.reason if cause is not None else None) or ""
    if reason in _NOT_TLS:
        return InvalidConnection(
            f"{text}: the other side does not speak TLS. Check the connection's {url_field} and port; a URL without "
            "TLS begins with http://."
        )
    return InvalidConnection(
        f"{text} ({reason.replace('_', ' ').lower() or 'without a reason'}). Check the connection's {url_field} "
        "and port, and any proxy in between."
    )


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Find Python's own error below those of requests and urllib3."""
    waiting: list[object] = [error]
    while waiting:
        seen = waiting.pop()
        if isinstance(seen, ssl.SSLError):
            return seen
        if isinstance(seen, BaseException):
            waiting += [getattr(seen, "reason", None), *seen.args]
    return None
