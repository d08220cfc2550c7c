# SPDX-License-Identifier: Apache-2.0
"""Replays history with Kedastral and with common policies, and says what the difference means. Data flows one way::

settings -> workloads -> comparison -> decision -> verdict -> results -> tables, report
workloads.py     the settings and the history, ready to replay    verdict.py    the decision in words, and what to run
comparison.py    the policies replayed, swept and compared        slo.py        whether the service level was kept
processes.py     the same in several processes, by worker.py      shortages.py  the worst shortages, and their reasons
totals.py        pod-hours and minutes of all workloads           accuracy.py   the forecasts, and their error
keeping.py       what keeps the service level for the least       results.py    all results, as JSON and as a timeline
decision.py      Kedastral against the alternatives               tables.py     cells for the terminal and the report
level_words.py   what keeps the level, in words                   report.py     the HTML page, with charts.py
wording.py       settings, costs and changes in words             quoted.py     the figures in sentences
error_budget.py  whether enough history was judged                to_run.py     the settings to run, as flags and keys
max_too_low.py   whether the maximum is too low

"""
