# SPDX-License-Identifier: Apache-2.0
"""Replays history with Kedastral and with common policies, and says what the difference means. Data flows one way::

settings -> workloads -> comparison -> decision -> verdict -> results -> tables, report
workloads.py      the settings and the history, ready to replay
comparison.py     the policies replayed, swept and compared
processes.py      the same in several processes, by worker.py
totals.py         pod-hours and minutes of all workloads
keeping.py        what keeps the service level for the least
decision.py       Kedastral against the alternatives
preconditions.py  whether a verdict can be given: enough history, and a maximum that is not too low
verdict.py        the decision in words, and the advice
to_run.py         the settings to run, as flags and keys
wording.py        settings, figures and changes in words
slo.py            whether the service level was kept
shortages.py      the worst shortages, and their reasons
accuracy.py       the forecasts, and their error
results.py        all results, as JSON and as a timeline
tables.py         cells for the terminal and the report
report.py         the HTML page, with charts.py
"""
