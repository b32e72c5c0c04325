# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one path that every request to a vendor takes.

Limiter, authentication, time limits, retries and the refusal of redirects are decided here and nowhere else; what an
answer's body means is for the callers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import requests

from airflow_provider_isvapp import __version__
from airflow_provider_isvapp.api.clock_difference import seconds_ahead
from airflow_provider_isvapp.api.origin import host_of, origin
from airflow_provider_isvapp.api.refusal import refusal, vendor_message
from airflow_provider_isvapp.api.retry import TransientFault, parse_retry_after, retrying, transient_fault
from airflow_provider_isvapp.api.tls_failure import tls_failure
from airflow_provider_isvapp.api.wire_log import hide_download_tokens
from airflow_provider_isvapp.errors import ForeignAddress, InvalidConnection, OutcomeUnknown, ServiceUnavailable
from airflow_provider_isvapp.observer import Observer, RequestSent, unobserved

if TYPE_CHECKING:
    from airflow_provider_isvapp.limiter import Limiter

# Without a Retry-After the vendor's own window (requests a second) has to pass before anybody may ask again.
PAUSE_AFTER_429 = 1.0


@dataclass(frozen=True, kw_only=True)
class TransportSettings:
    """What a connection says about how to talk to a vendor.

    :param vendor: the vendor's name, for messages.
    :param base_url: address without a trailing slash; the only origin that ever sees a token.
    :param connect_timeout: seconds until a connection stands.
    :param read_timeout: seconds between two bytes of an answer.
    :param attempts: how often a request is tried at most.
    """

    vendor: str
    base_url: str
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    attempts: int = 5


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to a vendor.

    :param url: the absolute address.
    :param label: how messages name the request; never the address of a download, which carries a token.
    :param endpoint: how metrics name it: one word of a small set.
    :param scope: the OAuth2 scope that the endpoint needs; None for a request that authenticates itself.
    :param idempotent: whether it may be sent again when nobody knows if it arrived.
    """

    method: str
    url: str = field(repr=False)
    label: str
    endpoint: str
    scope: str | None = None
    params: Mapping[str, str] | None = None
    json: Mapping[str, object] | None = None
    form: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    idempotent: bool = True


class Authorizer(Protocol):
    """Where bearer tokens come from."""

    def token(self, scope: str) -> str:
        """Return a token that carries the scope."""

    def rejected(self, scope: str, token: str) -> bool:
        """Take note of a 401.

        :return: whether :meth:`token` may give a better one now.
        """


class _Headers(requests.auth.AuthBase):
    """Carry the Authorization header as ``auth``: otherwise requests lets ~/.netrc replace it."""

    def __init__(self, bearer: str | None) -> None:
        self._bearer = bearer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._bearer is not None:
            request.headers["Authorization"] = f"Bearer {self._bearer}"
        return request


class Transport:
    """Sends requests to one vendor.

    Not for several threads at once. The limiter is held from just before a request is sent until its answer's headers
    are there, which is what makes the vendor's limit hold whatever the network does.

    :param observe: told of each request that was sent.
    :param clock: seconds since the epoch; injected by tests, as is ``sleep``.
    :ivar clock_ahead: how many seconds ``clock`` is ahead of the vendor's, by the latest answer; None if not known.
    """

    def __init__(
        self,
        settings: TransportSettings,
        *,
        limiter: Limiter,
        observe: Observer = unobserved,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._limiter = limiter
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self.clock_ahead: float | None = None
        hide_download_tokens()
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"airflow-provider-isvapp/{__version__}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def fetch(self, request: Request, authorizer: Authorizer | None = None) -> requests.Response:
        """Send a request and read the whole answer.

        :return: an answer with status 2xx and its body in ``content``.
        :raises RequestRefused: for any 4xx, with the vendor's message.
        :raises ServiceUnavailable: when 429, 5xx, resets or timeouts outlasted the tries.
        :raises OutcomeUnknown: when a request that must not be repeated was sent and not answered.
        :raises ForeignAddress: when the answer is a redirect or the address is not the vendor's.
        """
        return self._with_retries(request, authorizer, stream=False)

    def stream(self, request: Request, authorizer: Authorizer | None = None) -> requests.Response:
        """Send a request and leave the body of its answer to be read from ``raw``; raises like :meth:`fetch`."""
        return self._with_retries(request, authorizer, stream=True)

    def _with_retries(self, request: Request, authorizer: Authorizer | None, *, stream: bool) -> requests.Response:
        what = f"{self.settings.vendor} {request.label}"
        tries = retrying(attempts=self.settings.attempts, what=what, sleep=self._sleep)
        try:
            return tries(self._try_once, request, authorizer, stream=stream)
        except TransientFault as fault:
            last = fault
        raise ServiceUnavailable(
            f"{self.settings.vendor} did not answer {request.label} at {origin(request.url)} in "
            f"{self.settings.attempts} tries; the last one: {last}. {last.advice}"
        )

    def _try_once(self, request: Request, authorizer: Authorizer | None, *, stream: bool) -> requests.Response:
        if authorizer is None or request.scope is None:
            bearer = None
            response = self._send(request, bearer)
        else:
            bearer = authorizer.token(request.scope)
            response = self._send(request, bearer)
            if response.status_code == 401 and authorizer.rejected(request.scope, bearer):
                response.close()
                bearer = authorizer.token(request.scope)
                response = self._send(request, bearer)
        self._judge(request, response, secret=bearer)
        if not stream:
            self._read(request, response)
        return response

    def _send(self, request: Request, bearer: str | None) -> requests.Response:
        """Send once, under the limiter, and return when the headers of the answer are there."""
        if bearer is not None and origin(request.url) != origin(self.settings.base_url):
            raise ForeignAddress(
                f"{request.label} would lead to {host_of(request.url)}, but the connection is for "
                f"{host_of(self.settings.base_url)}; nothing was sent. If the vendor moved, change the "
                "connection's host."
            )
        try:
            with self._limiter.permit():
                response = self._session.request(
                    request.method,
                    request.url,
                    params=request.params,
                    json=request.json,
                    data=request.form,
                    headers=dict(request.headers),
                    auth=_Headers(bearer),
                    timeout=(self.settings.connect_timeout, self.settings.read_timeout),
                    allow_redirects=False,
                    stream=True,
                )
        except requests.RequestException as error:
            self._observe(RequestSent(endpoint=request.endpoint, status=None))
            failure: Exception = self._failure(request, error)
        else:
            self.clock_ahead = seconds_ahead(response.headers.get("Date"), now=self._clock())
            self._observe(RequestSent(endpoint=request.endpoint, status=response.status_code))
            return response
        # Raised out here, so that the library's own error, which quotes the address, is not chained to ours.
        raise failure

    def _read(self, request: Request, response: requests.Response) -> None:
        try:
            _ = response.content
        except requests.RequestException as error:
            failure: Exception = self._failure(request, error)
        else:
            return
        finally:
            response.close()
        raise failure

    def _failure(self, request: Request, error: requests.RequestException) -> Exception:
        if isinstance(error, requests.exceptions.SSLError):
            return tls_failure(error, url=request.url)
        if not isinstance(
            error,
            requests.ConnectionError
            | requests.Timeout
            | requests.exceptions.ChunkedEncodingError
            | requests.exceptions.ContentDecodingError,
        ):
            return InvalidConnection(
                f"{request.label} cannot be sent ({type(error).__name__}). Check the connection's host."
            )
        fault = transient_fault(
            error, connect_timeout=self.settings.connect_timeout, read_timeout=self.settings.read_timeout
        )
        return self._unless_unsafe(request, fault)

    def _unless_unsafe(self, request: Request, fault: TransientFault) -> Exception:
        """Retry a fault only where a second request cannot do something a second time."""
        if request.idempotent or not fault.sent:
            return fault
        return OutcomeUnknown(
            f"{self.settings.vendor} gave no clear answer to {request.label} ({fault}). It was not sent "
            "again, because it may have been carried out. A retry of the task asks once more; an export that was "
            "created unseen does no harm and expires."
        )

    def _judge(self, request: Request, response: requests.Response, *, secret: str | None) -> None:
        """Let a 2xx pass; turn everything else into the error that it means."""
        status = response.status_code
        if 200 <= status < 300:
            return
        body = b""
        with suppress(requests.RequestException):
            body = response.raw.read(64 * 1024, decode_content=True) or b""
        response.close()
        retry_after = parse_retry_after(
            response.headers.get("Retry-After"), now=datetime.fromtimestamp(self._clock(), UTC)
        )
        if status == 429:
            self._limiter.push_back(PAUSE_AFTER_429 if retry_after is None else retry_after)
            raise TransientFault(
                "429, too many requests",
                sent=False,
                retry_after=retry_after,
                advice="Something that does not share this limit uses the account as well: another program, or a "
                "machine with another rate_limit_storage.",
            )
        if status >= 500:
            said = vendor_message(body)
            reason = f"status {status}: {said}" if said else f"status {status}"
            raise self._unless_unsafe(request, TransientFault(reason, sent=True, retry_after=retry_after))
        if 300 <= status < 400:
            raise ForeignAddress(
                f"{self.settings.vendor} answered {request.label} with a redirect to "
                f"{host_of(response.headers.get('Location', ''))}, which is not followed: a token "
                "goes to the connection's own host only. Check the connection's host."
            )
        raise refusal(
            vendor=self.settings.vendor,
            label=request.label,
            status=status,
            body=body,
            scope=request.scope,
            secret=secret,
        )
