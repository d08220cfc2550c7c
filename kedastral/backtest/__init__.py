# SPDX-License-Identifier: Apache-2.0
"""A backtest: history in, policies replayed on it over their knobs, and what that means in figures, words and plots.

::

    history.py      settings -> series             contest.py     who is replayed, at which knobs, and the results
    foresight.py    forecasts, made again          comparison.py  at equal cost, at equal violation; several workloads
    accuracy.py     how wrong, by horizon          shortages.py   the worst minutes, each with its reason
    verdict.py      what to do, in words           advice.py      with which flags, or keys of a ForecastPolicy
    promise.py      was it kept, can one tell      document.py    JSON and the timeline
    page.py         the report, with plots.py      outputs.py     files that are whole or not there
"""
