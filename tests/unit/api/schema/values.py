# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Any value that the model allows, drawn by hypothesis from the model itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from airflow_provider_isvapp.api.schema.fields import ListOf, MapOf, ObjectOf, Scalar, Type

_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "count text": st.integers(0, 2**63 - 1).map(str),
    "month": st.tuples(st.integers(1, 9999), st.integers(1, 12)).map(lambda parts: "{:04d}-{:02d}".format(*parts)),
    "date": st.dates().map(lambda day: day.isoformat()),
    # As msgspec writes it: without a fraction for whole seconds.
    "time": st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
    "integer": st.integers(0, 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "any": st.none() | st.booleans() | st.text(),
}


def values_of(kind: Type) -> st.SearchStrategy[Any]:
    """Draw JSON values of a type, with and without the keys that may be absent."""
    if isinstance(kind, ListOf):
        return st.lists(values_of(kind.items), max_size=3)
    if isinstance(kind, MapOf):
        keys = st.sampled_from(kind.keys) if kind.keys else st.text()
        return st.dictionaries(keys, values_of(kind.values), max_size=2)
    if isinstance(kind, ObjectOf):
        if kind.variants:
            return st.sampled_from(kind.variants).flatmap(
                lambda variant: _object(kind, {kind.tag: st.just(variant[0]), kind.varies: values_of(variant[1])})
            )
        return _object(kind, {})
    return _scalar(kind)


def _object(kind: ObjectOf, decided: dict[str | None, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {}
    for item in kind.fields:
        value = decided[item.name] if item.name in decided else values_of(item.type)
        drawn[item.name] = st.none() | value if item.nullable else value
    required = {item.name: drawn[item.name] for item in kind.fields if item.required}
    optional = {item.name: drawn[item.name] for item in kind.fields if not item.required}
    return st.fixed_dictionaries(required, optional=optional)


def _scalar(kind: Scalar) -> st.SearchStrategy[Any]:
    if kind.values:
        return st.sampled_from(kind.values)
    if kind.is_untyped:
        return st.text() | st.integers(0, 2**63 - 1)
    if kind.kind in ("text", "salesforce id"):
        return st.text(min_size=1) if kind.pattern is None else st.from_regex(kind.pattern)
    return _SCALARS[kind.kind]
