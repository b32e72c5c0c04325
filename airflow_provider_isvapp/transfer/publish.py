# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The last steps of every write: audit what is staged, commit it, write its manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_isvapp.errors import AuditRefused
from airflow_provider_isvapp.transfer.audit import Candidate, Rule, find_problem
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.drift import DriftReport
from airflow_provider_isvapp.transfer.existing import has_rows
from airflow_provider_isvapp.transfer.manifest import staged_manifests
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import WrittenObject
from airflow_provider_isvapp.transfer.staging.base import Provenance


def audit(
    rules: Sequence[Rule],
    provenance: Provenance,
    destination: Destination,
    options: WriteOptions,
    *,
    drift: DriftReport | None = None,
) -> str | None:
    """Audit a result whose figures are all known.

    :param drift: what differs from the documentation; None if that was not looked for.
    :return: why it must not be published, if there is a reason.
    """
    # An export by month without rows makes no object, so it replaces none.
    replaces_one = options.partition_by is None
    candidate = Candidate(staged=provenance, drift=drift, replaces_rows=lambda: replaces_one and has_rows(destination))
    return find_problem(candidate, rules)


def publish(
    commit: Callable[[], Sequence[WrittenObject]],
    objects: Sequence[WrittenObject],
    *,
    rules: Sequence[Rule],
    refuse: Callable[[str], AuditRefused],
    provenance: Provenance,
    destination: Destination,
    options: WriteOptions,
    dates: Mapping[str, str | None],
    request: Mapping[str, Any] | None,
    drift: DriftReport | None,
) -> tuple[tuple[WrittenObject, ...], tuple[str, ...]]:
    """Publish objects that are staged and verified, if they pass the audit.

    :param commit: makes the objects visible, and says which: others may have appeared meanwhile, and stay.
    :param objects: as they will be.
    :param rules: what the result has to pass.
    :param refuse: makes the error of a problem that the audit finds.
    :param dates: for the manifest, with the provenance.
    :param request: for the manifest.
    :param drift: for the audit.
    :return: the published objects, and the URIs of their manifests.
    :raises AuditRefused: before anything is published.
    :raises StorageFailed: if the storage refused; the message says what is published.
    """
    if problem := audit(rules, provenance, destination, options, drift=drift):
        raise refuse(problem)
    if not options.manifest:
        return tuple(commit()), ()
    with staged_manifests(
        destination, objects, provenance=provenance, dates=dates, options=options, request=request
    ) as manifests:
        published = tuple(commit())
        return published, manifests.publish(published)
