# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hostile responses, the servers that send them, and the guarantees of every entry point."""
