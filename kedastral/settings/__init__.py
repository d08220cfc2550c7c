# SPDX-License-Identifier: Apache-2.0
"""Settings of the process and of workloads: flags over environment variables over files and metadata over defaults.

The building blocks:

- `types` and `schema`: how a text is read, and what a setting is
- `declarations`: every setting; `commands`: those of each command; `kinds`: those of each kind of document
- `fleet`: what a process forecasts, as values

From text to values, in the order of the calls:

- `load`: the settings of a command
- `fleet_reader`: its workloads and data sources; `replay`: those of a backtest
- `files`, `yaml` and `documents`: what files say; `metadata`: what a ScaledObject's trigger says
- `layers`: the raw values of each of these, of flags and of variables, with their origins
- `resolve`: which one counts; `rules`: what must hold between them

`spelling` finds the word that a misspelt one was meant to be, and `effect` shows a value to the user.
"""
