# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor`: finds what is wrong with the ScaledObjects, settings and queries of a setup, before it matters.

First all that is known is read into one frozen value (`kedastral.doctor.evidence`): from manifests, from a cluster,
from settings, from a running Kedastral, from Prometheus. Then small pure rules look at it, a module for each subject:
`trigger_rules`, `scaling_rules`, `object_rules`, `pace_rules` and `query_rules`. `kedastral.cli.doctor` lists them all.
"""
