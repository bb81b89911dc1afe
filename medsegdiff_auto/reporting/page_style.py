"""The style sheet of the report."""

STYLE = """
:root { --ink: #1c2530; --muted: #5d6b7a; --line: #dfe4ea; --soft: #f5f7f9; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
       font: 15px/1.55 "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
header, nav, main { max-width: 1080px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 36px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
header p { margin: 0 0 18px; color: var(--muted); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; padding-bottom: 14px; font-size: 13.5px; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { border-top: 1px solid var(--line); padding: 20px 0 14px; }
h2 { font-size: 20px; margin: 0 0 10px; }
h3 { font-size: 15.5px; margin: 20px 0 6px; }
p { margin: 0 0 10px; max-width: 78ch; }
.missing { color: var(--muted); background: var(--soft); border-left: 3px solid #c3ccd6; padding: 8px 12px; }
.scroll { overflow-x: auto; margin: 8px 0 14px; }
table { border-collapse: collapse; font-size: 13px; line-height: 1.4; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 1.5px solid var(--ink); padding: 4px 14px 4px 0;
     vertical-align: bottom; line-height: 1.25; }
td { border-bottom: 1px solid var(--line); padding: 3.5px 14px 3.5px 0; vertical-align: top; }
td { white-space: nowrap; }
td.text, .names td { white-space: normal; }
.names td:first-child { color: var(--muted); white-space: nowrap; }
th.number, td.number { text-align: right; }
td.alert { color: #b3470a; font-weight: 600; }
td.good { color: #00694d; font-weight: 600; }
td .note { color: var(--muted); font-size: 11.5px; }
.panels { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: flex-start; }
.panels figure { margin: 6px 0; }
details { margin: 8px 0; }
summary { cursor: pointer; color: var(--accent); font-size: 13.5px; }
code, pre { font: 12.5px/1.5 "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre { background: var(--soft); border-radius: 6px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere;
      margin: 6px 0 12px; }
figure { margin: 12px 0 16px; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: 13px; margin-top: 5px; max-width: 90ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 4px 0 16px; }
.tile { background: var(--soft); border-radius: 8px; padding: 11px 14px; }
.tile .value { font-size: 23px; font-weight: 600; letter-spacing: -0.01em; }
.tile .name { font-weight: 600; font-size: 13.5px; }
.tile .note { color: var(--muted); font-size: 12.5px; line-height: 1.35; }
@media print {
  body { font-size: 11pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  td, th { padding-right: 8px; }
  h2, h3 { break-after: avoid; }
  figure, tr, .tile { break-inside: avoid; }
}
"""
