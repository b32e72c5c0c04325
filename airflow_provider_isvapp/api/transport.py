# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one path that every request to a vendor takes.

It applies the limiter, authentication, time limits and retries, and refuses redirects; callers interpret the body. It
is also a boundary: errors of the HTTP libraries leave it as errors of :mod:`airflow_provider_isvapp.errors`, and a
vendor's text leaves it without secrets.
"""

from __future__ import annotations

import http.client
import io
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import requests
import urllib3.exceptions

from airflow_provider_isvapp import __version__
from airflow_provider_isvapp.api.network import (
    Deadline,
    DeadlineAdapter,
    Proxy,
    bundle_failure,
    check_proxy,
    host_of,
    origin,
    tls_failure,
)
from airflow_provider_isvapp.api.redaction import Redactor, hide_in_log, release_from_log
from airflow_provider_isvapp.api.responses import Response, client_error, find_vendor_message, http_date
from airflow_provider_isvapp.api.retry import (
    TransientFault,
    parse_retry_after,
    retrying,
    transient_fault,
    transient_status,
)
from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.errors import (
    ForeignURL,
    InvalidConnection,
    OutcomeUnknown,
    ServiceUnavailable,
    UnexpectedResponse,
)
from airflow_provider_isvapp.events import Observer, RequestSent, no_op_observer

if TYPE_CHECKING:
    from airflow_provider_isvapp.ratelimit import Limiter

_LASTING = "Try again later; if it lasts, check the connection's {url_field} and the vendor's status."
# The deadline of a whole body, in multiples of the read timeout, which bounds each pause within it.
READ_TIMEOUTS_PER_BODY = 5
# Far above what the vendors send. Decompressed size: on the wire it can be a thousandth.
LARGEST_BODY = 128 * 1024 * 1024
LARGEST_ERROR_BODY = 64 * 1024
# The encodings that are requested and decoded. Others, and nested ones, have unbounded compression ratios.
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")
_READ_BYTES = 64 * 1024

# Everything that requests, urllib3 and http.client raise for a response, a URL, a proxy or a certificate file.
_LIBRARY_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    ArithmeticError,
    zlib.error,
)
# The subset that means that a request cannot be made to any server. UnicodeError is about host names.
_UNSENDABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
    http.client.InvalidURL,
    UnicodeError,
)

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to a vendor.

    :param url: the absolute URL.
    :param label: the request's name in messages; never the URL of a download, which carries a token.
    :param endpoint: the request's name in metrics, from a small set.
    :param scope: the OAuth2 scope that the endpoint needs; None for a request that authenticates itself.
    :param url_field: the connection's field that decides the URL, for messages.
    :param idempotent: whether to send it again when its outcome is unknown.
    """

    method: str
    url: str = field(repr=False)
    label: str
    endpoint: str
    scope: str | None = None
    url_field: str = "host"
    params: Mapping[str, str] | None = None
    json: Mapping[str, object] | None = None
    form: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    idempotent: bool = True


class Authorizer(Protocol):
    """Provides bearer tokens."""

    def token(self, scope: str) -> str:
        """Return a token that carries the scope."""

    def rejected(self, scope: str, token: str) -> bool:
        """Handle a 401.

        :return: whether :meth:`token` may return another token now.
        """


class _Headers(requests.auth.AuthBase):
    """Sets the Authorization header as ``auth``: otherwise requests replaces it by what ~/.netrc has."""

    def __init__(self, bearer: str | None) -> None:
        self._bearer = bearer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._bearer is not None:
            request.headers["Authorization"] = f"Bearer {self._bearer}"
        return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: requests parses the location and reads the redirect's whole body even if it does not follow."""
        return None


class Transport:
    """Sends requests to one vendor.

    Not thread-safe. A request holds a permit of the limiter until the headers of its response arrive, so network delays
    cannot break the vendor's limit.

    :param redactor: removes the connection's secrets from texts.
    :param observe: called with each request that was sent.
    :param clock: seconds since the epoch; tests inject it, as they do ``sleep``.
    :ivar clock_skew: the seconds that ``clock`` is ahead of the vendor's, by the latest response; None if not known.
    """

    def __init__(
        self,
        settings: TransportSettings,
        *,
        limiter: Limiter,
        redactor: Redactor | None = None,
        observe: Observer = no_op_observer,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._limiter = limiter
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self.clock_skew: float | None = None
        self.redact = redactor or Redactor()
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, DeadlineAdapter())
        self._session.headers.update(
            {"User-Agent": f"airflow-provider-isvapp/{__version__}", "Accept-Encoding": "gzip, deflate"}
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        release_from_log(self.redact)

    def fetch(self, request: Request, authorizer: Authorizer | None = None) -> Response:
        """Send a request and read the whole response.

        :return: a response with status 2xx and its body in ``content``.
        :raises RequestRefused: for any 4xx, with the vendor's message.
        :raises ServiceUnavailable: if every attempt failed with a 429, a 5xx, a reset or a timeout.
        :raises OutcomeUnknown: if a request that is not idempotent was sent and got no clear response.
        :raises UnexpectedResponse: if the body exceeds :data:`LARGEST_BODY`.
        :raises ForeignURL: if the response is a redirect or the URL is not the vendor's.
        """
        return self._with_retries(request, lambda: self._read(request, *self._open(request, authorizer)))

    def stream(self, request: Request, authorizer: Authorizer | None = None) -> requests.Response:
        """Send a request and return the response with its body unread in ``raw``; raises like :meth:`fetch`."""

        def opened() -> requests.Response:
            response, deadline = self._open(request, authorizer)
            deadline.extend(math.inf)  # a download has a minimum rate instead
            return response

        return self._with_retries(request, opened)

    def _with_retries(self, request: Request, attempt: Callable[[], Result]) -> Result:
        what = f"{request.label} from {self.settings.vendor}"
        tries = retrying(attempts=self.settings.attempts, what=what, sleep=self._sleep)
        try:
            return tries(attempt)
        except TransientFault as fault:
            last = fault
        raise ServiceUnavailable(
            f"{self.settings.vendor} gave no usable response to {request.label} at {origin(request.url)} "
            f"after {self.settings.attempts} attempts; last error: {last}. "
            + (last.advice or _LASTING.format(url_field=request.url_field))
        )

    def _open(self, request: Request, authorizer: Authorizer | None) -> tuple[requests.Response, Deadline]:
        """Send with a token, and after a 401 once more with a new one; return a 2xx response with its body unread."""
        if authorizer is None or request.scope is None:
            response, deadline = self._send(request, None)
        else:
            bearer = authorizer.token(request.scope)
            self.redact.add_temporary(bearer)
            response, deadline = self._send(request, bearer)
            if response.status_code == 401 and authorizer.rejected(request.scope, bearer):
                response.close()
                bearer = authorizer.token(request.scope)
                self.redact.add_temporary(bearer)
                response, deadline = self._send(request, bearer)
        self._check_status(request, response, deadline)
        return response, deadline

    def _send(self, request: Request, bearer: str | None) -> tuple[requests.Response, Deadline]:
        """Send once, under the limiter, and return when the headers of the response have arrived."""
        self._check_origin(request, request.url)
        check_proxy(request.url)
        prepared, environment = self._guarded(request, lambda: self._prepare(request, bearer))
        self._check_origin(request, prepared.url or "")
        timeouts = (self.settings.connect_timeout, self.settings.read_timeout)
        with self._limiter.acquire():
            # Not before the wait for a permit: another thread may close the client meanwhile.
            hide_in_log(self.redact)
            deadline = Deadline(sum(timeouts))
            status = None
            try:
                with deadline.applied():
                    response = self._guarded(
                        request,
                        lambda: self._session.send(prepared, timeout=timeouts, allow_redirects=False, **environment),
                        deadline,
                    )
                status = response.status_code
            finally:
                self._observe(RequestSent(endpoint=request.endpoint, status=status))
        date = http_date(response.headers.get("Date"))
        self.clock_skew = None if date is None else self._clock() - date
        return response, deadline

    def _prepare(self, request: Request, bearer: str | None) -> tuple[requests.PreparedRequest, Mapping[str, Any]]:
        prepared = self._session.prepare_request(
            requests.Request(
                request.method,
                request.url,
                params=request.params,
                json=request.json,
                data=request.form,
                headers=dict(request.headers),
                auth=_Headers(bearer),
            )
        )
        return prepared, self._session.merge_environment_settings(prepared.url or "", {}, True, None, None)

    def _check_origin(self, request: Request, url: str) -> None:
        """Check the URL that is really requested: credentials go to the connection's own origin only."""
        # A request without a scope brings its own credentials, for a URL that the connection names.
        own = request.url if request.scope is None else self.settings.base_url
        if not origin(own) or origin(url) != origin(own):
            raise ForeignURL(
                f"{request.label} would lead to {self.redact(host_of(url))}, but the connection is for "
                f"{host_of(own)}; nothing was sent. If the vendor moved, change the connection's {request.url_field}."
            )

    def _guarded(self, request: Request, action: Callable[[], Result], deadline: Deadline | None = None) -> Result:
        """Run an action of the HTTP libraries, and convert their errors to ours.

        :param deadline: the deadline of the response that the action reads.
        """
        try:
            return action()
        except _LIBRARY_ERRORS as error:
            failure = self._failure(request, error, deadline)
        # Raised outside the handler: the library's error quotes the URL and must not be chained to ours.
        raise failure

    def _failure(self, request: Request, error: Exception, deadline: Deadline | None) -> Exception:
        if isinstance(error, requests.exceptions.SSLError):
            return tls_failure(error, url=request.url, url_field=request.url_field)
        # requests raises a plain OSError for a missing certificate file.
        if isinstance(error, _UNSENDABLE) or type(error) is OSError:
            return bundle_failure() or InvalidConnection(
                f"{request.label} cannot be sent ({type(error).__name__}). Check the connection's {request.url_field}."
            )
        fault = transient_fault(
            error,
            url=request.url,
            url_field=request.url_field,
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
            deadline=deadline,
        )
        return fault if isinstance(fault, InvalidConnection) else self._unless_unsafe(request, fault)

    def _read(self, request: Request, response: requests.Response, deadline: Deadline) -> Response:
        """Read a whole body of bounded size within its deadline."""
        deadline.extend(self.settings.read_timeout * READ_TIMEOUTS_PER_BODY)
        with response:
            content = self._guarded(request, lambda: self._bounded(request, response), deadline)
        return Response(status=response.status_code, headers=response.headers, content=content)

    def _bounded(self, request: Request, response: requests.Response) -> bytes:
        body = io.BytesIO()
        for chunk in _decoded(response):
            if body.tell() + len(chunk) > LARGEST_BODY:
                raise UnexpectedResponse(
                    f"{self.settings.vendor} responded to {request.label} with more than {LARGEST_BODY >> 20} MiB, "
                    f"which was not read. Check the connection's {request.url_field}; if it is right, ask the vendor."
                )
            body.write(chunk)
        return body.getvalue()

    def _unless_unsafe(self, request: Request, fault: TransientFault) -> Exception:
        """Return the fault, which is retried, or the error for a request that must not be sent twice."""
        if request.idempotent or not fault.sent:
            return fault
        return OutcomeUnknown(
            f"{self.settings.vendor} did not confirm {request.label} ({fault}). It may have been carried "
            "out, so it was not sent again. A retry of the task sends a new request; an export that was created "
            "without a response does no harm and expires."
        )

    def _check_status(self, request: Request, response: requests.Response, deadline: Deadline) -> None:
        """Raise the error of a status other than 2xx."""
        status = response.status_code
        if 200 <= status < 300:
            return
        deadline.extend(self.settings.read_timeout)
        body = io.BytesIO()
        with response, suppress(*_LIBRARY_ERRORS):  # the status is enough for an error
            for chunk in _decoded(response):
                body.write(chunk)
                if body.tell() >= LARGEST_ERROR_BODY:
                    break
        message = find_vendor_message(body.getvalue(), redact=self.redact)
        ours = self._clock()
        theirs = http_date(response.headers.get("Date"))
        retry_after = parse_retry_after(response.headers.get("Retry-After"), now=ours if theirs is None else theirs)
        if fault := transient_status(status, vendor_message=message, retry_after=retry_after):
            if fault.limiter_pause:
                self._limiter.block_for(fault.limiter_pause)
            raise self._unless_unsafe(request, fault)
        if status < 400:
            target = self.redact(host_of(response.headers.get("Location", "")))
            raise ForeignURL(
                f"{self.settings.vendor} responded to {request.label} with a redirect to {target}, which is not "
                "followed: tokens are sent to the connection's own host only. Check the connection's "
                f"{request.url_field}."
            )
        if status == 407 and (proxy := Proxy.of(request.url)):
            raise proxy.refusal(request.url, status=status)
        raise client_error(
            vendor=self.settings.vendor, label=request.label, status=status, vendor_message=message, scope=request.scope
        )


def _decoded(response: requests.Response) -> Iterator[bytes]:
    """Yield the decoded body in chunks of a bounded size.

    urllib3 before 2.6, which the constraints of Airflow 2.11 pin, decompresses all bytes of one read at once.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise urllib3.exceptions.DecodeError("an encoding that was not requested")
    chunks = iter(lambda: response.raw.read(_READ_BYTES, decode_content=False), b"")
    return chunks if encoding in ("", "identity") else _decompressed(chunks)


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    for chunk in chunks:
        data = chunk
        while data:
            if member is None:
                # "deflate" means the zlib format, but some servers send it without the header (RFC 9110, 8.4.1.2).
                raw = data[:1] != b"\x1f" and data[0] & 0x0F != zlib.DEFLATED
                member = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
            yield member.decompress(data, _READ_BYTES)
            data = member.unconsumed_tail
            if member.eof:
                data, member = member.unused_data, None
    if member is not None:
        yield member.flush()
        if not member.eof:
            raise urllib3.exceptions.DecodeError("a compressed body that is cut off")
