# SPDX-License-Identifier: Apache-2.0
"""Checks of texts against the product: documentation, examples, and the project's own files."""
