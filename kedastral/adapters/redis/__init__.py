# SPDX-License-Identifier: Apache-2.0
"""What pods share in Redis: the newest snapshots, who is alive, and what a restart must find. Needs coredis.

In the order of the imports:

- `client`: a client of coredis for the server, the Sentinels or the cluster of an address, and how it logs in
- `scripts`: what a Lua script is, how its answer is read, and the scripts of an index
- `connection`: a client that mends itself, and an error in one line for all that can go wrong
- `snapshots`, `members` and `states`: each implements a port of `kedastral.core.ports`, with scripts of its own

Everything is done by Lua scripts of one key each, so that a check and the write that follows it are one step, and so
that it works the same on a cluster, where keys lie on different servers. Keys, with the prefix of the settings:

- ``{prefix}:snapshot:{workload}``, a hash: ``at`` (when it was made, microseconds since 1970), ``token`` (of its
  writer), ``revision`` (counts the writes), ``format`` (`kedastral.wire.SNAPSHOT_FORMAT`) and ``snapshot``, the JSON
  of ``GET /forecast/current``. It expires.
- ``{prefix}:index``, a sorted set: each workload with the moment of its last write, by the clock of Redis in
  microseconds. Pods ask it for what is new.
- ``{prefix}:members``, a hash: the pods that share the work, see `members`.
- ``{prefix}:state:{workload}``, ``{prefix}:history:{workload}``, ``{prefix}:states``: see `states`.
"""
