# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From a vendor's 4xx to an error that repeats the vendor's words and names the next step."""

from __future__ import annotations

import json

from airflow_provider_isvapp.errors import AuthenticationRefused, NotFound, PermissionRefused, RequestRefused

WEB_PAGE = "a web page instead of an API answer"
"""What is said of a refusal that is HTML: a gateway's, a login page's, or another server's altogether."""

_LONGEST_MESSAGE = 500


def refusal(
    *, vendor: str, label: str, status: int, body: bytes, scope: str | None, secret: str | None
) -> RequestRefused:
    """Build the error for a refused request.

    :param scope: the scope that the endpoint needs, named in the advice for a 403.
    :param secret: the token that was sent; taken out of the message should the vendor repeat it.
    """
    said = vendor_message(body)
    if secret:
        said = said.replace(secret, "***")
    kind: type[RequestRefused] = RequestRefused
    advice = "It will be refused again as it is; change the request."
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


def vendor_message(body: bytes) -> str:
    """Find the vendor's own words in an error's body: the JSON field of its error schema, else the start of a text.

    ISVapp documents ``{"error": message, "success": false}``; OAuth2 (RFC 6749, 5.2) has ``error_description``;
    Productiv documents no format, and gateways use ``message``. An HTML page says nothing that helps.
    """
    text = body.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        found = [
            answer[name]
            for name in ("error", "error_description", "message", "Message")
            if isinstance(answer.get(name), str)
        ]
        text = ": ".join(found[:2])
    elif text.startswith("<"):
        text = WEB_PAGE
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"
