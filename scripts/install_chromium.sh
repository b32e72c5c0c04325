#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Gives the tests of Airflow's UI their browser, on Debian and Ubuntu. Does nothing where there is one.
set -euo pipefail

if command -v chromium chromium-browser google-chrome; then exit 0; fi
if [[ $(id -u) != 0 ]]; then
    echo "There is no Chromium, and only root can install it: sudo $0" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
# Without recommended packages there would be no font at all.
apt-get install --yes --quiet --quiet --no-install-recommends chromium fonts-dejavu-core
chromium --version
