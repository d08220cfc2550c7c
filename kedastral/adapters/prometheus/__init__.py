# SPDX-License-Identifier: Apache-2.0
"""The load of a workload, read from Prometheus.

The modules, in the order of the calls of a tick:

- `source`: the history of a workload; a range query, or instant values where the server has no range queries
- `range_queries`: which points are missing in the cache, and the request for them
- `api`: the HTTP request with its retries, and a one-line error for anything that can go wrong
- `answer`: turns the JSON of the answer into numbers

`limits` has the request slots, the requests per second and the time budget that `api` respects.
"""
