# SPDX-License-Identifier: Apache-2.0
"""The policies that are compared; each is a `kedastral.simulation.policy.Policy`, made afresh for every replay."""
