# SPDX-License-Identifier: Apache-2.0
"""What is written about the product, held against the product: documentation, examples, the project's own files."""
