# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Generate the JSON Schemas of the package and the data dictionary from the models of both vendors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from airflow_provider_isvapp.api.schema import isvapp, productiv
from airflow_provider_isvapp.api.schema.fields import (
    Dialect,
    Facts,
    ListOf,
    MapOf,
    Object,
    ObjectOf,
    Scalar,
    Type,
    column_type,
    objects_in,
    read_object,
)

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = Path("airflow_provider_isvapp/schemas")
DICTIONARY = Path("docs/data-dictionary.md")
VENDORS: dict[str, tuple[str, ModuleType]] = {"isvapp": ("ISVapp", isvapp), "productiv": ("Productiv", productiv)}
ROWS: tuple[type[Object], ...] = (productiv.AppSummary, productiv.AppDetails)
WAREHOUSES = (Dialect.DUCKDB, Dialect.SNOWFLAKE, Dialect.BIGQUERY)


def generated() -> dict[Path, str]:
    """Return the content of every generated file by its path."""
    files = {DICTIONARY: dictionary()}
    for vendor, (_, module) in VENDORS.items():
        for struct in (*module.OBJECTS, *(ROWS if module is productiv else ())):
            schema = json.dumps(json_schema(struct), indent=2, ensure_ascii=False) + "\n"
            files[SCHEMAS / vendor / f"{struct.__name__}.json"] = schema
    return files


def json_schema(struct: type[Object]) -> dict[str, Any]:
    """Return a schema that also accepts fields that the vendors may add later."""
    schema = msgspec.json.schema(struct)
    definitions = schema["$defs"]
    described = {found.name: found for found in objects_in(read_object(struct)) if isinstance(found, ObjectOf)}
    for name, definition in definitions.items():
        definition.pop("additionalProperties", None)
        for item in described[name].fields if name in described else ():
            if text := describe(item.facts):
                definition["properties"][item.name]["description"] = text
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **portable(schema)}


def portable(value: Any) -> Any:
    """Convert patterns to the syntax of ECMA-262, which JSON Schema requires."""
    if isinstance(value, dict):
        return {
            name: inner.replace(r"\A", "^").replace(r"\Z", "$") if name == "pattern" else portable(inner)
            for name, inner in value.items()
        }
    return [portable(item) for item in value] if isinstance(value, list) else value


def describe(facts: Facts) -> str:
    """Return the description of a field."""
    known = (
        facts.unit,
        f"absent {facts.absent}" if facts.absent else "",
        f"null {facts.null}" if facts.null else "",
        facts.note,
        "personal data" if facts.personal else "",
    )
    return "; ".join(filter(None, known))


def dictionary() -> str:
    """Return the page of the data dictionary."""
    lines = [
        "# Data dictionary",
        "",
        "This page lists every object and field that the vendors document. `make schemas` generates it from the model",
        "in `airflow_provider_isvapp/api/schema/`, together with the JSON Schemas (2020-12) in",
        "`airflow_provider_isvapp/schemas/`.",
        "",
        "The types of DuckDB, Snowflake and BigQuery are those of columns loaded from Parquet. Counts are 64-bit",
        "integers, and other numbers are doubles; ndjson keeps the vendor's digits. The Parquet column `other_fields`",
        "holds all undocumented fields as JSON.",
        "",
    ]
    for name, module in VENDORS.values():
        lines += [f"## {name}", ""]
        done: set[str] = set()
        for struct in (*module.OBJECTS, *(ROWS if module is productiv else ())):
            for found in objects_in(read_object(struct)):
                if found.name is not None and found.name not in done:
                    done.add(found.name)
                    lines += table_of(found)
    return "\n".join(lines).rstrip() + "\n"


def table_of(found: ObjectOf | MapOf) -> list[str]:
    heading = [
        f"### {found.name}",
        "",
        f"| field | type | unit or format | null | absent | {' | '.join(WAREHOUSES)} | |",
        f"| {' | '.join(['---'] * (6 + len(WAREHOUSES)))} |",
    ]
    if isinstance(found, MapOf):
        rows = [row(key, found.values, Facts(absent="unless it is the best source")) for key in found.keys]
    else:
        rows = [row(item.name, item.type, item.facts, found) for item in found.fields]
    return [*heading, *rows, ""]


def row(name: str, kind: Type, facts: Facts, owner: ObjectOf | None = None) -> str:
    notes = [text for text, known in (("key", facts.key), ("personal data", facts.personal)) if known]
    notes += [facts.note] if facts.note else []
    notes += [f"in the {facts.place}"] if facts.place != "body" else []
    if isinstance(kind, Scalar) and kind.values:
        notes.append(", ".join(f"`{value}`" if value else "(empty)" for value in kind.values))
    if owner is not None and owner.varies == name:
        kinds = ", ".join(f"`{tag}`: {json_type(variant)}" for tag, variant in owner.variants)
        types = ["by FieldType", *(["a column for each kind"] * len(WAREHOUSES))]
        notes.append(kinds)
    else:
        types = [json_type(kind), *(f"`{flat_column_type(kind, dialect)}`" for dialect in WAREHOUSES)]
    cells = (f"`{name}`", types[0], facts.unit, facts.null, facts.absent, *types[1:], "; ".join(notes))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def json_type(kind: Type) -> str:
    """Return the name of a JSON type."""
    if isinstance(kind, ListOf):
        return f"array of {json_type(kind.items)}"
    if isinstance(kind, MapOf):
        return f"object [{kind.name}](#{kind.name.lower()})" if kind.name else f"map of {json_type(kind.values)}"
    if isinstance(kind, ObjectOf):
        return f"[{kind.name}](#{kind.name.lower()})"
    return "string holding an integer" if kind.kind == "count text" else kind.json


def flat_column_type(kind: Type, dialect: Dialect) -> str:
    """Return a column type without the members of objects, which have separate tables."""
    if isinstance(kind, Scalar):
        return column_type(kind, dialect)
    if isinstance(kind, ListOf):
        inner = flat_column_type(kind.items, dialect)
        return (
            f"{inner}[]"
            if dialect is Dialect.DUCKDB
            else column_type(ListOf(items=_TEXT), dialect).replace(column_type(_TEXT, dialect), inner)
        )
    return column_type(kind, dialect).partition("(")[0].partition("<")[0]


_TEXT = Scalar(json="string", kind="text")


def main() -> int:
    for path, content in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
