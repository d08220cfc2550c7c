# SPDX-License-Identifier: Apache-2.0
"""The pure core: no I/O, no clock, no logging; same input, same output.

Each line imports only from those below it (``tests/test_layers.py``)::

    ports explanation                 interfaces to the outside world; why KEDA is told a number
    serving kept_state                what KEDA is told; what a restart must not lose
    planning                          from a forecast to a plan, and the snapshot that carries it
    model                             what a forecast model does
    forecast                          the load that is expected
    forecast_status capacity data_quality history_cache     load to replicas; whether a history can be trusted
    series steps trigger failures promql_text               load over time; KEDA's trigger; why a tick failed
"""
