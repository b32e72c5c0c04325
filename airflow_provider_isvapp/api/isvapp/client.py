# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every documented endpoint of ISVapp's REST API as a typed call, and the response to a download."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import requests
import urllib3.exceptions

from airflow_provider_isvapp.api.auth import ApiKey, ClientCredentials, SecretStyle
from airflow_provider_isvapp.api.client import VendorClient, id_in_path
from airflow_provider_isvapp.api.isvapp.export_state import is_ready_or_raise
from airflow_provider_isvapp.api.isvapp.models import Account, Export, ExportRequest
from airflow_provider_isvapp.api.responses import (
    REFUSED_AGAIN,
    Decoded,
    as_flag,
    decode,
    find_vendor_message,
    parse_object,
    require_utf8,
    shape_of,
    split_array,
)
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.api.transport import Authorizer, Request
from airflow_provider_isvapp.errors import (
    API_CHANGED,
    ApiError,
    BrokenTransfer,
    ContractBroken,
    ExportError,
    OutcomeUnknown,
    RequestRefused,
    UnexpectedResponse,
)
from airflow_provider_isvapp.events import ExportCreated

log = logging.getLogger(__name__)

# The smallest OAuth2 scope for each endpoint, as the vendor recommends.
SCOPE_IDENTITY = "identity"
SCOPE_EXPORTS = "exports"
SCOPE_ACCOUNTS = "salesforce_accounts"

# A download URL that was valid when the record was read can expire before its request: the record is read again.
_URL_EXPIRED = (403, 404, 410)


@dataclass(frozen=True, kw_only=True)
class AccountLines:
    """The active Salesforce accounts, with the metadata of the response.

    :param lines: each account as the JSON bytes that the vendor sent, on one line.
    :param responded_at: the time of the response, by the vendor's clock if it sent a ``Date`` header.
    :param request: path and parameters of the request.
    """

    lines: tuple[bytes, ...] = field(repr=False)
    responded_at: datetime
    request: Mapping[str, str]


# As many digits as a size can have; Python refuses to convert more than some thousand.
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


def download_headers(*, offset: int, validator: str | None) -> dict[str, str]:
    """Build the headers to request a whole file or, with a strong validator, the rest of one.

    With If-Range the server sends the whole file if it has changed (RFC 9110, 13.1.5), so two files are never spliced.
    """
    headers = {"Accept-Encoding": "gzip", "Accept": "*/*"}
    if offset > 0 and validator is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    return headers


class DownloadResponse:
    """Reads the raw bytes of one response. A context manager.

    The bytes are not decoded: the file is gzip with or without ``Content-Encoding: gzip``, and the transfer
    decompresses and verifies it.

    :param export: the record, as read just before.
    :param start: the offset in the file of the body's first byte: the requested one, or 0.
    """

    def __init__(self, export: Export, response: requests.Response, *, start: int) -> None:
        self.export = export
        self.start = start
        self.status = response.status_code
        self.content_length = _whole_number(response.headers.get("Content-Length"))
        self.validator = _strong(response.headers.get("ETag"))
        self.accepts_ranges = response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        self._response = response
        self._broken: BrokenTransfer | None = None

    @classmethod
    def from_response(cls, export: Export, response: requests.Response, *, offset: int) -> DownloadResponse:
        """Wrap a 2xx response to a download.

        :param offset: the first byte that was requested.
        :raises UnexpectedResponse: for a response with another part of the file.
        """
        if response.status_code == 200:
            return cls(export, response, start=0)
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if response.status_code == 206 and match and int(match[1]) == offset:
            return cls(export, response, start=offset)
        response.close()
        raise UnexpectedResponse(
            f"ISVapp responded to the download of export {export.id} with status {response.status_code} "
            "and not with the file. Try again later."
        )

    def __enter__(self) -> DownloadResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the end of the body or where it broke; nothing after the end.

        Uses ``read1``: a plain read loses the bytes that arrived before a connection broke, and reads the whole rest
        of a body at once after a chunk of negative size.

        :raises BrokenTransfer: if the connection broke, ended early, or stalled longer than the read timeout.
        """
        parts: list[bytes] = []
        remaining = size
        while remaining > 0 and self._broken is None:
            try:
                part = self._response.raw.read1(remaining, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError:
                self._broken = BrokenTransfer(
                    f"The download of export {self.export.id} stalled for longer than the read timeout."
                )
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
                self._broken = BrokenTransfer(f"The download of export {self.export.id} broke off.")
            else:
                if not part:
                    break
                parts.append(part)
                remaining -= len(part)
        if self._broken is not None and not parts:
            raise self._broken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def interrupt(self) -> None:
        """End a blocked read in any thread, as if the connection had been closed."""
        # Raised after the last byte, when nothing is left to interrupt.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.raw.shutdown()

    def close(self) -> None:
        """Close the connection if the body was not read to its end; otherwise it can be reused."""
        self._response.close()


def _whole_number(header: str | None) -> int | None:
    return int(header) if header is not None and _SIZE.fullmatch(header) else None


def _strong(etag: str | None) -> str | None:
    """Return a strong ETag; a weak one does not promise equal bytes (RFC 9110, 8.8.1)."""
    return etag if etag and etag.startswith('"') else None


class IsvappClient(VendorClient[IsvappSettings]):
    """A client of ISVapp for one connection; the parameters are those of :class:`VendorClient`."""

    def _authorizer(self, settings: IsvappSettings) -> Authorizer:
        if settings.client_id is None:
            return ApiKey(settings.secret)
        return ClientCredentials(
            self._transport,
            token_url=f"{self._base_url}/api/oauth2/token",
            client_id=settings.client_id,
            client_secret=settings.secret,
            style=SecretStyle.BASIC,
            on_new_token=self._on_new_token,
            open_storage=self._open_storage,
            clock=self._clock,
        )

    def get_account(self) -> Account:
        """Show the account that the credentials belong to, which is the vendor's way to verify a connection."""
        path = "/api/v1/account"
        data = self._data("GET", path, "account", scope=SCOPE_IDENTITY)
        return self._decoded(
            data, f"GET {path}", lambda record: Account.from_record(record, redact=self._transport.redact)
        )

    def create_export(self, request: ExportRequest) -> Export:
        """Request an export. Sent once: an unclear outcome is an error, never a second request.

        :raises OutcomeUnknown: if it is unknown whether the export was created.
        """
        path = "/api/v1/exports"
        if not request.is_documented:
            log.warning(
                "An export of the type %r and the aggregation %r is not documented: its rows are checked as JSON "
                "objects only.",
                request.export_type,
                request.aggregation,
            )
        try:
            data = self._data(
                "POST", path, "create_export", scope=SCOPE_EXPORTS, json=request.payload(), idempotent=False
            )
            export = self._export(data, f"POST {path}")
        except UnexpectedResponse as error:
            # The status is 2xx, so the request was accepted.
            raise OutcomeUnknown(
                f"{error} The request may have been carried out, so it was not sent again. A retry of the task sends a "
                "new request; an export that was created without a response does no harm and expires."
            ) from None
        self._observe(ExportCreated())
        return export

    def get_export(self, export_id: str) -> Export:
        """Show one export."""
        path = f"/api/v1/exports/{id_in_path('export_id', export_id)}"
        export = self._export(self._data("GET", path, "show_export", scope=SCOPE_EXPORTS), f"GET {path}")
        if export.id != export_id:
            raise ContractBroken(
                f"ISVapp responded to a request for export {export_id} with export {export.id}. Ask the vendor."
            )
        return export

    def list_exports(self, *, on_unreadable: Callable[[ApiError], object] | None = None) -> list[Export]:
        """List the 1000 most recent exports, in the vendor's order.

        :param on_unreadable: called with the error of each unreadable record, which is then skipped. Without it, the
            first error is raised.
        """
        path = "/api/v1/exports"
        data = self._data("GET", path, "list_exports", scope=SCOPE_EXPORTS)
        exports = []
        # Record by record: a thousand dicts at once, every few seconds, would bring about full runs of the garbage
        # collector, each of which stops a triggerer for longer than all the rest of a poll.
        for line in split_array(data, vendor=self.vendor, label=f"GET {path}", name="data"):
            try:
                exports.append(self._export(line, f"GET {path}"))
            except (ContractBroken, UnexpectedResponse) as problem:
                if on_unreadable is None:
                    raise
                on_unreadable(problem)
        return exports

    def list_salesforce_accounts(
        self, *, include_health_scores: bool = False, include_subscriber_orgs: bool = False
    ) -> list[dict[str, Any]]:
        """List the active Salesforce accounts as Python values; parameters as in :meth:`salesforce_account_lines`."""
        accounts = self.salesforce_account_lines(
            include_health_scores=include_health_scores, include_subscriber_orgs=include_subscriber_orgs
        )
        return [self._decoded(line, "GET /api/v1/salesforce_accounts", dict) for line in accounts.lines]

    def salesforce_account_lines(
        self, *, include_health_scores: bool = False, include_subscriber_orgs: bool = False
    ) -> AccountLines:
        """List the active Salesforce accounts, each as the JSON bytes that the vendor sent, on one line.

        :param include_health_scores: add ``health_scores`` to each account.
        :param include_subscriber_orgs: add ``subscriber_orgs`` to each account.
        """
        switches = {"includeHealthScores": include_health_scores, "includeSubscriberOrgs": include_subscriber_orgs}
        params = {name: "1" for name, wanted in switches.items() if wanted}
        path = "/api/v1/salesforce_accounts"
        data = self._data("GET", path, "salesforce_accounts", scope=SCOPE_ACCOUNTS, params=params)
        responded_at = datetime.fromtimestamp(self._clock() - (self.clock_skew or 0.0), UTC)
        context = {"vendor": self.vendor, "label": f"GET {path}", "name": "data"}
        lines = require_utf8(split_array(data, **context), **context)
        return AccountLines(lines=tuple(lines), responded_at=responded_at, request={"path": path, **params})

    def open_download(self, export_id: str, *, offset: int = 0, validator: str | None = None) -> DownloadResponse:
        """Open the stream of a completed export's file.

        The record is read first, for a fresh URL and the sizes; a URL that expires before its request is refreshed
        once in the same way.

        :param offset: the first byte to request; the response may still start at 0 (see ``DownloadResponse.start``).
        :param validator: the strong ETag of the response that contained the first ``offset`` bytes.
        :raises ExportFailed: if the export errored.
        :raises ExportExpired: if its file has expired.
        :raises ExportError: if it is not completed yet.
        """
        export = self._downloadable(export_id)
        headers = download_headers(offset=offset, validator=validator)
        try:
            return DownloadResponse.from_response(export, self._open(export, headers), offset=offset)
        except RequestRefused as refused:
            if refused.status == 416:
                return DownloadResponse.from_response(
                    export, self._open(export, download_headers(offset=0, validator=None)), offset=0
                )
            if refused.status not in _URL_EXPIRED:
                raise
        renewed = self._downloadable(export_id)
        return DownloadResponse.from_response(renewed, self._open(renewed, headers), offset=offset)

    def _downloadable(self, export_id: str) -> Export:
        export = self.get_export(export_id)
        if not is_ready_or_raise(export, now=datetime.fromtimestamp(self._clock(), UTC)):
            raise ExportError(
                f"Export {export_id} is still {export.status} and has no file yet. "
                "Wait for it with IsvappExportSensor.",
                export_id=export_id,
            )
        return export

    def _open(self, export: Export, headers: dict[str, str]) -> requests.Response:
        if export.download_url is None:
            raise ContractBroken(
                f"Export {export.id} is {export.status}, but its record has no download_url. {API_CHANGED}"
            )
        label = f"the download of export {export.id}"
        self._transport.redact.add_url(export.download_url)
        request = Request(
            method="GET",
            url=export.download_url,
            label=label,
            endpoint="download",
            scope=SCOPE_EXPORTS,
            headers=headers,
        )
        return self._credentials.call(lambda authorizer: self._transport.stream(request, authorizer))

    def _data(
        self,
        method: str,
        path: str,
        endpoint: str,
        *,
        scope: str,
        params: dict[str, str] | None = None,
        json: dict[str, object] | None = None,
        idempotent: bool = True,
    ) -> msgspec.Raw:
        """Send a request and return ``data`` from the vendor's envelope."""
        label = f"{method} {path}"
        request = Request(
            method=method,
            url=f"{self._base_url}{path}",
            label=label,
            endpoint=endpoint,
            scope=scope,
            params=params,
            json=json,
            headers={"Accept": "application/json"},
            idempotent=idempotent,
        )
        response = self._fetch(request)
        envelope = parse_object(response, vendor=self.vendor, label=label, redact=self._transport.redact)
        raw = self._decoded(envelope.get("success", msgspec.Raw(b"null")), label, lambda value: value)
        success = as_flag(raw)
        if success is not None and success is not raw:
            self._warn_once("success", f"{self.vendor} sends 'success' as {shape_of(raw)}; it is read as {success}.")
        if success is False:
            message = find_vendor_message(response.content, redact=self._transport.redact) or "without a message"
            raise RequestRefused(f"{self.vendor} refused {label}: {message}. {REFUSED_AGAIN}", status=response.status)
        if success is not True or "data" not in envelope:
            raise ContractBroken(
                f"{self.vendor} responded to {label} with JSON, but not with its documented envelope (data, success). "
                "Check the connection's host; if it is right, the vendor's API has changed."
            )
        return envelope["data"]

    def _export(self, record: bytes | msgspec.Raw, label: str) -> Export:
        return self._decoded(
            record,
            label,
            lambda record: Export.from_record(record, redact=self._transport.redact, on_undocumented=self._warn_once),
        )

    def _decoded(self, value: bytes | msgspec.Raw, label: str, convert: Callable[[Any], Decoded]) -> Decoded:
        return decode(value, convert, vendor=self.vendor, label=label)
