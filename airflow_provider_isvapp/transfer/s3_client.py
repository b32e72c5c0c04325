# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A synchronous S3 client with the settings of an s3fs file system.

s3fs sends everything through one thread, which at a few hundred megabytes a second is the limit. botocore, which
comes with s3fs, can be used by several threads.
"""

from __future__ import annotations

from typing import Any

# A part is tried again by botocore (429, 500, 503, resets), with growing waits.
_ATTEMPTS = 6


def botocore_client(fs: Any) -> Any:
    """Return a botocore client that signs as the file system does, to the same endpoint.

    :param fs: an ``s3fs.S3FileSystem``.
    """
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    fs.connect()
    session = botocore.session.get_session()
    options = {"endpoint_url": fs.endpoint_url, "use_ssl": fs.use_ssl, "region_name": fs.s3.meta.region_name}
    config = {"retries": {"mode": "standard", "max_attempts": _ATTEMPTS}} | fs.config_kwargs
    if fs.anon:
        config["signature_version"] = UNSIGNED
    elif fs.key:
        options |= {"aws_access_key_id": fs.key, "aws_secret_access_key": fs.secret, "aws_session_token": fs.token}
    else:
        session.register_component("credential_provider", _SameCredentials(fs))
    return session.create_client("s3", config=Config(**config), **(options | fs.client_kwargs))


class _SameCredentials:
    """Gives botocore the credentials of an aiobotocore session, renewed when that renews them.

    Stands in for botocore's credential resolver and for its credentials.
    """

    method = "isvapp-s3fs"

    def __init__(self, fs: Any) -> None:
        from fsspec.asyn import sync

        self._sync = sync
        self._loop = fs.loop
        self._credentials = sync(fs.loop, fs.session.get_credentials)

    def load_credentials(self) -> _SameCredentials | None:
        """Return credentials, or None if the session has none."""
        return None if self._credentials is None else self

    def get_frozen_credentials(self) -> Any:
        """Return a key, a secret and a token that are good now."""
        return self._sync(self._loop, self._credentials.get_frozen_credentials)
