# SPDX-License-Identifier: Apache-2.0
"""KEDA's scaler, the HTTP API and metrics, and the store that they read."""
