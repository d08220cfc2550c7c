# SPDX-License-Identifier: Apache-2.0
"""What would have happened: KEDA, the HPA and pod start-up around a policy; no I/O, no clock, same input, same output.

Imports core and errors only. From the inside out::

    hpa.py      the HPA and (hpa_behavior.py) its settings      pods.py     pods that take their time to start
    policy.py   what is asked for replicas, sees no future      policies/   one module for each family of them
    keda.py     policy -> KEDA -> HPA                           replay.py   demand -> policy -> pods -> outcome.py
    trial.py    how a trace is scaled and which part counts     curves.py   a policy's knob swept, curves compared

Time is in seconds from the start of the demand. Cost and share figures are those of `Outcome`.
"""
