# SPDX-License-Identifier: Apache-2.0
"""``python -m kedastral``."""

from kedastral.cli import main

if __name__ == "__main__":
    main()
