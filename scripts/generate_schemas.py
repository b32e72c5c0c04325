# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Write what is derived from the model of both vendors: the JSON Schemas of the package, and the data dictionary."""

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
    """Return every file with its content."""
    files = {DICTIONARY: dictionary()}
    for vendor, (_, module) in VENDORS.items():
        for struct in (*module.OBJECTS, *(ROWS if module is productiv else ())):
            schema = json.dumps(json_schema(struct), indent=2, ensure_ascii=False) + "\n"
            files[SCHEMAS / vendor / f"{struct.__name__}.json"] = schema
    return files


def json_schema(struct: type[Object]) -> dict[str, Any]:
    """Return a schema that accepts further fields, which the vendors may add."""
    schema = msgspec.json.schema(struct)
    definitions = schema["$defs"]
    described = {found.name: found for found in objects_in(read_object(struct)) if isinstance(found, ObjectOf)}
    for name, definition in definitions.items():
        definition.pop("additionalProperties", None)
        for item in described[name].fields if name in described else ():
            if text := words(item.facts):
                definition["properties"][item.name]["description"] = text
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **portable(schema)}


def portable(value: Any) -> Any:
    """Spell patterns as ECMA-262 does, which JSON Schema asks for."""
    if isinstance(value, dict):
        return {
            name: inner.replace(r"\A", "^").replace(r"\Z", "$") if name == "pattern" else portable(inner)
            for name, inner in value.items()
        }
    return [portable(item) for item in value] if isinstance(value, list) else value


def words(facts: Facts) -> str:
    """Say what is known of a field."""
    known = (
        facts.unit,
        f"absent {facts.absent}" if facts.absent else "",
        f"null {facts.null}" if facts.null else "",
        facts.note,
        "personal data" if facts.personal else "",
    )
    return "; ".join(filter(None, known))


def dictionary() -> str:
    """Return the page."""
    lines = [
        "# Data dictionary",
        "",
        "Every object and field that the vendors document. `make schemas` writes this page, and the JSON Schemas",
        "(2020-12) in the package's folder `airflow_provider_isvapp/schemas/`, from the model in",
        "`airflow_provider_isvapp/api/schema/`.",
        "",
        "A column has this type where the rows are written as Parquet. A field that is not documented is in the column",
        "`other_fields`, as JSON. Counts are 64-bit integers, other numbers are doubles; ndjson keeps the vendor's",
        "digits.",
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
        kinds = ", ".join(f"`{tag}`: {type_word(variant)}" for tag, variant in owner.variants)
        types = ["by FieldType", *(["a column for each kind"] * len(WAREHOUSES))]
        notes.append(kinds)
    else:
        types = [type_word(kind), *(f"`{short(kind, dialect)}`" for dialect in WAREHOUSES)]
    cells = (f"`{name}`", types[0], facts.unit, facts.null, facts.absent, *types[1:], "; ".join(notes))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def type_word(kind: Type) -> str:
    """Spell a type of JSON."""
    if isinstance(kind, ListOf):
        return f"array of {type_word(kind.items)}"
    if isinstance(kind, MapOf):
        return f"object [{kind.name}](#{kind.name.lower()})" if kind.name else f"map of {type_word(kind.values)}"
    if isinstance(kind, ObjectOf):
        return f"[{kind.name}](#{kind.name.lower()})"
    return "string holding an integer" if kind.kind == "count text" else kind.json


def short(kind: Type, dialect: Dialect) -> str:
    """Spell a column's type without what is in an object, which has a table of its own."""
    if isinstance(kind, Scalar):
        return column_type(kind, dialect)
    if isinstance(kind, ListOf):
        inner = short(kind.items, dialect)
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
