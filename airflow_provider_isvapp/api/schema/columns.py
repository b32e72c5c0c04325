# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The type of a documented field as a column: in Parquet, and in the warehouses that load it."""

from __future__ import annotations

from enum import StrEnum

from airflow_provider_isvapp.api.schema.fields import Field, ListOf, MapOf, Object, ObjectOf, Scalar, Type, read_object

OTHER_FIELDS = "other_fields"
"""The column of Parquet that holds, as one JSON object, what is not documented."""


class Dialect(StrEnum):
    """Whose names of types are used."""

    PARQUET = "Parquet"
    DUCKDB = "DuckDB"
    SNOWFLAKE = "Snowflake"
    BIGQUERY = "BigQuery"


# In the order of the dialects.
_SCALARS = {
    "text": ("string", "VARCHAR", "VARCHAR", "STRING"),
    "date": ("date", "DATE", "DATE", "DATE"),
    "time": ("timestamp", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_TZ", "TIMESTAMP"),
    "integer": ("int64", "BIGINT", "NUMBER(19,0)", "INT64"),
    "number": ("double", "DOUBLE", "FLOAT", "FLOAT64"),
    "boolean": ("boolean", "BOOLEAN", "BOOLEAN", "BOOL"),
    "any": ("string", "VARCHAR", "VARIANT", "JSON"),
}
# A month is the first of its days, and a count is a number however the vendor writes it.
_STORED_AS = {"month": "date", "count text": "integer", "salesforce id": "text"}

_LIST = ("list<{}>", "{}[]", "ARRAY({})", "ARRAY<{}>")
_MAP = ("map<string, {}>", "MAP(VARCHAR, {})", "MAP(VARCHAR, {})", "ARRAY<STRUCT<key STRING, value {}>>")
_OBJECT = ("struct<{}>", "STRUCT({})", "OBJECT({})", "STRUCT<{}>")
_MEMBER = ("{}: {}", '"{}" {}', '"{}" {}', "`{}` {}")


def stored_kind(kind: Scalar) -> str:
    """Return the kind of value that a column holds for a scalar."""
    return _STORED_AS.get(kind.kind, kind.kind)


def members_of(kind: ObjectOf) -> tuple[tuple[str, Type], ...]:
    """Return the columns within an object's column: of a value that varies, one for each kind of value."""
    values = ObjectOf(
        name=f"{kind.name}.{kind.varies}",
        fields=tuple(Field(name=tag, type=value, nullable=True, required=False) for tag, value in kind.variants),
    )
    return tuple((item.name, values if item.name == kind.varies else item.type) for item in kind.fields)


def column_type(kind: Type, dialect: Dialect) -> str:
    """Spell a type."""
    place = list(Dialect).index(dialect)
    if isinstance(kind, Scalar):
        return _SCALARS[stored_kind(kind)][place]
    if isinstance(kind, ListOf):
        return _LIST[place].format(column_type(kind.items, dialect))
    if isinstance(kind, MapOf):
        return _MAP[place].format(column_type(kind.values, dialect))
    members = (_MEMBER[place].format(name, column_type(inner, dialect)) for name, inner in members_of(kind))
    return _OBJECT[place].format(", ".join(members))


def lineage_fields(struct: type[Object], output_format: str = "ndjson") -> tuple[tuple[str, str], ...]:
    """Return the name and the type of each top-level field of a row, as lineage shows them.

    :param output_format: ``ndjson``, whose types are JSON's, or ``parquet``, whose columns have types of their own.
    """
    fields = read_object(struct).fields
    if output_format == "ndjson":
        return tuple((item.name, _json_word(item.type)) for item in fields)
    typed = ((item.name, column_type(item.type, Dialect.PARQUET).partition("<")[0]) for item in fields)
    return (*typed, (OTHER_FIELDS, "string"))


def _json_word(kind: Type) -> str:
    return kind.json if isinstance(kind, Scalar) else "array" if isinstance(kind, ListOf) else "object"
