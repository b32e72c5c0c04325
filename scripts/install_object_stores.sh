#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Gives the tests of the data path their real object stores, on Debian and Ubuntu: a Ceph gateway for S3, and azurite for
# Azure. Does nothing where they are. Without them, the tests that need them are skipped.
set -euo pipefail

AZURITE=3.37.0

if ! { command -v ceph-mon && command -v ceph-osd && command -v radosgw; } >/dev/null; then
    if [[ $(id -u) != 0 ]]; then
        echo "There is no Ceph gateway, and only root can install it: sudo $0" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet
    apt-get install --yes --quiet --quiet --no-install-recommends ceph-mon ceph-osd radosgw
fi
radosgw --version

if ! command -v azurite-blob >/dev/null; then
    npm install --global --no-fund --no-audit --loglevel=error "azurite@$AZURITE"
fi
echo "azurite $(azurite-blob --version)"
