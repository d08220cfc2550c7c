# SPDX-License-Identifier: Apache-2.0
"""The report's style sheet: system fonts, calm, light and dark, and fit for print."""

STYLE = """
:root { --page: #ffffff; --ink: #1f2933; --soft: #52606d; --line: #d5dbe1; --box: #f4f6f8; --good: #2f7d4f;
  --even: #8a6d1a; --bad: #b23b2e; }
@media (prefers-color-scheme: dark) { :root { --page: #141a21; --ink: #e4e9ee; --soft: #a3b1bf; --line: #3a4653;
  --box: #1d2630; --good: #6cc493; --even: #d9b95b; --bad: #ff8a75; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.9rem; margin: 0; } h2 { font-size: 1.35rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
.sub, .note, footer, caption { color: var(--soft); } .sub { margin: .1rem 0 1.2rem; }
.note, footer { font-size: .88rem; }
.verdict { background: var(--box); border-left: 5px solid var(--even); border-radius: 4px; padding: .9rem 1.2rem; }
.verdict.better { border-color: var(--good); } .verdict.worse { border-color: var(--bad); }
.verdict h2, .verdict h3 { margin: 0 0 .3rem; font-size: .85rem; letter-spacing: .06em; text-transform: uppercase;
  color: var(--soft); }
.verdict p { margin: .4rem 0; } .verdict .words { font-size: 1.15rem; font-weight: 600; }
pre { overflow-x: auto; background: var(--page); border: 1px solid var(--line); border-radius: 4px;
  padding: .6rem .8rem; font: .88rem/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .3rem 0; font-size: .88rem; }
th, td { padding: .32rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody th { text-align: left; font-weight: 500; white-space: nowrap; } .text { text-align: left; }
img { display: block; width: 100%; height: auto; }
@media print { main { max-width: none; padding: 0; } section { break-inside: auto; } img, tr { break-inside: avoid; } }
"""
