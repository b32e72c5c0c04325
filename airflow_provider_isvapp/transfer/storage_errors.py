# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Turns what storage libraries raise into this package's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_isvapp.errors import ProviderError, StorageFailed


@contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Raise whatever goes wrong inside as StorageFailed, naming the address.

    Every exception counts: fsspec's file systems let their own libraries' errors through, which share no root.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise StorageFailed(
            f"Writing {address} failed and published nothing: {type(error).__name__}: {error}. "
            "Check that the storage is reachable, has room and grants this connection the right to write."
        ) from error
