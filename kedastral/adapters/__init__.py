# SPDX-License-Identifier: Apache-2.0
"""The outside world behind the ports of `kedastral.core.ports`.

Metric sources: `prometheus.source.PrometheusSource` and `synthetic.SyntheticSource`. Forecasters: `in_process` and
`http_model`. History for a backtest: `csv` and `prometheus.range_queries`. A new one implements the protocol of its
port and passes the tests of its port in ``tests/contract``.
"""
