# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Everything that can go wrong, as one tree without Airflow in it.

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
    │   ├── UnexpectedAnswer     HTML, nothing, or not JSON where JSON belongs
    │   ├── ContractBroken       JSON, but not what the vendor documents         permanent
    │   └── ForeignAddress       a URL leads to another host; nothing was sent   permanent
    ├── LimiterError
    │   ├── LimiterUnavailable   the shared limiter's storage does not respond
    │   └── LimiterTimeout       the queue for a request was too long
    ├── ExportError              about one export, named by export_id
    │   ├── ExportFailed         the vendor reports ERRORED                      permanent
    │   ├── ExportExpired        its file can no longer be downloaded            permanent
    │   └── ExportTimeout        still not finished at the deadline              permanent
    └── TransferError
        ├── BrokenTransfer       the connection ended before the body did
        ├── DamagedDownload      the body is not what the vendor made
        │   └── MalformedRows        a line of it is not what a row must be
        ├── AuditRefused         the result is whole, but not what was asked for
        │   ├── ExportRefused        so is the file of this export               permanent
        │   ├── CheckRefused         a check has found a reason against it
        │   │   └── ExportCheckRefused   so will it in the file of this export   permanent
        │   ├── CheckFailed          a check raised an exception of its own
        │   └── LateSnapshot         a list of today, in a run of the past       permanent
        ├── DestinationExists    something is already written there              permanent
        ├── StorageFailed        the object store or the disk refused
        └── TransferCancelled    the task was told to stop

``permanent`` says whether trying again with the same input can help. The Airflow adapters turn a permanent error into
``AirflowFailException``, so that the task fails without using up its retries.
"""

from __future__ import annotations

import copyreg
from typing import ClassVar


class ProviderError(Exception):
    """Root of every error that this package raises on its own account."""

    permanent: ClassVar[bool] = False

    def __reduce__(self) -> tuple[object, ...]:
        # An exception's own way calls the class with its positional arguments alone, and ours have keyword-only ones.
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
    """There is nothing at that id for these credentials."""


class ServiceUnavailable(ApiError):
    """The vendor gave no usable response within the bounded retries."""


class OutcomeUnknown(ApiError):
    """A request that is not safe to repeat was sent, and no clear response arrived.

    Not permanent: an export that was created unnoticed is harmless and expires.
    """


class UnexpectedAnswer(ApiError):
    """The response is not JSON of the documented kind: a gateway's HTML page, an empty body."""


API_CHANGED = "The vendor's API may have changed: look for a newer version of this provider."
"""The next step after a response that breaks the vendor's documentation."""


TEMPLATE_LIST = (
    "A template renders to text: give a JSON list ({{ ... | tojson }}), an XComArg (task.output) or a list, or set "
    "render_template_as_native_obj=True on the DAG."
)
"""The next step after a list that a template has made a text of."""
TEMPLATE_NUMBER = (
    "render_template_as_native_obj makes a number of an id of digits: give an XComArg (task.output), or a string "
    "without a template."
)
"""The next step after an id that a template has made a number of."""
TEMPLATE_NOTHING = "A template that finds nothing renders to 'None': check the task and the key of the XCom it pulls."
"""The next step after a value that a template has not found."""


class ContractBroken(ApiError):
    """The response is JSON but breaks the vendor's documentation: a field missing, an unknown export status."""

    permanent = True


class ForeignAddress(ApiError):
    """A URL or a redirect leads to another origin; nothing was sent there."""

    permanent = True


class LimiterError(ProviderError):
    """The shared request limiter could not grant a request."""


class LimiterUnavailable(LimiterError):
    """The limiter's storage does not respond. Requests are not sent unlimited instead."""


class LimiterTimeout(LimiterError):
    """A request waited for a permit longer than the bound."""


class ExportError(ProviderError):
    """About one export.

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
    """The export was not finished at the deadline; the message names the last state seen."""

    permanent = True


class TransferError(ProviderError):
    """Bytes did not get from the vendor to the destination. What was at the destination before is untouched."""


class BrokenTransfer(TransferError):
    """The connection ended before the body did."""


class DamagedDownload(TransferError):
    """The body arrived but is not what the vendor made: truncated, corrupt, or of another size than the record says."""


class MalformedRows(DamagedDownload):
    """A line of the body is not what a row must be. Where its checksums are right, the vendor has made it so."""


class AuditRefused(TransferError):
    """A result is whole and sound, but has too few rows or the wrong months. Nothing was published."""


class ExportRefused(AuditRefused):
    """The file of an export is not what was asked for, or has malformed rows. It stays so: create another export."""

    permanent = True


class CheckRefused(AuditRefused):
    """A check has found a reason against publishing a result. What was there before stays.

    :param message: with the figures and the next step.
    :param reasons: what each check that refused it said, by the check's name.
    """

    def __init__(self, message: str, *, reasons: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = reasons or {}


class ExportCheckRefused(CheckRefused, ExportRefused):
    """A check has found a reason against the rows of an export. Only another export has other rows."""

    permanent = True


class CheckFailed(AuditRefused):
    """A check raised an exception, or returned neither None nor a reason. Nothing was published."""


class LateSnapshot(AuditRefused):
    """A list describes today, and the run is one of the past. Nothing was published."""

    permanent = True


class DestinationExists(TransferError):
    """The destination is taken and may not be overwritten."""

    permanent = True


class StorageFailed(TransferError):
    """The destination could not be written."""


class TransferCancelled(TransferError):
    """The task was told to stop while bytes were moving."""
