# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A synchronous S3 client with the settings of an s3fs file system.

s3fs sends everything through one thread, which at a few hundred megabytes a second is the limit. botocore, which
comes with s3fs, can be used by several threads.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from fsspec.asyn import sync

# A part is tried again by botocore (429, 500, 503, resets), with growing waits.
_RETRIES = {"mode": "standard", "max_attempts": 6}

# A client costs a third of a second, and may be used by many threads.
_clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def botocore_client(fs: Any) -> Any:
    """Return a botocore client that signs as the file system does, to the same endpoint.

    :param fs: an ``s3fs.S3FileSystem``.
    """
    if fs not in _clients:
        _clients[fs] = _new_client(fs)
    return _clients[fs]


def _new_client(fs: Any) -> Any:
    fs.connect()
    session = botocore.session.get_session()
    options = {"endpoint_url": fs.endpoint_url, "use_ssl": fs.use_ssl, "region_name": fs.s3.meta.region_name}
    config = {"retries": _RETRIES} | fs.config_kwargs
    if fs.anon:
        config["signature_version"] = UNSIGNED
    elif fs.key:
        options |= {"aws_access_key_id": fs.key, "aws_secret_access_key": fs.secret, "aws_session_token": fs.token}
    else:
        session.register_component("credential_provider", _CredentialsOfSession(fs))
    return session.create_client("s3", config=Config(**config), **(options | fs.client_kwargs))


class _CredentialsOfSession:
    """What botocore asks for credentials: those of the file system's own, asynchronous session."""

    def __init__(self, fs: Any) -> None:
        self._loop = fs.loop
        self._session = fs.session

    def load_credentials(self) -> Credentials | None:
        """Return credentials, or None if the session has none."""
        credentials = sync(self._loop, self._session.get_credentials)
        return None if credentials is None else _RenewedElsewhere(self._loop, credentials)


class _RenewedElsewhere(Credentials):  # type: ignore[misc] # botocore has no types
    """Credentials that the other session renews when they are about to expire."""

    def __init__(self, loop: Any, credentials: Any) -> None:
        self._loop = loop
        self._credentials = credentials
        super().__init__(*self.get_frozen_credentials()[:3], method=credentials.method)

    def get_frozen_credentials(self) -> Any:
        """Return a key, a secret and a token that are good now."""
        return sync(self._loop, self._credentials.get_frozen_credentials)
