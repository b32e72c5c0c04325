# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which failures another attempt may cure (429, 5xx, broken connections), and how long to wait before it."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable

import requests
import tenacity
import urllib3.exceptions

from airflow_provider_isvapp.api.network import Deadline, Proxy, is_final, tunnel_status
from airflow_provider_isvapp.api.responses import http_date
from airflow_provider_isvapp.errors import InvalidConnection

# A vendor or a proxy may ask for any pause. After a 429 the shared limit grants no permit for up to LONGEST_PAUSE, to
# this task included. Apart from that, a task waits at most RETRY_AFTER_CAP between two attempts, so that a 503 with
# a Retry-After of an hour fails the task within minutes.
LONGEST_PAUSE = 300.0
RETRY_AFTER_CAP = 120.0
# Without a Retry-After, the vendor's window (requests per second) has to pass before the next request.
PAUSE_AFTER_429 = 1.0
BACKOFF_FIRST = 1.0
BACKOFF_CAP = 30.0

log = logging.getLogger(__name__)


class TransientFault(Exception):
    """An attempt failed, and another one may succeed. Never leaves ``api/``.

    :param reason: what happened, without any URL in it.
    :param sent: whether the vendor may have acted on the request.
    :param retry_after: the response's ``Retry-After`` in seconds, if it had one.
    :param limiter_pause: seconds for which no process that shares the limit may send a request.
    :param advice: the next step if it lasts; by default, to check the connection's URL and the vendor's status.
    """

    def __init__(
        self,
        reason: str,
        *,
        sent: bool,
        retry_after: float | None = None,
        limiter_pause: float = 0.0,
        advice: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.sent = sent
        self.retry_after = retry_after
        self.limiter_pause = limiter_pause
        self.advice = advice


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Read a ``Retry-After`` header: seconds or an HTTP date (RFC 9110, 10.2.3).

    :param now: the vendor's time in seconds since the epoch, which a date refers to.
    :return: seconds to wait, between 0 and :data:`LONGEST_PAUSE`; None without a valid value.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        moment = http_date(text)
        if moment is None:
            return None
        seconds = moment - now
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def transient_status(status: int, *, vendor_message: str, retry_after: float | None) -> TransientFault | None:
    """Build the fault for an HTTP status that another attempt may cure: 429, 5xx and undefined ones; None for others.

    :param retry_after: see :func:`parse_retry_after`.
    """
    if status == 429:
        return TransientFault(
            "429, too many requests",
            sent=False,
            retry_after=retry_after,
            limiter_pause=max(PAUSE_AFTER_429, retry_after or 0.0),
            advice="Look for what uses the account as well and does not share this limit: another program, or a "
            "machine with another rate_limit_storage.",
        )
    if 300 <= status < 500:
        return None
    reason = f"status {status}: {vendor_message}" if vendor_message else f"status {status}"
    return TransientFault(reason, sent=True, retry_after=retry_after)


def transient_fault(
    error: Exception,
    *,
    url: str,
    url_field: str,
    connect_timeout: float,
    read_timeout: float,
    deadline: Deadline | None,
) -> TransientFault | InvalidConnection:
    """Describe a connection error without quoting a URL.

    The messages of requests and urllib3 quote the path, and a download's path carries a token.

    :param url_field: the connection's field that decides the URL, for messages.
    :param deadline: the deadline of the response, if it has begun.
    :return: the fault; or a permanent error, if a proxy refuses the request.
    """
    cause = _innermost(error)
    proxy = Proxy.of(url)
    not_connected = isinstance(cause, urllib3.exceptions.NameResolutionError | urllib3.exceptions.NewConnectionError)
    if proxy is not None and (not_connected or isinstance(error, requests.exceptions.ProxyError)):
        status = tunnel_status(cause)
        if status is not None and is_final(status):
            return proxy.refusal(url, status=status)
        reason = _os_reason(cause) if status is None else f"status {status}"
        return TransientFault(f"the {proxy} did not connect ({reason})", sent=False, advice=proxy.advice)
    if isinstance(error, requests.ConnectTimeout):
        return TransientFault(f"no connection within {connect_timeout:g} s", sent=False)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return TransientFault(
            f"no connection ({_os_reason(cause)})",
            sent=False,
            advice=f"Check the connection's {url_field}; if it is right, check the DNS of this machine.",
        )
    if not_connected:
        return TransientFault(f"no connection ({_os_reason(cause)})", sent=False)
    if isinstance(error, requests.ReadTimeout) or isinstance(cause, urllib3.exceptions.ReadTimeoutError | TimeoutError):
        if deadline is not None and not deadline.remaining():
            return TransientFault(f"no whole response within {deadline.seconds:g} s", sent=True)
        return TransientFault(f"no response within {read_timeout:g} s", sent=True)
    return TransientFault(f"the connection broke ({_os_reason(cause)})", sent=True)


def _innermost(error: BaseException) -> BaseException:
    """Return the root cause nested in urllib3's errors (MaxRetryError.reason, ProtocolError.args[1])."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _os_reason(cause: BaseException) -> str:
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "the host name is unknown"
    original = cause.__cause__ or cause.__context__ or cause
    if isinstance(original, OSError) and original.strerror:
        return original.strerror.lower()
    if isinstance(cause, http.client.RemoteDisconnected):
        return "closed without a response"
    return type(cause).__name__


def retrying(*, attempts: int, what: str, sleep: Callable[[float], None]) -> tenacity.Retrying:
    """Build the bounded retry of one request.

    The backoff is exponential with jitter, so that tasks that failed together do not retry together. A longer
    ``Retry-After`` replaces it; a shorter one does not, as it would use up all attempts at once.
    """
    backoff = tenacity.wait_exponential_jitter(initial=BACKOFF_FIRST, max=BACKOFF_CAP)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, TransientFault) and fault.retry_after is not None:
            return max(min(fault.retry_after, RETRY_AFTER_CAP), backoff(state))
        return backoff(state)

    def log_retry(state: tenacity.RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        log.warning(
            "Requesting %s failed: %s; attempt %d of %d in %.1f s",
            what,
            fault,
            state.attempt_number + 1,
            attempts,
            pause,
        )

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientFault),
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait,
        sleep=sleep,
        before_sleep=log_retry,
        reraise=True,
    )
