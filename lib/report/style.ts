/** The page's style. One accent (teal) and one warning colour (orange): told apart by colour-blind readers, and never alone. */
export const STYLE = `
:root { color-scheme: light dark;
  --paper: #fcfcfa; --card: #f4f5f1; --ink: #1c2321; --muted: #5c6763; --rule: #dfe3dd;
  --accent: #00695f; --warm: #b34a00; --cool: #34588f; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #131716; --card: #1b211f; --ink: #e7ebe8; --muted: #9aa7a2; --rule: #2d3633;
  --accent: #52c2b0; --warm: #f2955c; --cool: #93b4ec; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 760px; margin: 0 auto; padding: 40px 20px 64px; }
h1, h2, h3, h4, p, dl, dd, figure, ul { margin: 0; padding: 0; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; font-weight: 650; letter-spacing: -0.015em; margin: 6px 0 18px; overflow-wrap: anywhere; text-wrap: balance; }
h1 strong { font-weight: inherit; }
h1 .second { color: var(--muted); }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 14px; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 0 0 6px; }
h4 { font-size: 0.95rem; margin: 22px 0 8px; }
small { font-size: 0.8rem; font-weight: 400; color: var(--muted); }
.kicker { color: var(--muted); font-size: 0.9rem; overflow-wrap: anywhere; }
.lead p { margin-bottom: 8px; max-width: 62ch; overflow-wrap: anywhere; }
.fine { color: var(--muted); font-size: 0.85rem; max-width: 68ch; overflow-wrap: anywhere; }
.rose { color: var(--accent); } .fell { color: var(--warm); }
section { margin-top: 52px; padding-top: 26px; border-top: 1px solid var(--rule); }
section > .fine { margin-top: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 10px; margin-top: 26px; }
.tiles div { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.tiles dt { color: var(--muted); font-size: 0.8rem; }
.tiles dd { font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.35; }
.tiles .note { font-size: 0.78rem; font-weight: 400; color: var(--muted); line-height: 1.3; }
.notice { border-left: 3px solid var(--warm); padding: 8px 14px; margin-top: 18px; background: var(--card); font-size: 0.9rem; overflow-wrap: anywhere; }
.notice h2 { font-size: 0.95rem; margin-bottom: 4px; }
.notice ul { padding-left: 18px; }
figure { margin: 4px 0 18px; }
.chart svg { display: block; width: 100%; height: auto; font-family: inherit; }
.chart.narrow { display: none; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 0.85rem; margin-bottom: 8px; }
.mark { width: 13px; height: 13px; vertical-align: -1px; margin-right: 2px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 8px 28px; }
.pair > div { min-width: 0; }
details > summary { cursor: pointer; color: var(--muted); font-size: 0.85rem; }
details.set { border-top: 1px solid var(--rule); padding: 12px 0; }
details.set > summary { color: var(--ink); font-size: 1rem; overflow-wrap: anywhere; }
details.set > summary h3 { display: inline; margin-right: 8px; }
details.set > summary > span { font-variant-numeric: tabular-nums; margin-right: 6px; }
details.set[open] > summary { margin-bottom: 8px; }
summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
.scroll { overflow-x: auto; margin: 6px 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 0 5px 14px; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th:first-child { text-align: left; padding-left: 0; font-weight: 400; min-width: 7.5rem; overflow-wrap: break-word; }
thead th { color: var(--muted); font-weight: 400; line-height: 1.25; }
td small { display: block; line-height: 1.2; }
.strong th, .strong td { font-weight: 650; }
#facts td { text-align: left; overflow-wrap: anywhere; }
#facts thead { position: absolute; clip-path: inset(50%); }
.thumbnails { list-style: none; display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 14px 12px; }
.thumbnails li { font-size: 0.8rem; line-height: 1.3; overflow-wrap: anywhere; }
.thumbnails img, .thumbnails .blank { display: block; width: 96px; height: 96px; border-radius: 6px; margin-bottom: 5px; background: var(--card); }
.thumbnails .blank { display: grid; place-items: center; color: var(--muted); }
.thumbnails strong { display: block; font-weight: 600; }
.thumbnails small { display: block; font-size: 0.76rem; color: var(--ink); }
.was { color: var(--muted); }
.bar { display: inline-block; width: 72px; height: 9px; margin-right: 8px; }
.bar > span { display: block; height: 100%; border-radius: 2px; background: var(--muted); }
.count { display: inline-block; min-width: 2.6em; }
.bar.new > span { background: var(--cool); }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--rule); }
@media (max-width: 560px) {
  main { padding: 24px 16px 48px; }
  section { margin-top: 36px; padding-top: 20px; }
  .chart.wide { display: none; } .chart.narrow { display: block; }
  .bar { width: 34px; margin-right: 5px; } th, td { padding-left: 9px; }
  .tiles { grid-template-columns: repeat(2, 1fr); } .tiles div:last-child:nth-child(odd) { grid-column: span 2; }
}
@media print { details.set { break-inside: avoid; } body { font-size: 12px; } }
`
