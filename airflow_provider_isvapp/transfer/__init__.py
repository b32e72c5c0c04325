# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Moves an export from the vendor to storage: download, decompress, verify, publish. No Airflow here."""
