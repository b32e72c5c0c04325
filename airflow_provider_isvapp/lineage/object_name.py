# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How the world calls an object that was written: without the connection that this Airflow reaches it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination

_S3 = frozenset({"s3", "s3a"})
_GOOGLE = frozenset({"gs", "gcs"})
_AZURE = frozenset({"abfs", "abfss", "az"})

# What Airflow would take for a query, a fragment or an encoded letter is encoded, and so is what is not ASCII.
_SAFE = "/=:@!$&'()*+,;~[]"


@dataclass(frozen=True, kw_only=True)
class ObjectName:
    """The names of one object.

    :param namespace: of its storage, as OpenLineage's naming conventions have it.
    :param name: of the object therein, likewise.
    :param uri: for Airflow's assets.
    """

    namespace: str
    name: str
    uri: str


def name_of(destination: Destination) -> ObjectName:
    """Return the names of the object at a destination. Asks nobody."""
    if destination.fs is None:
        return ObjectName(namespace="file", name=destination.key, uri=f"file://{_encoded(destination.key)}")
    protocol = destination.fs.protocol
    protocols = {protocol} if isinstance(protocol, str) else set(protocol)
    bucket, _, key = destination.key.partition("/")
    if protocols & _AZURE:
        return _in_azure(destination.fs, bucket, key)
    scheme = "s3" if protocols & _S3 else "gs" if protocols & _GOOGLE else min(protocols)
    return ObjectName(namespace=f"{scheme}://{bucket}", name=key, uri=f"{scheme}://{bucket}/{_encoded(key)}")


def _in_azure(fs: Any, container: str, key: str) -> ObjectName:
    account = f"{fs.account_name}.dfs.core.windows.net"
    return ObjectName(
        namespace=f"abfss://{container}@{account}",
        name=key,
        # Airflow 2.11 drops what stands before an @ in an asset's address.
        uri=f"abfss://{account}/{container}/{_encoded(key)}",
    )


def _encoded(key: str) -> str:
    return quote(key, safe=_SAFE)
