# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor`: finds what is wrong with the ScaledObjects, settings and queries of a setup, before it matters.

First all evidence is read into one frozen value (`kedastral.doctor.evidence`): from manifests, a cluster, settings, a
running Kedastral, and Prometheus. Then small pure rules examine it, one module per subject: `trigger_rules`,
`scaling_rules`, `object_rules`, `pace_rules` and `query_rules`. `kedastral.cli.doctor` lists them all.
"""
