# SPDX-License-Identifier: Apache-2.0
"""Parts of reading a history that a person exported: cells, tables, answers of Prometheus, and the grid of time.

The csv module splits lines into cells; what they mean is found here. Its Sniffer takes ``1772409600;1,5`` for two
columns at the comma, finds no header below label lines, and guesses by another rule in newer releases of Python.
dateutil reads each date by itself, so that ``05/01/2026`` and ``25/01/2026`` of one column get different orders of day
and month, and takes what is missing from today's date. pandas and polars add tens of megabytes to an image, and leave
open what this is about: which column is meant, units, decimal commas, label lines, and what was understood, in words.
"""
