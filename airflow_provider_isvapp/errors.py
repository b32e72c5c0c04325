# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The exceptions of this package, as one tree that does not depend on Airflow.

::

    ProviderError
    ├── InvalidConnection        a connection's field is wrong or missing        permanent
    ├── InvalidArgument          an argument is wrong; nothing was sent          permanent
    ├── ApiError
    │   ├── RequestRefused       the vendor responded 4xx, with its message      permanent
    │   │   ├── AuthenticationRefused   401, or the token endpoint refused
    │   │   ├── PermissionRefused       403: a scope is missing
    │   │   └── NotFound                404
    │   ├── ServiceUnavailable   429, 5xx, resets or timeouts outlasted the retries
    │   ├── OutcomeUnknown       a create was sent, and its outcome is not known
    │   ├── UnexpectedResponse   HTML, nothing, or not JSON where JSON belongs
    │   ├── ContractBroken       JSON, but not what the vendor documents         permanent
    │   └── ForeignURL           a URL leads to another host; nothing was sent   permanent
    ├── LimiterError
    │   ├── LimiterUnavailable   the shared limiter's storage does not respond
    │   └── LimiterTimeout       the queue for a request was too long
    ├── ExportError              about one export, named by export_id
    │   ├── ExportFailed         the vendor reports ERRORED                      permanent
    │   ├── ExportExpired        its file can no longer be downloaded            permanent
    │   └── ExportTimeout        not completed at the deadline                   permanent
    └── TransferError
        ├── BrokenTransfer       the connection ended before the body did
        ├── DamagedDownload      the body is truncated or corrupt
        │   └── MalformedRows        a line is not a valid row
        ├── AuditRefused         the result is intact, but may not be published
        │   ├── ExportRefused        an export's file, which will not change     permanent
        │   ├── CheckFailed          a check found a problem
        │   │   └── ExportCheckFailed    the same for an export's file           permanent
        │   ├── CheckError           a check raised, or returned no valid result
        │   └── LateSnapshot         a list of today, in a run of the past       permanent
        ├── DestinationExists    the destination exists                          permanent
        ├── StorageFailed        the object store or the disk refused
        └── TransferCancelled    the task was stopped

``permanent`` is True if a retry with the same input cannot help. The Airflow adapters turn a permanent error into
``AirflowFailException``, and ``ExportTimeout`` into ``AirflowSensorTimeout``: both fail the task without using up its
retries.
"""

from __future__ import annotations

import copyreg
from typing import ClassVar


class ProviderError(Exception):
    """Base class of all exceptions of this package."""

    permanent: ClassVar[bool] = False

    def __reduce__(self) -> tuple[object, ...]:
        # Exception.__reduce__ passes only positional arguments to the class, and some classes here have keyword-only
        # ones.
        return (copyreg.__newobj__, (type(self), *self.args), vars(self))  # type: ignore[attr-defined]


class InvalidConnection(ProviderError):
    """A field of the Airflow connection is wrong or missing; the message names the field."""

    permanent = True


class InvalidArgument(ProviderError, ValueError):
    """An argument is wrong; the message names it. Nothing was sent or written."""

    permanent = True


class ApiError(ProviderError):
    """A request to a vendor failed."""


class RequestRefused(ApiError):
    """The vendor refused a request and will refuse it again.

    :param message: what happened, with the vendor's message and the next step.
    :param status: the HTTP status of the refusal.
    :param vendor_message: the vendor's own message, empty if there was none.
    """

    permanent = True

    def __init__(self, message: str, *, status: int, vendor_message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.vendor_message = vendor_message


class AuthenticationRefused(RequestRefused):
    """The credentials were not accepted."""


class PermissionRefused(RequestRefused):
    """The credentials are good but lack the scope."""


class NotFound(RequestRefused):
    """Nothing with that id is visible to these credentials."""


class ServiceUnavailable(ApiError):
    """The vendor gave no usable response within the allowed retries."""


class OutcomeUnknown(ApiError):
    """A request that is not safe to repeat was sent, and no clear response arrived.

    Not permanent: an export that was created unnoticed is harmless and expires.
    """


class UnexpectedResponse(ApiError):
    """The response is not JSON of the documented kind: a gateway's HTML page, an empty body."""


API_CHANGED = "The vendor's API may have changed: look for a newer version of this provider."
"""The next step after a response that breaks the vendor's documentation."""


TEMPLATE_LIST = (
    "A template renders to text: give a JSON list ({{ ... | tojson }}), an XComArg (task.output) or a list, or set "
    "render_template_as_native_obj=True on the DAG."
)
"""The next step for a list that a template has rendered to text."""
TEMPLATE_NUMBER = (
    "render_template_as_native_obj turns an id of digits into a number: give an XComArg (task.output), or a string "
    "without a template."
)
"""The next step for an id that a template has rendered to a number."""
TEMPLATE_NOTHING = "A template that finds nothing renders to 'None': check the task and the key of the XCom it pulls."
"""The next step for a value that a template has not found."""


class ContractBroken(ApiError):
    """The response is JSON but breaks the vendor's documentation: a field missing, an unknown export status."""

    permanent = True


class ForeignURL(ApiError):
    """A URL or a redirect leads to another origin; nothing was sent there."""

    permanent = True


class LimiterError(ProviderError):
    """The shared request limiter could not grant a request."""


class LimiterUnavailable(LimiterError):
    """The limiter's storage does not respond. No request is sent without a permit."""


class LimiterTimeout(LimiterError):
    """A request waited too long for a permit."""


class ExportError(ProviderError):
    """An error about one export.

    :param message: what happened and the next step.
    :param export_id: the vendor's id of the export.
    """

    def __init__(self, message: str, *, export_id: str) -> None:
        super().__init__(message)
        self.export_id = export_id


class ExportFailed(ExportError):
    """The vendor reports that the export errored."""

    permanent = True


class ExportExpired(ExportError):
    """The export's file expired; a new export is needed."""

    permanent = True


class ExportTimeout(ExportError):
    """The export did not complete by the deadline; the message names the last state seen."""

    permanent = True


class TransferError(ProviderError):
    """A transfer from the vendor to the destination failed.

    Each object at the destination is whole. If the last step failed, which publishes the objects one after the other
    and then their manifests, some may be new; the message says so. After any other error, none has changed.
    """


class BrokenTransfer(TransferError):
    """The connection ended before the body did."""


class DamagedDownload(TransferError):
    """The body arrived, but is truncated, corrupt, or of another size than the record states."""


class MalformedRows(DamagedDownload):
    """A line of the body is not a valid row. If the checksums match, the vendor produced it."""


class AuditRefused(TransferError):
    """A result is intact, but a rule or a check did not let it be published. The existing object stays."""


class ExportRefused(AuditRefused):
    """An export's file does not match the request, or has malformed rows. It will not change: create another export."""

    permanent = True


class CheckFailed(AuditRefused):
    """A check found a problem in a result. The existing object stays.

    :param message: the figures and the next step.
    :param reasons: the reason of each check that failed, by the check's name.
    """

    def __init__(self, message: str, *, reasons: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = reasons or {}


class ExportCheckFailed(CheckFailed, ExportRefused):
    """A check found a problem in the rows of an export. Only another export can have other rows."""

    permanent = True


class CheckError(AuditRefused):
    """A check raised an exception, or returned neither None nor a reason. Nothing was published."""


class LateSnapshot(AuditRefused):
    """A list describes today, but the run belongs to the past. Nothing was published."""

    permanent = True


class DestinationExists(TransferError):
    """The destination exists and may not be overwritten."""

    permanent = True


class StorageFailed(TransferError):
    """The destination could not be written."""


class TransferCancelled(TransferError):
    """The task was stopped during a transfer."""
