# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How rows are stored, and what is done about an object that exists: the same for exports and lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.exclude_fields import parse_field

OutputFormat = Literal["ndjson", "parquet"]
Compression = Literal["gzip"]
PartitionBy = Literal["reference_date"]
IfExists = Literal["overwrite", "skip", "fail"]
IfChanged = Literal["publish"]
Validate = Literal["structure", "full"]
OnDrift = Literal["report", "fail"]

Check: TypeAlias = Callable[[Any], str | None]
"""Takes a candidate and returns None, or the reason not to publish it.

See :mod:`airflow_provider_isvapp.checks`.
"""

MONTH_PLACEHOLDER = "{reference_date}"
DEFAULT_MAX_ROW_BYTES = 16 * 1024 * 1024
SNAPSHOT_PLACEHOLDER = "{snapshot_date}"


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How an export or a list is written. Every operator that writes has the same options.

    :param if_exists: what to do about an existing object: ``overwrite`` it, ``skip`` the write, or ``fail``. An object
        that already holds the same content in the same format is recognised in any case.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed. A whole export is stored as the vendor's own gzip file.
    :param partition_by: ``reference_date`` for one object per month (exports only); the path then contains
        ``{reference_date}``.
    :param if_changed: ``publish`` to compare each month with the stored one, by the digest of its rows in the manifest,
        and to publish only months whose rows have changed; their order and JSON formatting do not count. A month stored
        in another form (format, compression, excluded fields) or without a manifest that describes it is new. Needs
        ``partition_by`` and ``if_exists='overwrite'``, and writes manifests.
    :param exclude_fields: fields to leave out: a name at every depth, or a path such as ``Instances[].AppContacts``.
        Every other value keeps the vendor's bytes. A name that is neither documented nor in any row is an error.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row is compared with its documentation
        (exports only; a list always is).
    :param on_drift: what to do about rows that differ from their documentation without loss of data: ``report`` them,
        or ``fail``. For an export, ``fail`` needs ``validate='full'`` or Parquet, which parse every row.
    :param manifest: after publishing, write ``_<name>.manifest.json`` beside each object, which describes it.
    :param checks: checks that the result must pass before it is published; see :mod:`airflow_provider_isvapp.checks`.
        They parse every row and imply ``manifest``.
    :param skip_checks: the checks to skip: a name, names in a list or separated by commas, or True for all. A template
        renders to text; an empty text, ``'False'`` and ``'None'`` skip none.
    :param min_rows: refuse a result with fewer rows. None means 1 for a list; an empty export then never replaces an
        object that has rows.
    :param max_row_bytes: the longest accepted row of an export; a longer one fails the download.
    :param storage_options: further arguments for the storage's client when it creates an object.
    :param require_sizes: refuse an export whose record states no size of its file.
    """

    if_exists: IfExists = "overwrite"
    output_format: OutputFormat = "ndjson"
    compression: Compression | None = None
    partition_by: PartitionBy | None = None
    if_changed: IfChanged | None = None
    validate: Validate = "structure"
    exclude_fields: Sequence[str] = ()
    on_drift: OnDrift = "report"
    manifest: bool = False
    checks: Sequence[Check] = ()
    skip_checks: bool | str | Sequence[str] | None = False
    min_rows: int | None = None
    max_row_bytes: int = DEFAULT_MAX_ROW_BYTES
    require_sizes: bool = False
    storage_options: Mapping[str, Any] | None = None

    @classmethod
    def from_operator(cls, operator: Any) -> WriteOptions:
        """Return the options in the attributes of an operator with rendered templates.

        An option that the operator does not offer keeps its default.
        """
        known = {option.name for option in fields(cls)}
        return cls(**{name: value for name, value in vars(operator).items() if name in known})

    @property
    def storage_format(self) -> str:
        """The format of the stored rows and the level of their validation, as written in an object's provenance."""
        parts: list[str | None] = [self.output_format, self.compression, self.partition_by, self.validate]
        if self.exclude_fields:
            # The manifest lists the names; an object's metadata has too little room for them.
            names = "\n".join(sorted(self.exclude_fields))
            parts.append(f"without={sha256(names.encode()).hexdigest()[:16]}")
        return ",".join(part for part in parts if part)

    @property
    def stores_vendors_file(self) -> bool:
        """Whether the object is the gzip file of an export, byte for byte."""
        return self.compression == "gzip" and self.partition_by is None and not self.exclude_fields

    @property
    def writes_manifest(self) -> bool:
        """Whether each object gets a manifest."""
        return self.manifest or self.summarizes_rows

    @property
    def summarizes_rows(self) -> bool:
        """Whether the figures of an export's rows are computed, which parses every row."""
        return bool(self.checks) or self.if_changed is not None

    @property
    def indexes_keys(self) -> bool:
        """Whether a check looks for rows with the same key."""
        skipped = self.skipped_checks
        return any(getattr(check, "indexes_keys", False) for name, check in self.named_checks if name not in skipped)

    @property
    def named_checks(self) -> Sequence[tuple[str, Check]]:
        """Each check with the name of its function or class."""
        return [(_name_of(check), check) for check in self.checks]

    @property
    def skipped_checks(self) -> Collection[str]:
        """The names of the skipped checks.

        :raises InvalidArgument: if a name is not that of a check.
        """
        from airflow_provider_isvapp.api.isvapp.models import parse_list  # records are not needed to parse a DAG

        names = {name for name, _ in self.named_checks}
        wanted = parse_list("skip_checks", self.skip_checks)
        if isinstance(wanted, str):
            wanted = _SWITCHES.get(wanted.strip().lower(), [name.strip() for name in wanted.split(",")])
        if wanted is None or isinstance(wanted, bool):
            return names if wanted else ()
        if not isinstance(wanted, Sequence) or not all(isinstance(name, str) for name in wanted):
            raise InvalidArgument(
                f"skip_checks must be names of checks, or True for all, not {self.skip_checks!r:.100}."
            )
        if unknown := sorted(set(wanted) - names):
            known = f"they are {', '.join(sorted(names))}" if names else "there are none"
            raise InvalidArgument(f"skip_checks: {unknown[0]!r:.100} is not one of the checks: {known}.")
        return set(wanted)

    def without_audit(self) -> WriteOptions:
        """Return the options for a refused result that is kept for inspection: the same format without checks."""
        return replace(
            self, checks=(), skip_checks=False, if_exists="overwrite", if_changed=None, on_drift="report", min_rows=0
        )

    def describe_format(self) -> dict[str, Any]:
        """Return the options that determine the stored rows, as written in a manifest."""
        return {
            "output_format": self.output_format,
            "compression": self.compression,
            "partition_by": self.partition_by,
            "validate": self.validate,
            "exclude_fields": sorted(self.exclude_fields),
        }

    def describes(self, shape: Mapping[str, Any]) -> bool:
        """Whether a manifest's description of its format matches these options, regardless of ``validate``."""
        wanted = self.describe_format()
        return all(shape.get(name) == value for name, value in wanted.items() if name != "validate")

    @property
    def content_type(self) -> str:
        """The media type of the stored objects. It names the compression: clients decompress a content encoding."""
        if self.output_format == "parquet":
            return "application/vnd.apache.parquet"
        return "application/gzip" if self.compression == "gzip" else "application/x-ndjson"

    @property
    def parses_rows(self) -> bool:
        """Whether every row of an export is parsed."""
        return self.validate == "full" or self.output_format == "parquet"

    def check_for_export(self, template: str) -> None:
        """Check that each value is valid, and that the values fit together and with the path.

        :param template: the path.
        :raises InvalidArgument: naming the argument.
        """
        self._check()
        if any(parse_field(text)[-1] == "reference_date" for text in self.exclude_fields):
            raise InvalidArgument("exclude_fields: reference_date cannot be excluded: it is the month of a row.")
        if SNAPSHOT_PLACEHOLDER in template:
            raise InvalidArgument(
                f"path {template!r}: {SNAPSHOT_PLACEHOLDER} is for lists, which describe the day of their "
                f"request. An export has months: use {MONTH_PLACEHOLDER} with partition_by, or a template of the run."
            )
        if self.on_drift == "fail" and not self.parses_rows:
            raise InvalidArgument(
                "on_drift='fail' needs validate='full' or output_format='parquet': otherwise, rows are not parsed."
            )
        if (self.partition_by is not None) != (MONTH_PLACEHOLDER in template):
            raise InvalidArgument(
                f"path {template!r}: with partition_by='reference_date', it must contain {MONTH_PLACEHOLDER}; "
                "without partition_by, it must not."
            )
        if self.if_changed is not None and (self.partition_by is None or self.if_exists != "overwrite"):
            raise InvalidArgument(
                f"if_changed={self.if_changed!r} needs partition_by='reference_date' and if_exists='overwrite'. It "
                "compares the months of an export with the stored ones, and replaces those that differ."
            )
        self._check_name(template)
        self._check_fields()

    def _check_fields(self) -> None:
        for name, check in self.named_checks:
            for text in self.exclude_fields:
                if (field := parse_field(text)[-1]) in getattr(check, "needs", ()):
                    raise InvalidArgument(f"checks: {name} needs {field}, which exclude_fields removes.")

    def check_for_type(self, export_type: str | None) -> None:
        """Check that an export of a type can be written with these options.

        :raises InvalidArgument: if an option needs documented rows and the type has none.
        """
        from airflow_provider_isvapp.api.schema.isvapp import ExportType  # records are not needed to parse a DAG

        needs = "validate='full'" if self.validate == "full" else f"output_format={self.output_format!r}"
        if self.if_changed is not None:
            needs = f"if_changed={self.if_changed!r}"
        if export_type not in (None, *ExportType) and (self.parses_rows or self.if_changed is not None):
            raise InvalidArgument(
                f"{needs} needs documented rows, and the type {export_type!r:.100} has none. Write them as "
                "ndjson with validate='structure', and without if_changed."
            )
        if export_type not in (None, *ExportType):
            self._refuse_checks_of_exports(f"an export of the type {export_type!r:.100} has no documented fields")

    def _refuse_checks_of_exports(self, reason: str) -> None:
        for name, check in self.named_checks:
            if needed := getattr(check, "needs", ()):
                raise InvalidArgument(
                    f"checks: {name} needs the fields {', '.join(needed)}, and {reason}. Leave it out."
                )

    def check_for_list(self, template: str) -> None:
        """Check that each value is valid, and that a list can be written with these options.

        :param template: the path.
        :raises InvalidArgument: naming the argument.
        """
        self._check()
        for name, value, only in (
            ("partition_by", self.partition_by, None),
            ("if_changed", self.if_changed, None),
            ("validate", self.validate, "structure"),
        ):
            if value != only:
                raise InvalidArgument(
                    f"{name} must be {only!r} for a list, not {value!r}; it is an option for exports."
                )
        self._refuse_checks_of_exports("a list has no such fields")
        if MONTH_PLACEHOLDER in template:
            raise InvalidArgument(
                f"path {template!r}: {MONTH_PLACEHOLDER} is for exports, whose rows have months. A list has "
                f"{SNAPSHOT_PLACEHOLDER}, the date that it describes."
            )
        self._check_name(template)

    def _check_name(self, template: str) -> None:
        if self.compression == "gzip" and not template.endswith(".gz"):
            raise InvalidArgument(
                f"path {template!r}: compression='gzip' needs a name that ends in .gz. Spark and other readers rely "
                "on the name, and would read the compressed bytes as rows."
            )

    def _check(self) -> None:
        _check_choice("if_exists", self.if_exists, get_args(IfExists))
        _check_choice("output_format", self.output_format, get_args(OutputFormat))
        _check_choice("compression", self.compression, (None, *get_args(Compression)))
        if not isinstance(self.storage_options, Mapping | None):
            raise InvalidArgument(
                f"storage_options must be a mapping of names to values, not {type(self.storage_options).__name__}."
            )
        _check_choice("partition_by", self.partition_by, (None, *get_args(PartitionBy)))
        _check_choice("if_changed", self.if_changed, (None, *get_args(IfChanged)))
        _check_choice("validate", self.validate, get_args(Validate))
        if isinstance(self.exclude_fields, str) or not isinstance(self.exclude_fields, Sequence):
            raise InvalidArgument(f"exclude_fields must be a list of names, not {self.exclude_fields!r}.")
        for text in self.exclude_fields:
            parse_field(text)
        if isinstance(self.checks, str) or not isinstance(self.checks, Sequence) or not all(map(callable, self.checks)):
            raise InvalidArgument(
                f"checks must be a list of functions, or of checks such as MaxChange(), not {self.checks!r:.100}."
            )
        if classes := [check.__name__ for check in self.checks if isinstance(check, type)]:
            raise InvalidArgument(f"checks: {classes[0]} is a class; pass an instance: {classes[0]}().")
        _ = self.skipped_checks
        _check_choice("on_drift", self.on_drift, get_args(OnDrift))
        if self.output_format == "parquet" and self.compression is not None:
            raise InvalidArgument("compression is for ndjson: Parquet compresses its columns itself (zstd).")
        if self.output_format == "parquet" and find_spec("pyarrow") is None:
            raise InvalidArgument(
                "output_format='parquet' needs pyarrow: install it with pip install 'airflow-provider-isvapp[parquet]'."
            )
        if self.min_rows is not None and (type(self.min_rows) is not int or self.min_rows < 0):
            raise InvalidArgument(f"min_rows must be an integer >= 0, or None, not {self.min_rows!r}.")
        if type(self.max_row_bytes) is not int or self.max_row_bytes < 1:
            raise InvalidArgument(f"max_row_bytes must be an integer >= 1, not {self.max_row_bytes!r}.")


# The texts that a template renders for a checkbox of a form, or for no value.
_SWITCHES = {"true": True, "false": False, "none": False, "": False}


def _name_of(check: Check) -> str:
    """Return the name of a function, also if it is partial, or of the class of any other object."""
    found: Any = getattr(check, "func", check)
    return getattr(found, "__name__", None) or type(found).__name__


def _check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        *others, last = map(repr, choices)
        raise InvalidArgument(f"{name} must be {', '.join(others)} or {last}, not {value!r}.")
