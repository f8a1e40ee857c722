"""The page's style sheet: calm paper by day, calm slate by night, plain ink in print.

Knows colours and sizes; knows nothing of what is shown.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --panel: #ffffff; --ink: #1d2330; --soft: #5a6170; --faint: #757b89;
    --line: #e7e4dc;
  --loop: #1c5fc4; --static: #9a9ca3; --last3: #c2984a; --all: #6fa088;
  --good: #2b8a57; --warn: #b97a14; --bad: #c03f2b; --calm: #6b7280; --on-mark: #ffffff;
  --reign-0: #dfe7f3; --reign-1: #eef2f8; --bar: #d5d8de; --change: #1c5fc4;
  --heat-0: #f4f1ea; --heat-1: #efe6d3; --heat-2: #f1cf98; --heat-3: #e5a663; --heat-4: #cb7140;
    --heat-5: #97402b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171d; --panel: #1a1e26; --ink: #e6e8ec; --soft: #a3aab7; --faint: #868d9b;
      --line: #2a2f39;
    --loop: #6ea8ff; --static: #7f848e; --last3: #b08b48; --all: #5f9480;
    --good: #4fb97f; --warn: #dda03c; --bad: #ee7460; --calm: #8b93a1; --on-mark: #14171d;
    --reign-0: #26354d; --reign-1: #1f2938; --bar: #39404c; --change: #6ea8ff;
    --heat-0: #1f242c; --heat-1: #2b2a29; --heat-2: #54402a; --heat-3: #875a31; --heat-4: #bf7a41;
      --heat-5: #f2ab6c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 Inter, "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Roboto,
    "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1140px; margin: 0 auto; padding: 56px 40px 72px; }
.over { color: var(--soft); font-size: 14px; margin: 0 0 14px; }
.over b { color: var(--ink); font-weight: 600; }
h1 { font-size: 33px; line-height: 1.24; letter-spacing: -0.018em; font-weight: 640;
  margin: 0 0 14px; max-width: 30em;
  text-wrap: balance; }
.lede { color: var(--soft); font-size: 17px; margin: 0; max-width: 46em; }
h2 { font-size: 21px; letter-spacing: -0.01em; font-weight: 620; margin: 64px 0 6px; }
h2 + p { color: var(--soft); margin: 0 0 22px; max-width: 46em; }
.facts { display: grid; grid-template-columns: repeat(6, 1fr); margin: 34px 0 0; padding: 18px 0;
  gap: 18px 0;
  border: solid var(--line); border-width: 1px 0; }
.facts div { padding: 0 12px 0 18px; border-left: 1px solid var(--line); }
.facts div:first-child { padding-left: 0; border-left: 0; }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { margin: 0; font-size: 24px; font-weight: 600; letter-spacing: -0.01em;
  line-height: 1.35; }
.facts dd small { display: block; font-size: 13px; font-weight: 400; color: var(--soft);
  letter-spacing: 0; }
.scroll { overflow-x: auto; }
svg { display: block; max-width: 100%; }
svg text { font-size: 12px; fill: var(--soft); }
.timeline { width: 100%; min-width: 760px; height: auto; overflow: visible; }
.timeline .panel-title { font-size: 13.5px; font-weight: 620; fill: var(--ink); }
.timeline .note { font-size: 11.5px; fill: var(--faint); }
.timeline .tick { font-size: 11.5px; fill: var(--soft); }
.timeline .month-name { font-size: 12.5px; fill: var(--soft); }
.grid { stroke: var(--line); }
.zero { stroke: var(--static); stroke-dasharray: 5 4; stroke-width: 1.4; }
.change { stroke: var(--change); stroke-opacity: 0.38; stroke-width: 1.2; }
.stem { stroke: var(--faint); stroke-width: 1; }
.line { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; }
.line.static { stroke: var(--static); stroke-dasharray: 5 4; }
.line.last3 { stroke: var(--last3); }
.line.all { stroke: var(--all); }
.line.loop { stroke: var(--loop); stroke-width: 3.2; }
.line.reference { stroke: var(--ink); stroke-opacity: 0.55; stroke-dasharray: 2 4; }
.dot.static { fill: var(--static); } .dot.last3 { fill: var(--last3); }
.dot.all { fill: var(--all); }
.dot.static circle, .dot.last3 circle, .dot.all circle { r: 2.2px; }
.dot.loop { fill: var(--loop); stroke: var(--paper); stroke-width: 1.5; }
.dot.loop circle { r: 4.6px; }
.leader { stroke-width: 1; stroke-opacity: 0.6; }
.leader.static { stroke: var(--static); } .leader.last3 { stroke: var(--last3); }
.leader.all { stroke: var(--all); } .leader.loop { stroke: var(--loop); }
svg .series { font-size: 12.5px; }
svg .series.static { fill: var(--soft); } svg .series.last3 { fill: var(--last3); }
svg .series.all { fill: var(--all); }
svg .series.loop { fill: var(--loop); font-weight: 680; }
svg .series.reference { fill: var(--soft); } svg .series.realised { fill: var(--loop); }
.bar { fill: var(--bar); } .step { fill: var(--heat-3); }
.realised { fill: var(--loop); stroke: none; } .whisker { stroke: var(--loop); stroke-width: 1.6;
  stroke-opacity: 0.55; }
.heat-0 { fill: var(--heat-0); } .heat-1 { fill: var(--heat-1); } .heat-2 { fill: var(--heat-2); }
.heat-3 { fill: var(--heat-3); } .heat-4 { fill: var(--heat-4); } .heat-5 { fill: var(--heat-5); }
.reign-0 { fill: var(--reign-0); } .reign-1 { fill: var(--reign-1); }
svg .reign { font-size: 11.5px; fill: var(--ink); }
.mark text { fill: var(--on-mark); font-size: 12px; font-weight: 650; }
.mark.good circle { fill: var(--good); } .mark.warn circle { fill: var(--warn); }
.mark.bad circle { fill: var(--bad); } .mark.calm circle { fill: var(--calm); }
.key { display: flex; flex-wrap: wrap; gap: 6px 22px; color: var(--soft); font-size: 13px;
  margin: 14px 0 0; }
.key span { display: inline-flex; align-items: center; gap: 7px; }
.spot { width: 11px; height: 11px; border-radius: 50%; }
.spot.good { background: var(--good); } .spot.warn { background: var(--warn); }
.spot.bad { background: var(--bad); } .spot.calm { background: var(--calm); }
.key + .key { margin-top: 8px; }
.swatch { width: 20px; height: 11px; border-radius: 2px; display: inline-block; }
ol.story { list-style: none; margin: 0; padding: 0; }
ol.story > li { display: grid; grid-template-columns: 34px 1fr 300px; gap: 0 18px;
  padding: 20px 0 18px;
  border-top: 1px solid var(--line); break-inside: avoid; }
ol.story > li:last-child { border-bottom: 1px solid var(--line); }
.badge { width: 25px; height: 25px; border-radius: 50%; color: var(--on-mark); font-size: 13px;
  font-weight: 650;
  display: grid; place-items: center; }
.badge.good { background: var(--good); } .badge.warn { background: var(--warn); }
.badge.bad { background: var(--bad); } .badge.calm { background: var(--calm); }
.story h3 { font-size: 16.5px; font-weight: 620; margin: 0 0 8px; line-height: 1.45; }
.story h3 time { color: var(--soft); font-weight: 400; font-size: 15px; margin-right: 10px; }
.steps { margin: 0; display: grid; grid-template-columns: 92px 1fr; gap: 5px 14px;
  font-size: 14.5px; line-height: 1.5; }
.steps dt { color: var(--soft); } .steps dd { margin: 0; }
.steps dd ul { margin: 0; padding: 0; list-style: none; } .steps dd li + li { margin-top: 2px; }
.steps .outcome { color: var(--faint); font-size: 13px; overflow-wrap: anywhere; }
.gate { width: 300px; height: auto; align-self: start; }
.gate .bound { stroke: var(--faint); stroke-width: 1; } .gate .span { stroke: var(--soft);
  stroke-width: 2; }
.gate circle { fill: var(--soft); } .gate .main .span { stroke: var(--ink); stroke-width: 2.4; }
.gate .main circle { fill: var(--ink); } .gate .main text { fill: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; color: var(--soft); font-size: 13.5px; padding: 0 0 8px; }
th { font-weight: 500; color: var(--soft); text-align: right; padding: 4px 9px;
  white-space: nowrap; }
td { text-align: right; padding: 4px 9px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead tr:last-child th { border-bottom: 1px solid var(--faint); }
tbody tr + tr td, tbody tr + tr th { border-top: 1px solid var(--line); }
tr.mean td, tr.mean th { border-top: 1px solid var(--faint) !important; font-weight: 620;
  color: var(--ink); }
td.loop, th.loop, tr.mean td.loop { color: var(--loop); font-weight: 620; }
td.best { text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: 3px; }
td.first, th.first { border-left: 1px solid var(--line); padding-left: 14px; }
th.group { text-align: center; color: var(--ink); }
.versions td, .versions th { text-align: left; } td.words { white-space: normal; }
code { font: 0.92em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.reading { display: grid; grid-template-columns: 190px 1fr; gap: 12px 20px; margin: 18px 0 0;
  font-size: 15px; }
.reading dt { font-weight: 600; } .reading dd { margin: 0; color: var(--soft); max-width: 48em; }
footer { margin-top: 60px; padding-top: 16px; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 13px; }
@media (max-width: 960px) {
  main { padding: 36px 22px 52px; } h1 { font-size: 27px; }
  ol.story > li { grid-template-columns: 34px 1fr; } .gate { grid-column: 2; margin-top: 12px; }
  .facts { grid-template-columns: repeat(3, 1fr); }
  .facts div:nth-child(3n + 1) { padding-left: 0; border-left: 0; }
  .reading { grid-template-columns: 1fr; gap: 2px; } .reading dd { margin-bottom: 10px; }
}
@media print {
  :root { --paper: #fff; --panel: #fff; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { font-size: 12px; } main { padding: 0; max-width: none; } .scroll { overflow: visible; }
  .timeline { min-width: 0; max-height: 22cm; } .figure { break-before: page; }
  .steps, .story h3, .reading { font-size: 11.5px; } ol.story > li { padding: 10px 0; }
  h2 { margin-top: 28px; break-after: avoid; }
  table { font-size: 10.5px; } th, td { padding: 3px 5px; } tr { break-inside: avoid; }
  h1 { font-size: 24px; } .lede { font-size: 14px; }
}
@page { margin: 14mm; }
"""
