# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Why this machine cannot connect: TLS, and what its environment says about it, in words that lead to the next step."""

from __future__ import annotations

import os
import ssl

import requests
import urllib3.exceptions

from airflow_provider_isvapp.api.origin import origin
from airflow_provider_isvapp.errors import InvalidConnection

_PROXY_ERRORS = (
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.ProxySchemeUnknown,
)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def tls_failure(error: requests.exceptions.SSLError, *, url: str) -> InvalidConnection:
    """Build the error for a failed handshake; the library's own text is not repeated, as it quotes the address."""
    cause = _ssl_error(error)
    if not isinstance(cause, ssl.SSLCertVerificationError) and (failure := environment_failure(error)):
        return failure
    text = f"TLS with {origin(url)} failed"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InvalidConnection(
            f"{text}: {cause.verify_message.rstrip('.')}. Check the connection's host; if it is right, let this "
            "machine trust the certificate authority (REQUESTS_CA_BUNDLE names another bundle)."
        )
    reason = (cause.reason if cause is not None else None) or ""
    if reason in _NOT_TLS:
        return InvalidConnection(
            f"{text}: the other side does not speak TLS. Check the connection's host and port; an address without TLS "
            "begins with http://."
        )
    return InvalidConnection(
        f"{text} ({reason.replace('_', ' ').lower() or 'without a reason'}). Check the connection's host and port, and "
        "whether a proxy stands between."
    )


def environment_failure(error: Exception) -> InvalidConnection | None:
    """Build the error for a request that failed because of a variable of the environment; None if none is to blame."""
    if isinstance(error, _PROXY_ERRORS):
        return InvalidConnection(
            f"The proxy of the environment cannot be used ({type(error).__name__}). Correct HTTP_PROXY, HTTPS_PROXY or "
            "ALL_PROXY, or unset it."
        )
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(variable)
        if path:
            return None if _has_certificates(path) else _unreadable_bundle(variable, path)
    return None


def _has_certificates(path: str) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    except (OSError, ValueError):
        return False
    return True


def _unreadable_bundle(variable: str, path: str) -> InvalidConnection:
    return InvalidConnection(
        f"{variable} names {path!r}, from which no certificates can be read. Correct the variable, or unset it."
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
