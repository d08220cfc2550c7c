# SPDX-License-Identifier: Apache-2.0
"""Generated from sample.proto beside it; test_sample.py has the generator."""
