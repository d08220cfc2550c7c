# SPDX-License-Identifier: Apache-2.0
"""Services: the tick, the snapshot server and KEDA's scaler; each sees ports only and runs until cancelled."""
