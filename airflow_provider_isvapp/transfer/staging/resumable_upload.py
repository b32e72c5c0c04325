# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Google Cloud Storage's resumable upload, which the last chunk publishes, and what its refusals mean.

The chunks are sent here and not by google-cloud-storage: its file object publishes what it has when an exception passes
its ``with`` (2.x), cancels at another URL than the upload's (3.17), sends no checksum with the last chunk (2.x), and
takes an upload whose last response was lost for a failure. The protocol is
https://docs.cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from google.api_core.exceptions import (
    DataLoss,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    Unauthorized,
    from_http_status,
)
from google.api_core.retry import exponential_sleep_generator
from google.auth.exceptions import GoogleAuthError, TransportError

from airflow_provider_isvapp.errors import StorageFailed
from airflow_provider_isvapp.transfer.staging.base import Watchdog, refuse_if_left_behind, storage_errors

CHUNK_UNIT = 256 * 1024
"""Every chunk but the last is a multiple of it."""

REQUEST_SECONDS = 30.0
"""The timeout of one request; those that are safe to repeat are repeated."""
CANCEL_SECONDS = 3.0
"""The same of what must not hold up the end of a task."""
# Before a chunk is sent again, doubled each time.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))

_LOG = logging.getLogger(__name__)


class ResumableUpload:
    """An upload that resumes after the last byte that the storage has, until it is stopped.

    :param transport: a ``requests`` session that authorises its requests.
    :param url: of the upload. Who knows it may write to it, so that no message shows it.
    :param uri: of the object, for messages.
    :param watchdog: notified of every byte that is acknowledged.
    """

    def __init__(self, transport: Any, url: str, uri: str, watchdog: Watchdog) -> None:
        self._transport = transport
        self._url = url
        self._uri = uri
        self._watchdog = watchdog
        self._acknowledged = 0
        self._stopped = threading.Event()

    def send(self, data: memoryview) -> None:
        """Send a chunk that is not the last, a multiple of 256 KiB.

        :raises GoogleAPICallError: if the storage refuses.
        """
        self._send(data, total=None, headers={})

    def finish(self, data: memoryview, *, crc32c: str) -> dict[str, Any]:
        """Send the last chunk, which publishes the object if it has this checksum.

        :return: the object's resource.
        """
        resource = self._send(data, self._acknowledged + len(data), {"x-goog-hash": f"crc32c={crc32c}"})
        assert resource is not None  # noqa: S101 - nothing else acknowledges the last chunk
        return resource

    def stop(self) -> None:
        """Let a thread that sends give up before its next request."""
        self._stopped.set()

    def cancel(self) -> None:
        """Drop what was sent. Google responds with a status of its own, 499."""
        self._transport.request("DELETE", self._url, timeout=CANCEL_SECONDS)

    def _send(self, data: memoryview, total: int | None, headers: Mapping[str, str]) -> dict[str, Any] | None:
        begin, end = self._acknowledged, self._acknowledged + len(data)
        waits = exponential_sleep_generator(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        in_doubt = False
        problem = "it was stopped"
        delay = 0.0
        # A stopped upload and one that its watchdog gave up send nothing more, and log nothing of it.
        while not self._stopped.wait(delay):
            refuse_if_left_behind()
            if in_doubt:
                _LOG.info("The upload to %s resumes after %s bytes: %s", self._uri, self._acknowledged, problem)
            delay = 0.0
            try:
                response = (
                    self._put(b"", "*/*", {})
                    if in_doubt
                    else self._put_rest(data[self._acknowledged - begin :], total, headers)
                )
            except (requests.ConnectionError, requests.Timeout, TransportError) as error:
                # Its text has the URL.
                problem = type(error).__name__
            else:
                problem = f"{response.status_code} {response.reason}"
                if response.status_code in (200, 201):
                    resource: dict[str, Any] = response.json()
                    return resource
                if response.status_code == 308:
                    acknowledged = _acknowledged_bytes(response)
                    if not self._acknowledged <= acknowledged <= end:
                        raise DataLoss(f"the storage has {acknowledged} bytes, not {self._acknowledged} to {end}")
                    moves = acknowledged > self._acknowledged
                    if moves:
                        self._watchdog.acknowledge()
                        self._acknowledged = acknowledged
                        waits = exponential_sleep_generator(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
                    if total is None and acknowledged == end:
                        return None
                    if moves or in_doubt:
                        in_doubt = False
                        continue
                elif response.status_code in (404, 410):
                    raise StorageFailed(
                        f"The upload to {self._uri} is gone: it was cancelled, or is older than a week. "
                        "Nothing was published."
                    )
                elif response.status_code not in _RETRIED:
                    raise from_http_status(response.status_code, _message(response))
            delay = next(waits)
            in_doubt = True
        raise StorageFailed(f"The upload to {self._uri} was given up after {self._acknowledged} bytes: {problem}.")

    def _put_rest(self, rest: memoryview, total: int | None, headers: Mapping[str, str]) -> Any:
        size = "*" if total is None else total
        if not rest:
            return self._put(b"", f"*/{size}", headers)
        return self._put(rest, f"{self._acknowledged}-{self._acknowledged + len(rest) - 1}/{size}", headers)

    def _put(self, body: bytes | memoryview, content_range: str, headers: Mapping[str, str]) -> Any:
        return self._transport.request(
            "PUT",
            self._url,
            data=body,
            headers={"Content-Range": f"bytes {content_range}", **headers},
            timeout=REQUEST_SECONDS,
        )


def _acknowledged_bytes(response: Any) -> int:
    """Return how many bytes have arrived; without a range, none has."""
    last = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("Range", ""))
    return int(last[1]) + 1 if last else 0


def reason_of(error: Exception) -> str:
    """Return Google's own message, where there is one, without the request's URL."""
    response = getattr(error, "response", None)
    return (str(error) if response is None else _message(response)).removesuffix(".")


def _message(response: Any) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text) or str(response.reason)


NO_BUCKET = "The specified bucket does not exist"
"""Google's message; its status and reason are those of a missing object."""


@contextlib.contextmanager
def google_errors(uri: str, *, reading: bool = False) -> Iterator[None]:
    """Give Google's own message without the request's URL, and say what to do about it."""
    with storage_errors(uri, reading=reading):
        try:
            yield
        except TransportError:
            raise
        except (GoogleAPICallError, GoogleAuthError) as error:
            reason = f"{type(error).__name__}: {reason_of(error)}"
            step = _next_step(error, reason)
        else:
            return
        verb = "Reading" if reading else "Writing"
        raise StorageFailed(f"{verb} {uri} failed{'' if reading else ' and published nothing'}: {reason}. {step}.")


def _next_step(error: Exception, reason: str) -> str:
    if NO_BUCKET in reason:
        return "Create the bucket, or correct the path"
    if isinstance(error, NotFound):
        return "It was deleted or replaced meanwhile: try again"
    if isinstance(error, Forbidden):
        return (
            "Grant the account what is missing, for example by the role Storage Object User "
            "(roles/storage.objectUser) on the bucket"
        )
    if isinstance(error, Unauthorized | GoogleAuthError):
        return "Check the credentials of the Google Cloud connection"
    return "Check that the storage is reachable, and that it takes what the message names"
