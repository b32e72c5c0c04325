# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Kubernetes accepts the manifests, and the bucket's rule works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import boto3
import kubernetes_validate
import pytest
import yaml

from tests.support import ROOT

# Any supported one will do: these kinds have not changed for years.
KUBERNETES = "1.33"
MANIFESTS = [
    pytest.param(manifest, id=f"{manifest['kind']}-{manifest['metadata']['name']}")
    for name in ("secrets.yaml", "bucket-rule.yaml")
    for manifest in yaml.safe_load_all((ROOT / "kubernetes" / name).read_text())
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_accepts_it(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_misspelt_field_would_be_noticed() -> None:
    (job,) = yaml.safe_load_all((ROOT / "kubernetes" / "bucket-rule.yaml").read_text())
    job["spec"]["backOffLimit"] = job["spec"].pop("backoffLimit")

    with pytest.raises(kubernetes_validate.ValidationError, match="backOffLimit"):
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_the_bucket_gets_its_rule(s3_url: str) -> None:
    (job,) = yaml.safe_load_all((ROOT / "kubernetes" / "bucket-rule.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    s3 = boto3.client(
        "s3", endpoint_url=s3_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    s3.create_bucket(Bucket=given["BUCKET"])
    aws = {"conn_type": "aws", "login": "a", "password": "b", "extra": {"endpoint_url": s3_url}}

    _, option = container["command"]
    subprocess.run(
        [sys.executable, option, *container["args"]],
        env=os.environ | given | {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws), "AWS_DEFAULT_REGION": "us-east-1"},
        check=True,
    )

    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=given["BUCKET"])["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
