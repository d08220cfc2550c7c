# SPDX-License-Identifier: Apache-2.0
"""The real loop (`make e2e`): Kubernetes' API server and HPA, KEDA, Prometheus, and Kedastral."""
