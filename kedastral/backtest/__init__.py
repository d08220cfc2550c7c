# SPDX-License-Identifier: Apache-2.0
"""Replays history with Kedastral and with today's policies, and says what the difference means. Data flows one way::

settings -> workloads -> comparison -> verdict -> results -> tables, report
workloads.py   the settings and the history, ready to replay    verdict.py   what to run, and why it was short
comparison.py  the policies replayed, swept and compared        results.py   all of it, as JSON and as a timeline
tables.py      cells for the terminal and the report            report.py    the HTML page, with plots.py

"""
