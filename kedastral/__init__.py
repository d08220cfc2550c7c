# SPDX-License-Identifier: Apache-2.0
"""Kedastral forecasts a workload's load and tells KEDA the replicas it will need, a lead time early.

Each layer imports only from those below it (``tests/test_layers.py``)::

    cli                               commands; the only place that prints or sets an exit code
    demo backtest doctor              `run` on a built-in load; history replayed and judged; mistakes found
    compose app                       settings become parts; the nursery
    workloads                         the tick, and the fleet of workloads
    serving                           KEDA's scaler, the HTTP API, the store, metrics
    adapters                          Prometheus, the model over HTTP, CSV
    state_format                      the saved state of a workload, as bytes
    settings simulation wire          flags, variables, files; KEDA, HPA and pods; JSON
    models                            forecast models, pure
    core                              series, forecast, plan, serving rule, ports; pure (core/__init__.py)
    errors clock logs secrets tls proxies cooperative tracing text     shared by all layers
    grpclib_trio trio_connections _proto          gRPC on Trio, KEDA's contract; independent of the rest

The nursery: app.py. The tick: workloads/tick.py. The settings: settings/declarations.py. The plan:
core/planning/planner.py, and core/capacity.py for load to replicas. KEDA's answer: core/serving.py, and
serving/scaler.py around it. Why it is that: core/explanation.
"""

__version__ = "0.1.0"
