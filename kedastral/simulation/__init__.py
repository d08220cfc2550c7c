# SPDX-License-Identifier: Apache-2.0
"""What would have happened: KEDA, the HPA and pod start-up around a policy; no I/O, no clock, same input, same output.

It imports core and errors only. From the inside out::

    hpa.py       the HPA and its settings
    trial.py     the demand to replay, what a policy is asked, and all that it may see
    policies.py  this product's policies, and those it is compared with
    cluster.py   pods that take their time to start; policy -> KEDA -> HPA
    replay.py    demand -> policy -> pods, step by step, and the outcome
    curves.py    a policy at many settings as a curve; curves compared

Time is in seconds from the start of the demand. Cost and share figures are those of `Outcome`.
"""
