# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Compares the bucket's content after the run with the expected content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3

from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance
from tests.system.cluster.arrivals import Vendors

ACCOUNTS, APPS = "isvapp/salesforce_accounts.ndjson", "productiv/apps.ndjson"


class Bucket:
    """The bucket, with the connection that the tasks use.

    :param environment: the environment variables of a worker.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        connection = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
        self._name = urlsplit(environment["ISVAPP_LAKE"]).hostname
        self._client = boto3.client(
            "s3",
            aws_access_key_id=connection["login"],
            aws_secret_access_key=connection["password"],
            endpoint_url=connection["extra"]["endpoint_url"],
            region_name=connection["extra"]["region_name"],
        )

    def sizes(self) -> dict[str, int]:
        """Return all objects with their sizes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def unfinished_uploads(self) -> list[str]:
        """Return the keys of multipart uploads that have not ended."""
        listing = self._client.list_multipart_uploads(Bucket=self._name)
        return [upload["Key"] for upload in listing.get("Uploads", ())]

    def content(self, key: str) -> bytes:
        """Read an object."""
        return bytes(self._client.get_object(Bucket=self._name, Key=key)["Body"].read())

    def export_id(self, key: str) -> str | None:
        """Return the export in an object's provenance."""
        metadata = self._client.head_object(Bucket=self._name, Key=key)["Metadata"]
        provenance = Provenance.from_text(metadata.get(METADATA_KEY.replace("_", "-"), ""))
        return None if provenance is None else provenance.export_id


def usage_key(order: Mapping[str, Any]) -> str:
    """Return the path to which the DAG writes an export."""
    (taxonomy,) = order["ids"]
    months = order["months"]
    folder = f"month={months[0]}" if len(months) == 1 else f"latest_{len(months)}_months"
    return f"isvapp/feature_usage/{taxonomy}/{folder}/usage.ndjson"


def compare(
    bucket: Bucket,
    vendors: Vendors,
    exports: Mapping[str, Mapping[str, Any]],
    *,
    accounts: list[Any],
    apps: list[Any],
) -> list[str]:
    """Compare every object byte for byte, and return the problems."""
    problems = []
    wanted = {usage_key(record["request"]) for record in exports.values()} | {ACCOUNTS, APPS}
    there = set(bucket.sizes())
    problems += [f"{key} is missing" for key in sorted(wanted - there)]
    problems += [f"{key} should not be there" for key in sorted(there - wanted)]
    problems += [f"an upload to {key} was left unfinished" for key in bucket.unfinished_uploads()]
    for key in sorted(there & wanted - {ACCOUNTS, APPS}):
        export_id = bucket.export_id(key)
        if export_id not in exports:
            problems.append(f"{key} does not say which export it holds")
        elif usage_key(exports[export_id]["request"]) != key:  # type: ignore[index]
            problems.append(f"{key} holds export {export_id}, which was ordered for another object")
        elif bucket.content(key) != vendors.export_bytes(export_id):
            problems.append(f"{key} is not what the vendor holds for export {export_id}")
    for key, rows in ((ACCOUNTS, accounts), (APPS, apps)):
        if key in there and [json.loads(line) for line in bucket.content(key).splitlines()] != rows:
            problems.append(f"{key} differs from the vendor's response")
    return problems
