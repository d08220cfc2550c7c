# SPDX-License-Identifier: Apache-2.0
"""Simulates KEDA, the HPA and pod start-up around a policy; no I/O, no clock, same input, same output.

It imports only core and errors. From the inside out::

    hpa.py       the HPA and its settings
    trial.py     the demand to replay, the interface of a policy, and all that it may see
    policies.py  Kedastral's policies, and those it is compared with
    cluster.py   pods that take time to start; policy -> KEDA -> HPA
    replay.py    demand -> policy -> pods, step by step, and the outcome
    curves.py    a policy at many settings as a curve; comparison of curves

Time is in seconds from the start of the demand. `Outcome` defines cost and shares.
"""
