# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Faults that tests and demos inject, and the queue of pending faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal

from airflow_provider_isvapp.emulator.data import Restatement
from airflow_provider_isvapp.emulator.http import Endpoint


class FaultKind(StrEnum):
    """The kinds of fault; the comment says which fields of :class:`Fault` each one reads."""

    STATUS = "status"  # status, message (the vendor's error; none: an empty body), retry_after, retry_after_form
    HTML = "html"  # status: a gateway's page
    REDIRECT = "redirect"  # status, location
    RESET = "reset"  # at: the connection is reset in the body; none: before the response
    DELAY = "delay"  # seconds, up_to (random between both), at (in the body; none: before the response)
    SLOW = "slow"  # bytes_per_second
    CUT = "cut"  # at: the connection ends there, although the headers promised more
    EDIT = "edit"  # replace, remove: fields of the JSON response
    TRUNCATE = "truncate"  # at: the file ends there, and the headers agree
    FLIP = "flip"  # at: one bit of the file; at -8 the gzip trailer's CRC, at -4 its length
    APPEND = "append"  # message: bytes after the end of the file
    FILE_CHANGES = "file_changes"  # from now on the export has another file
    EXPORT_ERRORS = "export_errors"  # message: the export ends ERRORED
    EXPORT_EXPIRES = "export_expires"  # the export expires before its time
    TOKEN_EXPIRES = "token_expires"  # the access token is refused before its time  # noqa: S105
    MONTH_INCOMPLETE = "month_incomplete"  # month (none: any): not complete yet
    MONTH_MISSING = "month_missing"  # month: the export has no rows for it
    MONTH_RESTATED = "month_restated"  # month, restatement: its rows are not those of earlier exports


DAMAGE = frozenset({FaultKind.TRUNCATE, FaultKind.FLIP, FaultKind.APPEND})
"""Kinds that damage the file of an export, in the order in which they were injected."""
_FILE = frozenset({Endpoint.DOWNLOAD})
_EXPORT = frozenset({Endpoint.CREATE_EXPORT, Endpoint.SHOW_EXPORT, Endpoint.DOWNLOAD})
_CREATE = frozenset({Endpoint.CREATE_EXPORT})
_ENDPOINTS: Mapping[FaultKind, frozenset[Endpoint]] = {
    **dict.fromkeys(DAMAGE, _FILE),
    FaultKind.FILE_CHANGES: _EXPORT - _CREATE,
    FaultKind.EXPORT_ERRORS: _EXPORT - _FILE,
    FaultKind.EXPORT_EXPIRES: _EXPORT,
    FaultKind.TOKEN_EXPIRES: frozenset(Endpoint) - {Endpoint.TOKEN, Endpoint.PRODUCTIV_TOKEN, Endpoint.UNKNOWN},
    FaultKind.MONTH_INCOMPLETE: _CREATE,
    FaultKind.MONTH_MISSING: _CREATE,
    FaultKind.MONTH_RESTATED: _CREATE,
}
REPLACES_ENDPOINT = frozenset({FaultKind.STATUS, FaultKind.HTML, FaultKind.REDIRECT})
"""Kinds that replace the response of the endpoint. Later faults stay pending."""

_DEFAULT_STATUS = {FaultKind.STATUS: 503, FaultKind.HTML: 502, FaultKind.REDIRECT: 302}


_REQUIRED = (
    (FaultKind.REDIRECT, "location"),
    (FaultKind.SLOW, "bytes_per_second"),
    (FaultKind.EXPORT_ERRORS, "message"),
    (FaultKind.APPEND, "message"),
    (FaultKind.MONTH_MISSING, "month"),
    (FaultKind.MONTH_RESTATED, "month"),
    (FaultKind.MONTH_RESTATED, "restatement"),
)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("times", "after", "status"), int),
    **dict.fromkeys(("retry_after", "at", "seconds", "up_to", "bytes_per_second"), (int, float)),
    "replace": Mapping,
    "remove": (tuple, list),
}
"""The types of the fields that are not strings: JSON and the command line are untyped."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the next requests to an endpoint.

    :param endpoint: the name of an endpoint, or ``*`` for all endpoints that the kind applies to.
    :param kind: the kind of fault.
    :param times: the number of affected requests; None for all.
    :param after: how many matching requests to skip first.
    :param export_id: only requests about this export.
    :param at: a place in the body: a fraction (float from 0 to 1) or a byte (int; negative from the end).
    :param location: the target of a redirect; a path stays on the emulator.
    :param retry_after: seconds, sent as they are or, with ``retry_after_form="date"``, as an HTTP date.
    :param replace: fields of the response and their new values. ``data`` and ``success`` are ISVapp's envelope,
        all other names those of the record in it (of each record, in a list).
    :param remove: fields that are left out of the response.
    :param restatement: what changes in the month, a :class:`Restatement`. One fault makes one change; several add up.
    :raises ValueError: naming what is wrong.
    """

    endpoint: str
    kind: str
    times: int | None = 1
    after: int = 0
    export_id: str | None = None
    status: int | None = None
    message: str | None = None
    location: str | None = None
    retry_after: float | None = None
    retry_after_form: Literal["seconds", "date"] = "seconds"
    at: float | int | None = None
    seconds: float = 0.0
    up_to: float | None = None
    bytes_per_second: float | None = None
    replace: Mapping[str, Any] = field(default_factory=dict, hash=False)
    remove: tuple[str, ...] = ()
    month: str | None = None
    restatement: str | None = None

    def __post_init__(self) -> None:
        """Reject a fault that would never happen: a test would pass without it."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and "None" in str(item.type):
                continue
            if not isinstance(value, _TYPES.get(item.name, str)) or isinstance(value, bool):
                raise ValueError(f"{item.name} cannot be {value!r}")  # noqa: TRY004 - one error for all bad faults
        if self.kind not in list(FaultKind):
            raise ValueError(f"unknown kind of fault {self.kind!r}; there are {', '.join(FaultKind)}")
        if self.endpoint != "*" and self.endpoint not in list(Endpoint):
            raise ValueError(f"unknown endpoint {self.endpoint!r}; there are *, {', '.join(Endpoint)}")
        allowed = _ENDPOINTS.get(FaultKind(self.kind))
        if allowed is not None and self.endpoint not in {"*", *allowed}:
            raise ValueError(f"{self.kind} happens at {', '.join(sorted(allowed))}, not at {self.endpoint}")
        if (self.times is not None and self.times < 1) or self.after < 0:
            raise ValueError("times must be at least 1 (none: without end), and after at least 0")
        if self.retry_after_form not in ("seconds", "date"):
            raise ValueError("retry_after_form must be seconds or date")
        if self.bytes_per_second is not None and self.bytes_per_second <= 0:
            raise ValueError("bytes_per_second must be more than 0")
        for kind, name in _REQUIRED:
            if self.kind == kind and getattr(self, name) is None:
                raise ValueError(f"{self.kind} needs {name}")
        if self.restatement is not None and self.restatement not in list(Restatement):
            raise ValueError(f"unknown restatement {self.restatement!r}; there are {', '.join(Restatement)}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Fault:
        """Build a fault from JSON.

        :raises ValueError: naming the wrong field.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"a fault has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        missing = sorted({"endpoint", "kind"} - set(values))
        if missing:
            raise ValueError(f"a fault needs {' and '.join(missing)}")
        return cls(**values)

    @classmethod
    def from_text(cls, text: str) -> Fault:
        """Build a fault from ``endpoint=download,kind=cut,at=0.5`` or from a JSON object.

        :raises ValueError: naming the wrong field.
        """
        if text.lstrip().startswith("{"):
            return cls.from_mapping(json.loads(text))
        values: dict[str, Any] = {}
        for pair in text.split(","):
            name, _, value = (part.strip() for part in pair.partition("="))
            if value == "forever":
                values[name] = None
            else:
                values[name] = json.loads(value) if name in _TYPES else value
        return cls.from_mapping(values)

    @property
    def response_status(self) -> int:
        """The HTTP status of a kind that replaces the response of the endpoint."""
        return self.status if self.status is not None else _DEFAULT_STATUS[FaultKind(self.kind)]

    def position(self, length: int) -> int:
        """Return the offset of ``at`` in a body of ``length`` bytes; the middle by default."""
        at = 0.5 if self.at is None else self.at
        offset = int(length * at) if isinstance(at, float) else length + at if at < 0 else at
        return min(max(offset, 0), length)

    def matches(self, endpoint: Endpoint, export_id: str | None, month: str | None) -> bool:
        """Whether this fault applies to a request."""
        if self.endpoint not in ("*", endpoint):
            return False
        if endpoint not in _ENDPOINTS.get(FaultKind(self.kind), frozenset(Endpoint)):
            return False
        if self.kind == FaultKind.MONTH_INCOMPLETE and (month is None or self.month not in (None, month)):
            return False
        if self.export_id is None or self.export_id == export_id:
            return True
        return self.kind == FaultKind.EDIT and endpoint is Endpoint.LIST_EXPORTS


@dataclass
class _Pending:
    fault: Fault
    skip: int
    left: int | None


class Faults:
    """The pending faults, in the order of injection. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []

    def inject(self, fault: Fault) -> None:
        """Add a fault, which applies from the next request on."""
        with self._lock:
            self._pending.append(_Pending(fault, fault.after, fault.times))

    def take(self, endpoint: Endpoint, *, export_id: str | None, month: str | None) -> tuple[Fault, ...]:
        """Return the faults of a request, and count them as done."""
        taken = []
        with self._lock:
            for pending in self._pending:
                if not pending.fault.matches(endpoint, export_id, month):
                    continue
                if pending.skip:
                    pending.skip -= 1
                    continue
                taken.append(pending.fault)
                if pending.left is not None:
                    pending.left -= 1
                if pending.fault.kind in REPLACES_ENDPOINT:
                    break
            self._pending = [pending for pending in self._pending if pending.left != 0]
        return tuple(taken)

    def pending(self) -> list[tuple[Fault, int | None]]:
        """Return the pending faults and how often each still applies; None is without end."""
        with self._lock:
            return [(pending.fault, pending.left) for pending in self._pending]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._pending.clear()
