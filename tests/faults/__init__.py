# SPDX-License-Identifier: Apache-2.0
"""What is broken around Kedastral and in it, on virtual time, and attacks on whole processes: those are slow."""
