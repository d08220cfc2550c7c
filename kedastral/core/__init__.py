# SPDX-License-Identifier: Apache-2.0
"""The pure core: no I/O, no clock, no logging; same input, same output."""
