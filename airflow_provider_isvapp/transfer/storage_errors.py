# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Turns what storage libraries raise into this package's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_isvapp.errors import ProviderError, StorageFailed

# A storage's answer, which the error may quote, can be of any length.
_LONGEST_REASON = 1_000


@contextmanager
def storage_errors(address: str, *, reading: bool = False) -> Iterator[None]:
    """Raise whatever goes wrong inside as StorageFailed, naming the address.

    Every exception counts: fsspec's file systems let their own libraries' errors through, which share no root.

    :param reading: nothing is written inside.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:_LONGEST_REASON]}"
        failed = (
            f"Reading {address} failed: {reason}."
            if reading
            else f"Writing {address} failed and published nothing: {reason}."
        )
        raise StorageFailed(
            f"{failed} Check that the storage is reachable, has room and grants this connection its rights."
        ) from error
