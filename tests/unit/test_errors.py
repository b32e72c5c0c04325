# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Errors cross processes: the scheduler, the triggerer and pytest-xdist pickle them."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.errors import CheckFailed, ExportError, ProviderError, RequestRefused

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ProviderError)]


def build(kind: type[ProviderError]) -> ProviderError:
    if issubclass(kind, RequestRefused):
        return kind("what happened", status=403, vendor_message="no")
    if issubclass(kind, ExportError):
        return kind("what happened", export_id="e-1")
    if issubclass(kind, CheckFailed):
        return kind("what happened", reasons={"MaxChange": "too few"})
    return kind("what happened")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_a_round_trip(kind: type[ProviderError]) -> None:
    error = build(kind)
    error.add_note("seen in a test")

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == "what happened"
        assert vars(again) == vars(error)


def test_every_error_of_the_tree_is_tried() -> None:
    assert len(CLASSES) >= 28
