# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a trigger tells the task about an export: written here, and read here.

An event is JSON of a bounded size in Airflow's database. It holds the export's record without its download URL, or the
name and the message of one of our errors. What is read may be anything: another version may have written it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ContractBroken, ExportError, ProviderError, RequestRefused

# Messages quote a vendor's words, which are cut long before this.
_LONGEST_MESSAGE = 4000
_LONGEST_DESCRIPTION = 200


def ready_event(export: Export) -> dict[str, Any]:
    """Build the event for an export that can be downloaded."""
    return {"export_id": export.id, "export": export.details(), "seen_at": datetime.now(UTC).isoformat()}


def failure_event(export_id: str, error: ProviderError) -> dict[str, Any]:
    """Build the event for a wait that ended without an export."""
    return {
        "export_id": export_id,
        "error": type(error).__name__,
        "message": _cut(str(error), _LONGEST_MESSAGE),
        "status": getattr(error, "status", None),
    }


def read_event(event: Any, *, export_id: str) -> dict[str, Any]:
    """Take the export's details out of an event.

    :return: the details of the export, which is ready.
    :raises ProviderError: the error that the trigger met; or, if this is no event of ours about this export, an error
        that says so: a task must not succeed because of a message that it does not understand.
    """
    match event:
        case {"export_id": str(about), "export": {**record}} if about == export_id:
            with suppress(ContractBroken):
                export = Export.from_record(record)
                if export.id == export_id and export.status is ExportStatus.COMPLETED:
                    return export.details()
        case {"export_id": str(about), "error": str(name), "message": str(message)} if about == export_id:
            raise _rebuilt(name, _cut(message, _LONGEST_MESSAGE), export_id=export_id, status=event.get("status"))
    raise ProviderError(
        f"The trigger that waited for export {export_id} resumed the task with an event that this version does not "
        f"understand ({_kind(event)}). Clear the task to poll the export again; if this lasts, check that workers "
        "and triggerers have the same version of this provider."
    )


def export_id_of(event: Any) -> str:
    """Take the export's id out of an event.

    It is not among the deferral's arguments, because ``dag.test()`` of Airflow 3.3 loses those.
    """
    match event:
        case {"export_id": str(export_id)}:
            return export_id
    return "unknown"


def seen_at(event: Any) -> datetime:
    """Take the time when the export was seen to be ready out of an event; now, if there is none."""
    match event:
        case {"seen_at": str(text)}:
            with suppress(ValueError):
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is not None:
                    return moment
    return datetime.now(UTC)


def _rebuilt(name: str, message: str, *, export_id: str, status: object) -> ProviderError:
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
        return ProviderError(message)
    if issubclass(kind, ExportError):
        return kind(message, export_id=export_id)
    if issubclass(kind, RequestRefused):
        return kind(message, status=status if isinstance(status, int) else 0)
    return kind(message)


def _kind(event: Any) -> str:
    """Describe an event by its shape: its content might be anything."""
    if isinstance(event, dict):
        return _cut(f"fields {', '.join(sorted(map(str, event))) or 'none'}", _LONGEST_DESCRIPTION)
    return "no content" if event is None else type(event).__name__


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"
