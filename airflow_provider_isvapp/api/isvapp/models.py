# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""ISVapp's records and requests as typed, checked values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import msgspec

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.api.responses import as_flag, as_size, as_time, is_documented_time, shape_of
from airflow_provider_isvapp.api.schema.isvapp import Aggregation, ExportStatus, ExportType, TimeframeKeyword
from airflow_provider_isvapp.errors import (
    API_CHANGED,
    TEMPLATE_LIST,
    TEMPLATE_NOTHING,
    TEMPLATE_NUMBER,
    ContractBroken,
    InvalidArgument,
)


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account behind the credentials (endpoint "account").

    :param id: the vendor's id; a string, also where the vendor sends a number.
    :param extra: fields that the documentation does not name.
    """

    id: str
    company_name: str | None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def from_record(cls, record: object, *, redact: Redactor) -> Account:
        """Read the record of an account.

        :param redact: removes secrets from its texts.
        """
        if not isinstance(record, Mapping) or record.get("id") is None:
            raise ContractBroken(f"ISVapp responded with an account without an id. {API_CHANGED}")
        name = record.get("company_name")
        return cls(
            id=redact(str(record["id"])),
            company_name=None if name is None else redact(str(name)),
            extra=MappingProxyType({key: value for key, value in record.items() if key not in ("id", "company_name")}),
        )


OnUndocumented: TypeAlias = Callable[[str, str], object]
"""Called with the name of a field in an undocumented form, and a sentence about how it is read."""
_Value = TypeVar("_Value")

# Limits of a record in XCom: the length of one text, and undocumented fields.
_LONGEST_TEXT = 2000
_LONGEST_EXTRA_TEXT = 200
_MOST_EXTRAS = 20
_LONGEST_ID = 200
_BOUND = Redactor()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """One export, with the vendor's field names (endpoint "Show export details").

    Fields that are absent in the response are None.

    :param status: a documented one; if the vendor sends none or another one, the one that the other fields imply.
    :param download_url: the URL of the file; it carries a token, so the repr and :meth:`details` omit it.
    :param extra: undocumented fields, as sent.
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

    @property
    def states_sizes(self) -> bool:
        """Whether the record has a size to compare the file with."""
        return (self.download_size_compressed_bytes, self.download_size_uncompressed_bytes) != (None, None)

    @classmethod
    def from_record(
        cls, record: object, *, redact: Redactor = _BOUND, on_undocumented: OnUndocumented = lambda *_: None
    ) -> Export:
        """Read a record of the API.

        A value of another JSON type than documented is read if it is unambiguous.

        :param redact: removes secrets from its texts.
        :param on_undocumented: called for each field in an undocumented form.
        :raises ContractBroken: if it has no id, or a field cannot be read.
        """
        if not isinstance(record, Mapping):
            raise ContractBroken(f"An export must be a JSON object, not {type(record).__name__}. {API_CHANGED}")
        sent_id = record.get("id")
        export_id = str(sent_id) if isinstance(sent_id, int) and not isinstance(sent_id, bool) else sent_id
        if not isinstance(export_id, str) or not export_id.strip():
            raise ContractBroken(f"An export came without an id ({shape_of(sent_id)}). {API_CHANGED}")
        if len(export_id) > _LONGEST_ID or redact(export_id) != export_id:
            raise ContractBroken(f"An export came with an id that cannot be one: {redact(export_id)!r}. {API_CHANGED}")
        read = _Fields(export_id, record, redact, on_undocumented)
        if export_id != sent_id:
            read.report_undocumented("id", "a string", export_id)
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
            error_message=read.message("error_message"),
            extra=_undocumented(record, redact),
        )

    def details(self) -> dict[str, Any]:
        """Return the record for XCom and logs: JSON values of a bounded size, without the download URL.

        Undocumented fields that are large, nested or hold a URL, which may be signed, are omitted as well.
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
    # A masked value could be misread, so an undocumented field with a secret is omitted instead.
    kept = {name: value for name, value in found.items() if redact.mask(text := f"{name} {value}") == text}
    return MappingProxyType(kept) if kept else _NOTHING


class _Fields:
    """Typed access to one record; errors name the export's id and the field."""

    def __init__(
        self, export_id: str, record: Mapping[str, Any], redact: Redactor, on_undocumented: OnUndocumented
    ) -> None:
        self._export_id = export_id
        self._record = record
        self._redact = redact
        self._on_undocumented = on_undocumented

    def status(self) -> ExportStatus:
        value = self._record.get("status")
        if value is not None and not isinstance(value, str):
            raise self._wrong("status", f"one of {', '.join(ExportStatus)}")
        word = (value or "").strip().upper()
        if word in set(ExportStatus):
            if word != value:
                self.report_undocumented("status", f"one of {', '.join(ExportStatus)}", word)
            return ExportStatus(word)
        if self._record.get("errored_at"):
            status, reason = ExportStatus.ERRORED, "it has errored_at"
        elif self._record.get("completed_at") and self._record.get("download_url"):
            status, reason = ExportStatus.COMPLETED, "it has completed_at and download_url"
        else:
            status, reason = ExportStatus.PENDING, "it has neither errored_at nor completed_at with download_url"
        sent = f"the status {self._redact(repr(value))}, which is not documented" if word else "no status"
        self._on_undocumented(
            "status", f"Export {self._export_id} has {sent}; it is taken for {status}, since {reason}. {API_CHANGED}"
        )
        return status

    def text(self, name: str) -> str | None:
        value = self._present(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def words(self, name: str) -> str | None:
        value = self.text(name)
        return None if value is None else self._redact(value)

    def message(self, name: str) -> str | None:
        value = self._present(name)
        if value is None or isinstance(value, str):
            return self.words(name)
        message = self._redact(json.dumps(value))
        self.report_undocumented(name, "a string", "its JSON")
        return message

    def flag(self, name: str) -> bool | None:
        return self._read(name, as_flag, "true or false", lambda value: isinstance(value, bool))

    def size(self, name: str) -> int | None:
        return self._read(name, as_size, "a size in bytes", lambda value: isinstance(value, int))

    def time(self, name: str) -> datetime | None:
        return self._read(name, as_time, "a time in ISO 8601", is_documented_time)

    def report_undocumented(self, name: str, wanted: str, read: object) -> None:
        """Report a value that was read in an undocumented form."""
        self._on_undocumented(
            name,
            f"Export {self._export_id}: the field {name!r} is {shape_of(self._record.get(name))} and not {wanted}, as "
            f"documented; it is read as {read}.",
        )

    def _present(self, name: str) -> Any:
        value = self._record.get(name)
        if isinstance(value, str) and not value.strip():
            self.report_undocumented(name, "null", "null")
            return None
        return value

    def _read(
        self,
        name: str,
        convert: Callable[[object], _Value | None],
        wanted: str,
        is_documented: Callable[[object], bool],
    ) -> _Value | None:
        value = self._present(name)
        if value is None:
            return None
        read = convert(value)
        if read is None:
            raise self._wrong(name, wanted)
        if not is_documented(value):
            self.report_undocumented(name, wanted, read)
        return read

    def _wrong(self, name: str, wanted: str) -> ContractBroken:
        # The value is not shown: that of download_url is a secret.
        shape = shape_of(self._record.get(name))
        return ContractBroken(
            f"Export {self._export_id}: the field {name!r} is {shape} and not {wanted}. {API_CHANGED}"
        )


_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_SALESFORCE_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_SELECTIONS = ("taxonomy_ids", "taxonomy_level_ids", "taxonomy_item_ids")
_OWN_FIELDS = {"type", "aggregation", "timeframe", "salesforce_account_ids", *_SELECTIONS}


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A valid request for an export, created by :meth:`checked`."""

    timeframe: str
    selection: str | None
    selected_ids: tuple[str, ...]
    salesforce_account_ids: tuple[str, ...] | None
    export_type: str
    aggregation: str
    extra_request: Mapping[str, Any] = msgspec.field(default_factory=lambda: _NOTHING)

    @classmethod
    def checked(
        cls,
        *,
        timeframe: str,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM,
        aggregation: str = Aggregation.MONTHLY,
        extra_request: Mapping[str, Any] | None = None,
    ) -> ExportRequest:
        """Check the arguments.

        :param timeframe: a month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``.
        :param taxonomy_ids: export all items of these taxonomies. Exactly one of the three id lists is needed.
        :param taxonomy_level_ids: export all items of these taxonomy levels.
        :param taxonomy_item_ids: export these items.
        :param salesforce_account_ids: limit the rows to these accounts (ids of 15 or 18 characters).
        :param extra_request: further fields of the request, sent as they are. With it, even an empty one, undocumented
            types and aggregations are allowed; such a type needs none of the id lists.
        :raises InvalidArgument: naming the argument that is wrong.
        """
        is_open = extra_request is not None
        checked_type = _choice("export_type", ExportType, export_type, is_open=is_open)
        lists = dict(zip(_SELECTIONS, (taxonomy_ids, taxonomy_level_ids, taxonomy_item_ids), strict=True))
        given = [name for name, value in lists.items() if value is not None]
        if len(given) > 1 or (not given and checked_type in set(ExportType)):
            what = "none was" if not given else f"{' and '.join(given)} were"
            raise InvalidArgument(f"Exactly one of {', '.join(_SELECTIONS)} is needed; {what} given.")
        accounts = None
        if salesforce_account_ids is not None:
            accounts = _ids("salesforce_account_ids", salesforce_account_ids)
            for account in accounts:
                if not _SALESFORCE_ID.fullmatch(account):
                    raise InvalidArgument(
                        f"salesforce_account_ids: {account!r} is not a Salesforce id; it needs 15 or 18 letters "
                        "and digits."
                    )
        return cls(
            timeframe=_timeframe(timeframe),
            selection=given[0] if given else None,
            selected_ids=_ids(given[0], lists[given[0]]) if given else (),
            salesforce_account_ids=accounts,
            export_type=checked_type,
            aggregation=_choice("aggregation", Aggregation, aggregation, is_open=is_open),
            extra_request=_further_fields(extra_request or {}),
        )

    @property
    def is_documented(self) -> bool:
        """Whether the vendor documents the rows of this export."""
        return self.export_type in set(ExportType) and self.aggregation in set(Aggregation)

    def payload(self) -> dict[str, object]:
        """Return the JSON body, with the further fields unchanged."""
        body: dict[str, object] = {
            "type": str(self.export_type),
            "aggregation": str(self.aggregation),
            "timeframe": self.timeframe,
        }
        if self.selection is not None:
            body[self.selection] = list(self.selected_ids)
        if self.salesforce_account_ids is not None:
            body["salesforce_account_ids"] = list(self.salesforce_account_ids)
        return body | dict(self.extra_request)


def _further_fields(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise InvalidArgument(f"extra_request: must be a mapping of names to JSON values, not {value!r:.100}.")
    if own := sorted(_OWN_FIELDS & set(value)):
        raise InvalidArgument(f"extra_request: {own[0]!r} has its own argument; use that.")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"extra_request: cannot be sent as JSON ({type(error).__name__}).") from None
    return MappingProxyType(dict(value))


def _timeframe(value: Any) -> str:
    if isinstance(value, str) and (value in set(TimeframeKeyword) or _MONTH.fullmatch(value)):
        return str(value)
    step = f" {TEMPLATE_NOTHING}" if value == "None" else ""
    raise InvalidArgument(
        f"timeframe: {value!r} is neither a month (YYYY-MM, as in 2024-02) nor one of {', '.join(TimeframeKeyword)}."
        + step
    )


def _choice(name: str, choices: type[StrEnum], value: Any, *, is_open: bool) -> str:
    if isinstance(value, str) and value in set(choices):
        return str(choices(value))
    if is_open and isinstance(value, str) and value.strip():
        return value
    raise InvalidArgument(
        f"{name}: {value!r:.100} is not one of {', '.join(choices)}. If the vendor now offers it, set "
        "extra_request as well ({} is enough)."
    )


def parse_list(name: str, value: Any) -> Any:
    """Read a JSON list from a string, as a template renders it; return anything else unchanged.

    :param name: the argument's, for the message.
    :raises InvalidArgument: for a string that begins like a list but is not JSON.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{name}: {value!r:.100} is not a JSON list. {TEMPLATE_LIST}") from None


def _ids(name: str, value: Any) -> tuple[str, ...]:
    value = parse_list(name, value)
    # A string is a sequence of strings as well, and would be sent as a list of letters.
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        step = TEMPLATE_NUMBER if isinstance(value, int | float) else TEMPLATE_LIST
        step = TEMPLATE_NOTHING if value == "None" else step
        raise InvalidArgument(f"{name}: must be a list of ids, not {type(value).__name__} {value!r:.100}. {step}")
    if not value:
        raise InvalidArgument(f"{name}: the list is empty.")
    for number, item in enumerate(value):
        if not isinstance(item, str) or not item.strip():
            step = f" {TEMPLATE_NUMBER}" if isinstance(item, int | float) and not isinstance(item, bool) else ""
            raise InvalidArgument(f"{name}: element {number} must be a non-empty string, not {item!r:.100}.{step}")
        if item != item.strip():
            raise InvalidArgument(f"{name}: element {number} has white space around it: {item!r}.")
    if len(set(value)) != len(value):
        doubled = next(item for item in value if value.count(item) > 1)
        raise InvalidArgument(f"{name}: {doubled!r} is listed twice.")
    return tuple(value)
