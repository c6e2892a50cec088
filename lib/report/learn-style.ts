/** What the page of a stream of tasks needs beside the common style: colours of eight methods, and cells of heat. */
export const LEARN_STYLE = `
:root { --line-0: #00695f; --line-1: #b34a00; --line-2: #34588f; --line-3: #8a2f7a; --line-4: #6b6a00; --line-5: #9c1f3c; --line-6: #1f7a9c; --line-7: #5c6763; --most: 62%; }
@media (prefers-color-scheme: dark) { :root {
  --line-0: #52c2b0; --line-1: #f2955c; --line-2: #93b4ec; --line-3: #e39bd3; --line-4: #cfcb5a; --line-5: #f0849b; --line-6: #6fcdee; --line-7: #9aa7a2; --most: 48%; } }
.heat { width: auto; border-collapse: separate; border-spacing: 2px; font-size: 0.8rem; }
.heat caption { text-align: left; color: var(--muted); font-size: 0.85rem; padding-bottom: 4px; caption-side: top; }
.heat th, .heat td { border: 0; padding: 0; vertical-align: middle; }
.heat th:first-child { min-width: 0; padding-right: 6px; white-space: nowrap; }
.heat td { min-width: 26px; height: 26px; text-align: center; border-radius: 3px; border: 1px solid transparent; }
.heat .hot { background: color-mix(in srgb, var(--accent) calc(var(--heat) * var(--most)), var(--card)); }
.heat .cold { background: color-mix(in srgb, var(--warm) calc(var(--heat) * var(--most)), var(--card)); }
.heat .before { border: 1px dashed var(--muted); }
.heat .own { font-weight: 700; border: 1px solid var(--ink); }
.heat .none { color: var(--muted); }
.heat .turned { vertical-align: bottom; text-align: center; padding-bottom: 3px; color: var(--muted); }
.heat .turned span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; max-height: 8.5rem; }
.heat .gap { border-left: 8px solid transparent; background-clip: padding-box; } .heat td.gap { min-width: 34px; } .wide-cells .heat td.gap { min-width: 56px; }
.key { display: inline-block; width: 20px; height: 0; border-top: 3px solid var(--accent); vertical-align: 4px; margin-right: 2px; }
.key.before { border-top: 3px dashed var(--warm); } .key.watched { border-top: 3px dotted var(--cool); }
.swatch { display: inline-block; width: 15px; height: 15px; border-radius: 3px; vertical-align: -3px; margin-right: 3px; border: 1px solid transparent; background: var(--card); }
.swatch.hot { background: color-mix(in srgb, var(--accent) var(--most), var(--card)); } .swatch.cold { background: color-mix(in srgb, var(--warm) var(--most), var(--card)); }
.swatch.before { border: 1px dashed var(--muted); } .swatch.own { border: 1px solid var(--ink); }
.wide-cells .heat td { min-width: 48px; height: 32px; font-size: 0.9rem; }
.lead p + p { margin-top: -2px; }
section h3 { margin-top: 22px; } td small, #cost td { white-space: nowrap; }
`
