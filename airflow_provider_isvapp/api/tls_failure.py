# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Why a TLS connection did not come about, in words that lead to the next step."""

from __future__ import annotations

import ssl

import requests

from airflow_provider_isvapp.api.origin import origin
from airflow_provider_isvapp.errors import InvalidConnection

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def tls_failure(error: requests.exceptions.SSLError, *, url: str) -> InvalidConnection:
    """Build the error for a failed handshake; the library's own text is not repeated, as it quotes the address."""
    cause = _ssl_error(error)
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
