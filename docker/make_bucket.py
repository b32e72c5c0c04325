# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Make the bucket that ISVAPP_LAKE names, with the Airflow connection that it names; a no-op if it is there."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook


def main() -> None:
    lake = urlsplit(os.environ["ISVAPP_LAKE"])
    hook = S3Hook(aws_conn_id=lake.username)
    if hook.check_for_bucket(lake.hostname):
        print(f"The bucket {lake.hostname} is there.")
    else:
        hook.create_bucket(bucket_name=lake.hostname)
        print(f"Made the bucket {lake.hostname}.")


if __name__ == "__main__":
    main()
