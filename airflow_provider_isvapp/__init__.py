# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Airflow provider for ISVapp (usage analytics for Salesforce ISVs) and Productiv (SaaS management)."""

__version__ = "0.1.0"
