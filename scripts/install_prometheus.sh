#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Gives the tests of the dashboard a real Prometheus, on Debian and Ubuntu. Does nothing where there is one.
set -euo pipefail

if ! { command -v prometheus && command -v promtool; } >/dev/null; then
    if [[ $(id -u) != 0 ]]; then
        echo "There is no Prometheus, and only root can install it: sudo $0" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet
    # In runlevel 1 the package's own service is not started: the tests start theirs.
    RUNLEVEL=1 apt-get install --yes --quiet --quiet --no-install-recommends prometheus
fi
promtool --version | sed -n 1p
