# SPDX-License-Identifier: Apache-2.0
"""The load of a workload, read from Prometheus.

What a tick reads, in the order of the calls:

- `source`: the history of a workload; a range query, or instant values where the server has no range queries
- `range_queries`: which points are missing in the cache, and the request for them
- `api`: the HTTP request with its retries, and an error in one line for all that can go wrong
- `answer`: the JSON of the answer becomes numbers

`limits` are the request slots, the requests per second and the time budget that `api` keeps to.
"""
