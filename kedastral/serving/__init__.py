# SPDX-License-Identifier: Apache-2.0
"""Stores: where snapshots are kept between the tick and those who read them."""
