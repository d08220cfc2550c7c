# SPDX-License-Identifier: Apache-2.0
"""Settings: what there is (`settings`), and how flags and the environment become them (`loading`)."""
