# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Both vendors' endpoints with their documented responses, which tests damage one at a time, and their secrets.

Each secret begins and ends with a mark; the characters between are those that encodings change. A search for the mark
in all spellings finds the secret in each spelling, even if it is truncated.
"""

from __future__ import annotations

import base64
import email.utils
import gzip
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.api.settings import PRODUCTIV_SCOPE
from tests.support.hostile.wire_server import KeepAlive, Seen, Step, WireServer
from tests.support.spelling import AWKWARD, spellings


def _secret(mark: str) -> str:
    return f"{mark}{AWKWARD}{mark}"


CLIENT_ID = "client-1"
CLIENT_SECRET = _secret("s3ntinel-clientsecret")
API_KEY = _secret("s3ntinel-apikey")
ACCESS_TOKEN = _secret("s3ntinel-accesstoken")
DOWNLOAD_TOKEN = _secret("s3ntinel-downloadtoken")
STORAGE_PASSWORD = _secret("s3ntinel-storagepassword")
SECRETS = (CLIENT_SECRET, API_KEY, ACCESS_TOKEN, DOWNLOAD_TOKEN, STORAGE_PASSWORD)

_SPELLINGS = {secret: spellings(secret.partition(AWKWARD)[0]) for secret in SECRETS}


def leaked(text: str, secrets: Iterable[str] = SECRETS) -> str | None:
    """Return the text around the first secret, or part of one, in a text; None without one."""
    content = text.encode("utf-8", "surrogatepass")
    for secret in secrets:
        for spelling in _SPELLINGS[secret]:
            at = content.find(spelling)
            if at >= 0:
                return content[max(at - 60, 0) : at + 60].decode("utf-8", "replace")
    return None


def spellings_of(secret: str) -> tuple[str, ...]:
    """Return a secret as a vendor might repeat it: plain, percent-encoded, in base64, escaped in JSON."""
    encoded = secret.encode()
    return (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        base64.b64encode(encoded).decode(),
        base64.urlsafe_b64encode(encoded).decode(),
        json.dumps(secret)[1:-1],
    )


def every_spelling() -> str:
    """Return all secrets in all spellings, and a client as HTTP Basic spells it."""
    basic = f"{CLIENT_ID}:{CLIENT_SECRET}"
    said = [f"Basic {base64.b64encode(basic.encode()).decode()}"]
    return " | ".join([*said, *(spelling for secret in SECRETS for spelling in spellings_of(secret))])


EXPORT_ID = "e-1"
DOWNLOAD_PATH = f"/api/v1/exports/{EXPORT_ID}/download/{quote(DOWNLOAD_TOKEN, safe='')}"
ROW = {"reference_date": "2024-02", "salesforce_account_id": "0014x000FVCAPXFAY5", "unique_users": "7"}
PLAIN_FILE = json.dumps(ROW).encode() + b"\n"
FILE = gzip.compress(PLAIN_FILE, mtime=0)
REQUEST = ExportRequest.checked(timeframe="2024-02", taxonomy_ids=["t1"])


def export_record(base_url: str, *, status: str = "COMPLETED", export_id: str = EXPORT_ID) -> dict[str, Any]:
    """A record as the vendor documents it."""
    completed = status == "COMPLETED"
    return {
        "id": export_id,
        "type": "TAXONOMY_ITEM",
        "status": status,
        "url": f"https://app.example.com/exports/{export_id}",
        "download_url": f"{base_url}{DOWNLOAD_PATH}" if completed else None,
        "created_at": "2024-03-05T08:38:31.711005Z",
        "completed_at": "2024-03-05T08:42:22.100005Z" if completed else None,
        "expires_at": "2124-03-05T09:42:22.100005Z" if completed else None,
        "errored_at": None,
        "error_message": None,
        "is_expired": False,
        "download_size_compressed_bytes": len(FILE) if completed else None,
        "download_size_uncompressed_bytes": len(PLAIN_FILE) if completed else None,
    }


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One endpoint of a vendor.

    :param valid: the documented body for a server at a base URL: a JSON value, or bytes.
    :param call: calls the endpoint with a client.
    """

    name: str
    method: str
    path: str
    valid: Callable[[str], Any]
    call: Callable[[Any], object]
    vendor: type[IsvappClient] | type[ProductivClient] = IsvappClient
    content_type: str = "application/json"

    def body(self, base_url: str) -> bytes:
        valid = self.valid(base_url)
        return valid if isinstance(valid, bytes) else json.dumps(valid).encode()

    @property
    def is_token(self) -> bool:
        return self.name.endswith("token")

    @property
    def is_file(self) -> bool:
        return self.name == "download"


def _envelope(data: Any) -> dict[str, Any]:
    return {"data": data, "success": True}


_TOKEN = {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600}
_APP = {"ApplicationId": "app-1", "Name": "App", "Users": 3}


def _download(client: IsvappClient) -> bytes:
    with client.open_download(EXPORT_ID) as body:
        data = b""
        while chunk := body.read(1 << 16):
            data += chunk
            if len(data) > 1 << 22:
                break  # the transfer bounds the size of a file, because it knows the record
        return data


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(
            name="token",
            method="POST",
            path="/api/oauth2/token",
            valid=lambda _: _TOKEN,
            call=lambda client: client.check_scope("exports"),
        ),
        Endpoint(
            name="account",
            method="GET",
            path="/api/v1/account",
            valid=lambda _: _envelope({"id": "42", "company_name": "Example"}),
            call=lambda client: client.get_account(),
        ),
        Endpoint(
            name="create",
            method="POST",
            path="/api/v1/exports",
            valid=lambda url: _envelope(export_record(url, status="PENDING")),
            call=lambda client: client.create_export(REQUEST),
        ),
        Endpoint(
            name="show",
            method="GET",
            path=f"/api/v1/exports/{EXPORT_ID}",
            valid=lambda url: _envelope(export_record(url)),
            call=_download,
        ),
        Endpoint(
            name="list",
            method="GET",
            path="/api/v1/exports",
            valid=lambda url: _envelope([export_record(url), export_record(url, status="PENDING", export_id="e-2")]),
            call=lambda client: client.list_exports(),
        ),
        Endpoint(
            name="download",
            method="GET",
            path=DOWNLOAD_PATH,
            valid=lambda _: FILE,
            call=_download,
            content_type="application/gzip",
        ),
        Endpoint(
            name="accounts",
            method="GET",
            path="/api/v1/salesforce_accounts",
            valid=lambda _: _envelope([{"isvapp_id": 1, "salesforce_id": "0014x000FVCAPXFAY5", "name": "Äccount"}]),
            call=lambda client: client.list_salesforce_accounts(),
        ),
        Endpoint(
            name="productiv_token",
            method="POST",
            path="/oauth2/token",
            valid=lambda _: _TOKEN,
            call=lambda client: client.check_scope(PRODUCTIV_SCOPE),
            vendor=ProductivClient,
        ),
        Endpoint(
            name="productiv_apps",
            method="GET",
            path="/pull/v1/apps",
            valid=lambda _: {"Apps": [_APP], "AsOfDate": "2024-03-05", "ResponseTimeMs": 7},
            call=lambda client: [dict(app) for app in client.list_apps()],
            vendor=ProductivClient,
        ),
        Endpoint(
            name="productiv_app",
            method="GET",
            path="/pull/v1/apps/app-1",
            valid=lambda _: {"App": _APP, "AsOfDate": "2024-03-05", "ResponseTimeMs": 7},
            call=lambda client: client.get_app("app-1"),
            vendor=ProductivClient,
        ),
    )
}


class Vendors(WireServer):
    """Both vendors on one port; every endpoint responds as documented, unless a test replaces its response."""

    def __init__(self) -> None:
        super().__init__(self._respond)
        self._spoilt: dict[str, list[tuple[Callable[[Seen], Iterable[Step]], int | None]]] = {}

    def spoil(self, endpoint: str, respond: Callable[[Seen], Iterable[Step]], *, times: int | None = None) -> None:
        """Make an endpoint send another response to the next requests.

        :param times: the number of requests that get it; None for all.
        """
        earlier = [] if times is None else self._spoilt.get(endpoint, [])
        self._spoilt[endpoint] = [*earlier, (respond, times)]

    def restore(self) -> None:
        """Respond as documented again, and clear the log of requests."""
        self._spoilt.clear()
        self.seen.clear()

    def count(self, endpoint: str, *, at_least: int = 0) -> int:
        """Count the requests to an endpoint.

        :param at_least: wait some seconds for this many: a client may leave before a busy server has read its request.
        """
        wanted = ENDPOINTS[endpoint]
        deadline = time.monotonic() + 10
        while True:
            found = sum((seen.method, seen.path) == (wanted.method, wanted.path) for seen in list(self.seen))
            if found >= at_least or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def _respond(self, seen: Seen) -> Iterable[Step]:
        endpoint = next(
            (known for known in ENDPOINTS.values() if (known.method, known.path) == (seen.method, seen.path)), None
        )
        if endpoint is None:
            return (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", KeepAlive())
        if spoilt := self._spoilt.get(endpoint.name):
            respond, times = spoilt.pop()
            if times is None or times > 1:
                spoilt.append((respond, times and times - 1))
            return respond(seen)
        body = endpoint.body(self.url)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {endpoint.content_type}\r\nContent-Length: {len(body)}\r\n"
            f"Date: {email.utils.formatdate(usegmt=True)}\r\n\r\n"
        )
        return (head.encode() + body, KeepAlive())
