# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From an operator's ``path`` to a destination, checked before anything is requested or written."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.version_compat import ObjectStoragePath, has_file_system

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination

PathArgument: TypeAlias = ObjectStoragePath | str

# The extra of this package that brings the file system of a scheme.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}


def destination_of(path: object) -> Destination:
    """Understand a path without touching the storage.

    :param path: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute local path.
    :raises InvalidArgument: if it names no object, or is on a storage that this Airflow does not know.
    """
    from airflow_provider_isvapp.transfer.destination import open_destination  # only a running task needs it

    text = str(path) if isinstance(path, ObjectStoragePath) else _checked_text(path)
    scheme = text.partition("://")[0] if "://" in text else "file"
    problem = _no_file_system(text, scheme)
    # What an ObjectStoragePath of an unknown scheme does depends on Airflow's version, so it is made afterwards.
    if has_file_system(scheme):
        storage_path = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        try:
            storage_path.fs  # noqa: B018 (imports and opens the file system)
        except ImportError:
            pass  # a provider can be there without the library that it needs for this
        else:
            return open_destination(storage_path)
    raise problem


def _checked_text(path: object) -> str:
    if not isinstance(path, str) or not path.strip():
        raise InvalidArgument(f"path: must be a URI, an absolute local path or an ObjectStoragePath, not {path!r}.")
    scheme, separator, rest = path.partition("://")
    # Airflow would drop the slash, and write an object in the place of the folder.
    if path.endswith("/"):
        raise InvalidArgument(f"path {path!r} names a folder; add the name of the object to write.")
    local = rest if scheme in ("file", "local") else None if separator else path
    # Relative to what? Each worker has its own working directory, and Airflow 2.11 takes the root.
    if local is not None and not local.startswith("/"):
        raise InvalidArgument(f"path {path!r} is relative; give an absolute path, or a URI such as s3://bucket/key.")
    return path


def _no_file_system(path: str, scheme: str) -> InvalidArgument:
    extra = _EXTRAS.get(scheme)
    step = f"Install it with: pip install 'airflow-provider-isvapp[{extra}]'" if extra else "Use file, s3, gs or abfs."
    return InvalidArgument(f"path {path!r}: this Airflow has no file system for {scheme}://. {step}")
