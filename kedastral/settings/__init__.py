# SPDX-License-Identifier: Apache-2.0
"""Settings: what there is (`declarations`), who says what (`sources`), and what holds in the end (`resolve`)."""
