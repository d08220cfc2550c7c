# SPDX-License-Identifier: Apache-2.0
"""What pods share in Redis: the newest snapshots, which pods are alive, and state for restarts. Needs coredis.

In the order of the imports:

- `client`: a coredis client for the server, the Sentinels or the cluster of an address, and how it logs in
- `scripts`: what a Lua script is, how to read its answer, and the scripts of an index
- `connection`: a client that recovers by itself, and a one-line error for anything that can go wrong
- `snapshots`, `members` and `states`: each implements a port of `kedastral.core.ports`, with its own scripts

Everything is done by Lua scripts with one key each, so that a check and the following write are atomic, and so that it
works the same on a cluster, where keys are on different servers. The keys, with the prefix from the settings:

- ``{prefix}:snapshot:{workload}``, a hash: ``at`` (when it was made, microseconds since 1970), ``token`` (of its
  writer), ``revision`` (counts the writes), ``format`` (`kedastral.wire.SNAPSHOT_FORMAT`) and ``snapshot``, the JSON
  of ``GET /forecast/current``. It expires.
- ``{prefix}:index``, a sorted set: each workload with the time of its last write, by the clock of Redis in
  microseconds. Pods poll it for changes.
- ``{prefix}:members``, a hash: the pods that share the work, see `members`.
- ``{prefix}:state:{workload}``, ``{prefix}:history:{workload}``, ``{prefix}:states``: see `states`.
"""
