# SPDX-License-Identifier: Apache-2.0
"""Which points of a history can be trusted as the load, and what its query seems to have wrong."""
