# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""An export as the vendor's record of it, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.errors import API_CHANGED, ContractBroken


class ExportStatus(StrEnum):
    """The states that the vendor documents."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"


# What a task's XCom takes of one text of a record, and of fields that the documentation does not name.
_LONGEST_TEXT = 2000
_LONGEST_EXTRA_TEXT = 200
_MOST_EXTRAS = 20
_LONGEST_ID = 200
_BOUND = Redactor()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """One export, with the vendor's field names (endpoint "Show export details").

    All but ``id`` and ``status`` may be absent in an answer and are None then.

    :param download_url: the address of the file; it carries a token, so it is left out of the repr and of
        :meth:`details`.
    :param extra: fields that the documentation does not name, as they came.
    """

    id: str
    status: ExportStatus
    type: str | None = None
    url: str | None = None
    download_url: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    errored_at: datetime | None = None
    is_expired: bool | None = None
    download_size_compressed_bytes: int | None = None
    download_size_uncompressed_bytes: int | None = None
    error_message: str | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, repr=False)

    @classmethod
    def from_record(cls, record: object, *, redact: Redactor = _BOUND) -> Export:
        """Read a record of the API.

        :param redact: removes secrets from the texts in it, which are vendor's words.
        :raises ContractBroken: if it is no export: a field is missing or of another type, or the status is unknown.
        """
        if not isinstance(record, Mapping):
            raise ContractBroken(f"An export must be a JSON object, not {type(record).__name__}. {API_CHANGED}")
        export_id = record.get("id")
        if not isinstance(export_id, str) or not export_id:
            raise ContractBroken(f"An export came without an id. {API_CHANGED}")
        if len(export_id) > _LONGEST_ID or redact(export_id) != export_id:
            raise ContractBroken(f"An export came with an id that cannot be one: {redact(export_id)!r}. {API_CHANGED}")
        read = _Fields(export_id, record, redact)
        return cls(
            id=export_id,
            status=read.status(),
            type=read.words("type"),
            url=read.words("url"),
            download_url=read.text("download_url"),
            created_at=read.time("created_at"),
            completed_at=read.time("completed_at"),
            expires_at=read.time("expires_at"),
            errored_at=read.time("errored_at"),
            is_expired=read.flag("is_expired"),
            download_size_compressed_bytes=read.size("download_size_compressed_bytes"),
            download_size_uncompressed_bytes=read.size("download_size_uncompressed_bytes"),
            error_message=read.words("error_message"),
            extra=_undocumented(record, redact),
        )

    def details(self) -> dict[str, Any]:
        """Return the record for XCom and logs: JSON values of a bounded size, and never the URL of a file.

        An undocumented field that holds a URL is left out as well, since it might be a signed one; so is one that is
        large or nested.
        """
        known = {name: _shown(getattr(self, name)) for name in _DOCUMENTED if name != "download_url"}
        return known | {
            name: value for name, value in list(self.extra.items())[:_MOST_EXTRAS] if _is_shown(name, value)
        }


_DOCUMENTED = tuple(item.name for item in fields(Export) if item.name != "extra")


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + "…"
    return str(value) if isinstance(value, ExportStatus) else value


def _is_shown(name: str, value: Any) -> bool:
    if not isinstance(value, str | int | float | bool | None):
        return False
    return max(len(name), len(str(value))) <= _LONGEST_EXTRA_TEXT and "://" not in str(value)


def _undocumented(record: Mapping[str, Any], redact: Redactor) -> Mapping[str, Any]:
    found = {name: value for name, value in record.items() if name not in _DOCUMENTED}
    # What should be there is not known: a field with a secret is left out, the others are kept as they came.
    kept = {name: value for name, value in found.items() if redact.mask(text := f"{name} {value}") == text}
    return MappingProxyType(kept) if kept else _NOTHING


class _Fields:
    """Typed access to one record; what is wrong is said with the export's id and the field's name."""

    def __init__(self, export_id: str, record: Mapping[str, Any], redact: Redactor) -> None:
        self._export_id = export_id
        self._record = record
        self._redact = redact

    def status(self) -> ExportStatus:
        value = self._record.get("status")
        if value is None:
            raise ContractBroken(f"Export {self._export_id} came without a status. {API_CHANGED}")
        if not isinstance(value, str) or value not in set(ExportStatus):
            raise ContractBroken(
                f"Export {self._export_id} has the status {self._redact(repr(value))}, which is not documented (known "
                f"are {', '.join(ExportStatus)}). {API_CHANGED}"
            )
        return ExportStatus(value)

    def text(self, name: str) -> str | None:
        value = self._record.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def words(self, name: str) -> str | None:
        value = self.text(name)
        return None if value is None else self._redact(value)

    def flag(self, name: str) -> bool | None:
        value = self._record.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def size(self, name: str) -> int | None:
        value = self._record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63):
            raise self._wrong(name, "a number of bytes")
        return value

    def time(self, name: str) -> datetime | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            moment.astimezone(UTC)  # others will do so: 9999-12-31T23:59-01:00 has no such time
        except (ValueError, OverflowError):
            moment = None
        if moment is None:
            raise self._wrong(name, "a time in ISO 8601")
        return moment

    def _wrong(self, name: str, wanted: str) -> ContractBroken:
        # The value is not shown: in a field like download_url it would be a secret.
        return ContractBroken(f"Export {self._export_id}: the field {name!r} is not {wanted}. {API_CHANGED}")
