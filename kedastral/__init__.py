# SPDX-License-Identifier: Apache-2.0
"""Kedastral forecasts a workload's load and tells KEDA the replicas it will need, a lead time early.

The layers, each importing only from those below it (``tests/test_layers.py`` enforces it)::

    cli                        commands; the only place that prints or sets an exit code
    demo  backtest             the parts of `run` around a load of its own; history replayed and judged
    compose  forecasting       composition: settings -> parts -> one nursery; how files are followed
    members  app               the parts of each workload; the nursery
    services                   the tick, the snapshot server, the KEDA scaler; they see ports only
    adapters  storage  client  the ports' implementations: Prometheus, HTTP model, memory, remote forecaster
    listening  http_server     the sockets, and HTTP on one of them
    config  wire  metrics      conversion at the edges: settings, JSON, Prometheus exposition
    snapshot_metrics           what the snapshots say of themselves
    failure_metrics            who has none that is new, and why
    scrape_thread              what both of them read while a thread writes the page
    simulation                 the backtest's world: KEDA, the HPA and pods; pure
    models                     forecast models, pure
    core                       series, forecast, plan, serving rule, ports; pure
    errors  clock  logs  tls   what every layer may use

    grpc_trio  _proto          gRPC on Trio and KEDA's generated contract; they know nothing of Kedastral

To find your way: the tick is ``services/forecaster.py``, the nursery ``app.py``, the settings ``config/settings.py``.
"""

__version__ = "0.1.0"
