# SPDX-License-Identifier: Apache-2.0
"""Replays history with Kedastral and with common policies, and says what the difference means. Data flows one way::

settings -> workloads -> comparison -> decision -> verdict -> results -> tables, report
workloads.py   the settings and the history, ready to replay    verdict.py    the decision in words, and what to run
comparison.py  the policies replayed, swept and compared        shortages.py  the worst shortages, and their reasons
processes.py   the same in several processes, by worker.py      results.py    all results, as JSON and as a timeline
decision.py    Kedastral against the alternatives               tables.py     cells for the terminal and the report
                                                                report.py     the HTML page, with charts.py

"""
