# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The link from a task to what it wrote, in the console of the storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_isvapp.links.stored_link import StoredLink

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination

# By the end of the endpoint's host. Compatible storages of others have hosts of their own.
_AWS_CONSOLES = {
    ".amazonaws.com.cn": "console.amazonaws.cn",
    ".us-gov-east-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".us-gov-west-1.amazonaws.com": "console.amazonaws-us-gov.com",
    ".amazonaws.com": "console.aws.amazon.com",
}
_GOOGLE = "https://storage.googleapis.com"


class WrittenObjectLink(StoredLink):
    """Leads to the object in the console of Amazon S3 or Google Cloud Storage, or to the folder of several objects.

    Other storages have no console with addresses that could be known, so there the link stays away.
    """

    name = "Written object"


def console_address(destination: Destination, *, placeholder: str | None = None) -> str | None:
    """Return the address of a place in its storage's console, if it has one.

    :param destination: that something was written to.
    :param placeholder: a part of the key in whose place several objects have something else; the address is that of the
        folder that holds them all.
    """
    if destination.fs is None:
        return None
    bucket, _, key = destination.key.partition("/")
    if placeholder is not None:
        key = key.partition(placeholder)[0].rpartition("/")[0]
        key = f"{key}/" if key else ""
    protocols = {destination.fs.protocol} if isinstance(destination.fs.protocol, str) else set(destination.fs.protocol)
    if "s3" in protocols:
        return _aws(destination.fs, bucket, key, folder=placeholder is not None)
    if "gs" in protocols:
        return _google(destination.fs, bucket, key, folder=placeholder is not None)
    return None


def _aws(fs: Any, bucket: str, key: str, *, folder: bool) -> str | None:
    from airflow_provider_isvapp.transfer.s3_client import botocore_client  # boto

    # What botocore has made of the connection, the configuration and the environment.
    endpoint = botocore_client(fs).meta
    host = urlsplit(endpoint.endpoint_url).hostname or ""
    for end, console in _AWS_CONSOLES.items():
        if host.endswith(end):
            query = {"region": endpoint.region_name, "prefix": key}
            known = urlencode({name: value for name, value in query.items() if value}, safe="/", quote_via=quote)
            return f"https://{console}/s3/{'buckets' if folder else 'object'}/{quote(bucket)}?{known}"
    return None


def _google(fs: Any, bucket: str, key: str, *, folder: bool) -> str | None:
    # The address that gcsfs sends to: an emulator has another one.
    if not str(fs.base).startswith(f"{_GOOGLE}/"):
        return None
    place = f"{quote(bucket)}/{quote(key)}"
    return f"https://console.cloud.google.com/storage/browser/{place if folder else f'_details/{place}'}"
