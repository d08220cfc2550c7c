# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor`: finds what is wrong with the ScaledObjects, settings and queries of a setup, before it matters.

First all that is known is read into one frozen value (`kedastral.doctor.evidence`): from manifests, from a cluster,
from settings, from a running Kedastral, from Prometheus. Then small pure rules look at it.
"""
