# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From a vendor's 4xx to an error that repeats the vendor's words and names the next step."""

from __future__ import annotations

import msgspec

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.errors import AuthenticationRefused, NotFound, PermissionRefused, RequestRefused

REFUSED_AGAIN = "It will be refused again as it is; change the request."
WEB_PAGE = "a web page instead of an API answer"
"""What is said of a refusal that is HTML: a gateway's, a login page's, or another server's altogether."""


def refusal(*, vendor: str, label: str, status: int, said: str, scope: str | None) -> RequestRefused:
    """Build the error for a refused request.

    :param said: the vendor's own words, see :func:`vendor_message`.
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
            advice = "Check the id, and that this connection belongs to the account that made it."
    if said == WEB_PAGE:
        advice = f"{vendor}'s API does not answer like this: check the connection's host, and what stands between."
    text = f"{vendor} refused {label} ({status}): {said or 'without a message'}."
    return kind(f"{text} {advice}", status=status, said=said)


def vendor_message(body: bytes, *, redact: Redactor) -> str:
    """Find the vendor's own words in an error's body: the JSON field of its error schema, else the start of a text.

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
