# SPDX-License-Identifier: Apache-2.0
"""The whole loop: a small KEDA and its HPA around the real gRPC server, in virtual time."""
