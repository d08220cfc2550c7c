# SPDX-License-Identifier: Apache-2.0
"""Parts of reading an exported history: cells, tables, answers of Prometheus, and the time grid.

The csv module splits lines into cells; this package interprets them. csv's Sniffer splits ``1772409600;1,5`` at the
comma, finds no header below label lines, and uses different rules in newer Python releases. dateutil reads each date by
itself, so that ``05/01/2026`` and ``25/01/2026`` in one column get different orders of day and month, and it fills
missing parts from today's date. pandas and polars add tens of megabytes to an image and do not solve the problem at
hand: which column is meant, units, decimal commas, label lines, and saying in words what was understood.
"""
