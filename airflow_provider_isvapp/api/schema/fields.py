# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The building blocks of the vendors' data models, and the column types of Parquet and of warehouses for them.

:mod:`.isvapp` and :mod:`.productiv` hold the models. They are the only place that lists fields: validation, Parquet,
lineage, the emulator, the JSON Schemas and the data dictionary are derived from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, UnsetType

_FACTS = "facts"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a field that its type does not express.

    :param unit: unit of a number, or format of a text.
    :param absent: when the key may be missing; empty if it is required.
    :param null: when the value is null; empty if it never is.
    :param parameter: query parameter that adds the field to the response.
    :param key: whether the field is part of the object's key.
    :param personal: whether the field may hold personal data.
    :param label: whether the field only names what another field identifies.
    :param note: further remarks.
    :param place: where a request carries the field: ``body``, ``query``, ``form`` or ``header``.
    """

    unit: str = ""
    absent: str = ""
    null: str = ""
    parameter: str = ""
    key: bool = False
    personal: bool = False
    label: bool = False
    note: str = ""
    place: str = "body"


def facts(**known: Any) -> Meta:
    """Attach metadata to a field or to a type that several fields share; see :class:`Facts` for the arguments."""
    return Meta(extra={_FACTS: known})


class Object(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Base class of the vendors' JSON objects. Fields have the vendors' names.

    Decoding accepts only what is documented.
    """


# Columns of whole numbers have 64 bits.
Count: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1), facts(unit="count")]
CountText: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9]+\Z"), facts(unit="count")]
Bytes: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1), facts(unit="bytes")]
Month: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9]{4}-(0[1-9]|1[0-2])\Z"), facts(unit="YYYY-MM")]
Date: TypeAlias = Annotated[date, facts(unit="YYYY-MM-DD")]
Time: TypeAlias = Annotated[datetime, Meta(tz=True), facts(unit="ISO 8601")]
SalesforceId: TypeAlias = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9]{15}([A-Za-z0-9]{3})?\Z"), facts(unit="15 or 18 characters")
]
Identifier: TypeAlias = Annotated[str, Meta(min_length=1)]
CurrencyCode: TypeAlias = Annotated[str, facts(unit="ISO 4217")]


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """The type of a single value.

    :param json: ``string``, ``number``, ``integer``, ``boolean``, or ``any``.
    :param kind: the kind of value: ``text``, ``count text``, ``month``, ``salesforce id``, ``date``, ``time``,
        ``integer``, ``number``, ``boolean`` or ``any``.
    :param values: the documented values, if the vendor lists them.
    :param pattern: regular expression of a text, if one is documented.
    :param is_untyped: whether the vendor states no type; the value is a text, or a whole number that is stored as text.
    """

    json: str
    kind: str
    values: tuple[str, ...] = ()
    pattern: str | None = None
    is_untyped: bool = False


class ListOf(msgspec.Struct, frozen=True, kw_only=True):
    """An array."""

    items: Type


class MapOf(msgspec.Struct, frozen=True, kw_only=True):
    """An object whose keys are data.

    :param name: name of the object, if its keys are documented.
    :param keys: the documented keys; empty if any key may occur.
    """

    name: str | None
    keys: tuple[str, ...]
    values: Type


class ObjectOf(msgspec.Struct, frozen=True, kw_only=True):
    """An object with fields.

    :param tag: field whose value decides the type of the field :attr:`varies`.
    :param varies: field whose type depends on the :attr:`tag`.
    :param variants: pairs of a tag and the type that it selects.
    """

    name: str
    fields: tuple[Field, ...]
    tag: str | None = None
    varies: str | None = None
    variants: tuple[tuple[str, Type], ...] = ()

    def field(self, name: str) -> Field:
        """Return the field of this name.

        :raises KeyError: if there is none.
        """
        for item in self.fields:
            if item.name == name:
                return item
        raise KeyError(f"{self.name} has no field {name}")


Type: TypeAlias = Scalar | ListOf | MapOf | ObjectOf


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A documented field.

    :param name: the vendor's name.
    :param nullable: whether null is documented.
    :param required: whether the key must be present.
    """

    name: str
    type: Type
    nullable: bool
    required: bool
    facts: Facts = Facts()


@cache
def read_object(struct: type[Object]) -> ObjectOf:
    """Return the description of an object, with its fields in documented order."""
    from msgspec import inspect

    found = _read_type(inspect.type_info(struct))[0]
    assert isinstance(found, ObjectOf)  # noqa: S101 - a Struct is nothing else
    return found


def _read_type(info: Any) -> tuple[Type, bool, dict[str, Any]]:
    """Return a type, whether it may be null, and its metadata."""
    from msgspec import inspect

    if isinstance(info, inspect.Metadata):
        found, nullable, inner = _read_type(info.type)
        return found, nullable, inner | (info.extra or {}).get(_FACTS, {})
    if isinstance(info, inspect.UnionType):
        members = [item for item in info.types if not isinstance(item, inspect.NoneType)]
        nullable = len(members) < len(info.types)
        if len(members) == 1:
            found, _, inner = _read_type(members[0])
            return found, nullable, inner
        if all(isinstance(item, inspect.StructType) for item in members):
            return _read_variants(members), nullable, {}
        # The vendor states no type: the value is stored as text.
        return Scalar(json="string", kind="text", is_untyped=True), nullable, {}
    if isinstance(info, inspect.StructType):
        return ObjectOf(name=info.cls.__name__, fields=tuple(map(_read_field, info.fields))), False, {}
    if isinstance(info, inspect.ListType):
        return ListOf(items=_read_type(info.item_type)[0]), False, {}
    if isinstance(info, inspect.DictType):
        values = _read_type(info.value_type)[0]
        if isinstance(info.key_type, inspect.EnumType):
            keys = info.key_type.cls
            return MapOf(name=keys.__name__, keys=tuple(map(str, keys)), values=values), False, {}
        return MapOf(name=None, keys=(), values=values), False, {}
    return _read_scalar(info), False, {}


def _read_scalar(info: Any) -> Scalar:
    from msgspec import inspect

    if isinstance(info, inspect.LiteralType):
        return Scalar(json="string", kind="text", values=tuple(map(str, info.values)))
    if isinstance(info, inspect.EnumType):
        return Scalar(json="string", kind="text", values=tuple(map(str, info.cls)))
    if isinstance(info, inspect.StrType):
        kinds = {_pattern(CountText): "count text", _pattern(Month): "month", _pattern(SalesforceId): "salesforce id"}
        return Scalar(json="string", kind=kinds.get(info.pattern, "text"), pattern=info.pattern)
    scalars: dict[Any, Scalar] = {
        inspect.DateType: Scalar(json="string", kind="date"),
        inspect.DateTimeType: Scalar(json="string", kind="time"),
        inspect.IntType: Scalar(json="integer", kind="integer"),
        inspect.FloatType: Scalar(json="number", kind="number"),
        inspect.BoolType: Scalar(json="boolean", kind="boolean"),
        inspect.AnyType: Scalar(json="any", kind="any"),
    }
    return scalars[type(info)]


def _pattern(alias: Any) -> str | None:
    found: str | None = alias.__metadata__[0].pattern
    return found


def _read_field(info: Any) -> Field:
    found, nullable, known = _read_type(info.type)
    return Field(name=info.encode_name, type=found, nullable=nullable, required=info.required, facts=Facts(**known))


def _read_variants(members: list[Any]) -> ObjectOf:
    """Read a tagged union of objects in which the type of one field depends on the tag."""
    read = {item.tag: ObjectOf(name=item.cls.__name__, fields=tuple(map(_read_field, item.fields))) for item in members}
    first = next(iter(read.values()))
    (varies,) = [name.name for name in first.fields if len({item.field(name.name).type for item in read.values()}) > 1]
    tag = Field(
        name=members[0].tag_field,
        type=Scalar(json="string", kind="text", values=tuple(read)),
        nullable=False,
        required=True,
    )
    return ObjectOf(
        name=members[0].cls.__mro__[1].__name__,
        fields=(*first.fields, tag),
        tag=tag.name,
        varies=varies,
        variants=tuple((kind, item.field(varies).type) for kind, item in read.items()),
    )


@cache
def response_object(struct: type[Object], parameters: frozenset[str]) -> type[Object]:
    """Return the object as the response to a request has it.

    :param parameters: query parameters of the request. A field that needs one of them is required with it, and not
        part of the object without it.
    """
    names = {item.name: item.encode_name for item in msgspec.structs.fields(struct)}
    described = {item.name: item for item in read_object(struct).fields}
    members: list[Any] = []
    for item in msgspec.structs.fields(struct):
        needs = described[names[item.name]].facts.parameter
        if not needs and not item.required:
            members.append((item.name, item.type, msgspec.field(name=item.encode_name, default=item.default)))
        elif not needs or needs in parameters:
            present = item.type if item.required else _without_unset(item.type)
            members.append((item.name, present, msgspec.field(name=item.encode_name)))
    found = msgspec.defstruct(struct.__name__, members, bases=(Object,), kw_only=True)
    assert issubclass(found, Object)  # noqa: S101 - for the type checker
    return found


def _without_unset(annotation: Any) -> Any:
    if hasattr(annotation, "__metadata__"):
        return Annotated[(_without_unset(annotation.__origin__), *annotation.__metadata__)]
    kept = [item for item in annotation.__args__ if item is not UnsetType]
    found = kept[0]
    for item in kept[1:]:
        found |= item
    return found


def objects_in(root: ObjectOf) -> Iterator[ObjectOf | MapOf]:
    """Yield an object and all objects nested in it once each, including maps with documented keys."""
    seen: set[str] = set()

    def walk(found: Type) -> Iterator[ObjectOf | MapOf]:
        if isinstance(found, ListOf):
            yield from walk(found.items)
        elif isinstance(found, MapOf):
            if found.name is not None and found.name not in seen:
                seen.add(found.name)
                yield found
            yield from walk(found.values)
        elif isinstance(found, ObjectOf) and found.name not in seen:
            seen.add(found.name)
            yield found
            for item in found.fields:
                yield from walk(item.type)
            for _, variant in found.variants:
                yield from walk(variant)

    yield from walk(root)


def documented_paths(struct: type[Object]) -> Collection[str]:
    """Return the path of every documented field, as in ``Instances[].AppContacts``; ``*`` is any key of a map."""
    found: dict[str, None] = {}

    def walk(kind: Type, path: str) -> None:
        if isinstance(kind, ListOf):
            walk(kind.items, f"{path}[]")
        elif isinstance(kind, MapOf):
            for key in kind.keys or ("*",):
                found[f"{path}.{key}"] = None
                walk(kind.values, f"{path}.{key}")
        elif isinstance(kind, ObjectOf):
            for item in kind.fields:
                inner = f"{path}.{item.name}" if path else item.name
                found[inner] = None
                walk(item.type, inner)
            for _, variant in kind.variants:
                walk(variant, f"{path}.{kind.varies}")

    walk(read_object(struct), "")
    return tuple(found)


OTHER_FIELDS = "other_fields"
"""The Parquet column that holds all undocumented fields of a row as one JSON object."""


class Dialect(StrEnum):
    """Systems that spell column types in their own way."""

    PARQUET = "Parquet"
    DUCKDB = "DuckDB"
    SNOWFLAKE = "Snowflake"
    BIGQUERY = "BigQuery"


# The names are in the order of the dialects.
_SCALARS = {
    "text": ("string", "VARCHAR", "VARCHAR", "STRING"),
    "date": ("date", "DATE", "DATE", "DATE"),
    "time": ("timestamp", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_TZ", "TIMESTAMP"),
    "integer": ("int64", "BIGINT", "NUMBER(19,0)", "INT64"),
    "number": ("double", "DOUBLE", "FLOAT", "FLOAT64"),
    "boolean": ("boolean", "BOOLEAN", "BOOLEAN", "BOOL"),
    "any": ("string", "VARCHAR", "VARIANT", "JSON"),
}
# A month becomes the date of its first day, and a count in a string becomes a number.
_STORED_AS = {"month": "date", "count text": "integer", "salesforce id": "text"}

_LIST = ("list<{}>", "{}[]", "ARRAY({})", "ARRAY<{}>")
_MAP = ("map<string, {}>", "MAP(VARCHAR, {})", "MAP(VARCHAR, {})", "ARRAY<STRUCT<key STRING, value {}>>")
_OBJECT = ("struct<{}>", "STRUCT({})", "OBJECT({})", "STRUCT<{}>")
_MEMBER = ("{}: {}", '"{}" {}', '"{}" {}', "`{}` {}")


def stored_kind(kind: Scalar) -> str:
    """Return the kind of value that the column of a scalar holds."""
    return _STORED_AS.get(kind.kind, kind.kind)


def members_of(kind: ObjectOf) -> tuple[tuple[str, Type], ...]:
    """Return the columns nested in an object's column. A field whose type varies has one for each type."""
    values = ObjectOf(
        name=f"{kind.name}.{kind.varies}",
        fields=tuple(Field(name=tag, type=value, nullable=True, required=False) for tag, value in kind.variants),
    )
    return tuple((item.name, values if item.name == kind.varies else item.type) for item in kind.fields)


def column_type(kind: Type, dialect: Dialect) -> str:
    """Return the name of a column type in a dialect."""
    place = list(Dialect).index(dialect)
    if isinstance(kind, Scalar):
        return _SCALARS[stored_kind(kind)][place]
    if isinstance(kind, ListOf):
        return _LIST[place].format(column_type(kind.items, dialect))
    if isinstance(kind, MapOf):
        return _MAP[place].format(column_type(kind.values, dialect))
    members = (_MEMBER[place].format(name, column_type(inner, dialect)) for name, inner in members_of(kind))
    return _OBJECT[place].format(", ".join(members))


def lineage_fields(
    struct: type[Object], output_format: str = "ndjson", *, excluded: Collection[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Return the name and the type of each top-level field of a row, as lineage shows them.

    :param output_format: ``ndjson``, whose types are JSON's, or ``parquet``, whose columns have other types.
    :param excluded: the names of fields that are not stored.
    """
    fields = [item for item in read_object(struct).fields if item.name not in excluded]
    if output_format == "ndjson":
        return tuple((item.name, _json_type(item.type)) for item in fields)
    typed = ((item.name, column_type(item.type, Dialect.PARQUET).partition("<")[0]) for item in fields)
    return (*typed, (OTHER_FIELDS, "string"))


def _json_type(kind: Type) -> str:
    return kind.json if isinstance(kind, Scalar) else "array" if isinstance(kind, ListOf) else "object"
