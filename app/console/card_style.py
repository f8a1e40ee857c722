"""What the model card adds to the page's style sheet.

Knows colours and sizes; knows nothing of what is shown.
"""

CARD_STYLE = """
h1 { max-width: 27em; font-size: 29px; }
.stated dd { color: var(--ink); } .stated dd p { margin: 0; }
.stated dd.unstated { color: var(--warn); }
.stated ul { margin: 0; padding-left: 18px; } .stated li + li { margin-top: 3px; }
.caution { border-left: 4px solid var(--warn); background: var(--panel); padding: 12px 18px;
  margin: 0 0 26px; color: var(--soft); font-size: 14.5px; max-width: none; }
.caution b { color: var(--warn); }
.charts { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px 30px; margin: 0 0 26px; }
figure { margin: 0; } figure h3 { font-size: 14.5px; font-weight: 620; margin: 0 0 4px; }
figcaption { color: var(--soft); font-size: 13px; margin: 6px 0 0; line-height: 1.45; }
.origin { display: grid; grid-template-columns: minmax(0, 1fr) 330px; gap: 0 44px; }
.origin .lineage { grid-template-columns: 150px 1fr; align-content: start; margin-top: 0; }
h2 + .origin { margin-top: 16px; }
.chart { width: 100%; height: auto; overflow: visible; }
.chart .note { font-size: 11px; fill: var(--faint); } .chart .tick { font-size: 11px; }
.scroll .chart { min-width: 860px; }
.chart .row-name { font-size: 12.5px; fill: var(--ink); }
.line.main { stroke: var(--loop); stroke-width: 2.2; } .line.quiet { stroke: var(--static); }
.under { fill: var(--loop); fill-opacity: 0.09; }
.counts { fill: var(--bar); }
circle.main { fill: var(--loop); } circle.quiet { fill: var(--static); }
circle.operating { fill: var(--panel); stroke: var(--ink); stroke-width: 2.2; }
svg .series.main { fill: var(--loop); font-weight: 620; } svg .series.quiet { fill: var(--soft); }
.forest .span { stroke-width: 2; stroke-opacity: 0.5; }
.forest.calm .span { stroke: var(--calm); } .forest.calm circle { fill: var(--calm); }
.forest.bad .span { stroke: var(--bad); } .forest.bad circle { fill: var(--bad); }
.forest.warn .span { stroke: var(--warn); } .forest.warn circle { fill: var(--warn); }
.forest.good .span { stroke: var(--loop); } .forest.good circle { fill: var(--loop); }
.decision { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 0 48px;
  align-items: center; }
.confusion th { text-align: left; } .confusion td { padding: 12px 16px; text-align: left;
  border: 3px solid var(--paper) !important; }
.confusion td b { display: block; font-size: 22px; font-weight: 620; line-height: 1.2; }
.confusion td small { color: var(--soft); font-size: 12.5px; }
.confusion thead th, .confusion tr:first-child th { padding-left: 16px; }
.confusion .right { background: var(--reign-0); } .confusion .wrong { background: var(--heat-1); }
.facts.pair { grid-template-columns: 1fr; margin: 0; gap: 10px; border-width: 0; }
.facts.pair div { border-left: 0; padding: 0; }
.said { color: var(--soft); max-width: 46em; margin: 0 0 14px; }
.more { color: var(--soft); font-size: 13.5px; }
.lineage { gap: 7px 20px; font-size: 14.5px; } .lineage dt { font-weight: 400; color: var(--soft); }
.lineage dd { color: var(--ink); max-width: none; overflow-wrap: anywhere; }
.lineage small { color: var(--faint); font-size: 12.5px; }
.privacy { font-size: 12.5px; color: var(--faint); }
.privacy.personal, .privacy.forbidden { color: var(--bad); font-weight: 620; }
.privacy.quasi { color: var(--warn); font-weight: 620; }
code.command { background: var(--panel); border: 1px solid var(--line); border-radius: 4px;
  padding: 4px 9px; display: inline-block; color: var(--ink); overflow-wrap: anywhere; }
@media (max-width: 960px) {
  .charts, .decision, .origin { grid-template-columns: 1fr; } .charts figure { max-width: 420px; }
  .facts { grid-template-columns: repeat(2, 1fr) !important; }
}
@media print { .charts { break-inside: avoid; } section { break-inside: auto; } }
"""
