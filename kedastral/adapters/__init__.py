# SPDX-License-Identifier: Apache-2.0
"""The outside world behind the ports: the Prometheus source, the model over HTTP, the model in the process."""
