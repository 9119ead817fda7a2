"""The landing page's style sheet: one accent, colours that keep WCAG's contrast AA in light and in dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #fff; --ink: #1d2421; --soft: #59635f; --line: #e3e1da;
  --accent: #0b6b57; --tint: #e3f1ec; --alarm: #a8201a; --alarm-tint: #fbe9e7;
  --note: #6b4700; --note-tint: #fdf1d3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121615; --card: #1a201e; --ink: #e9ece9; --soft: #a0aba6; --line: #2c3532;
    --accent: #6fd3b8; --tint: #17342d; --alarm: #ff9d94; --alarm-tint: #43211e;
    --note: #f2cf84; --note-tint: #382c12;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  max-width: 44rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) 1.25rem 2rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere;
}
header p, caption, dt, thead th, footer { color: var(--soft); font-size: .875rem; }
h1 { font-size: clamp(1.4rem, 5vw, 1.9rem); line-height: 1.2; letter-spacing: -.02em; }
h2 { font-size: 1.125rem; line-height: 1.35; letter-spacing: -.01em; }
section, .simulated { margin-top: 1.5rem; padding: 1.25rem; border-radius: .75rem; }
section { border: 1px solid var(--line); background: var(--card); }
.simulated { padding-block: .75rem; background: var(--note-tint); color: var(--note); }
.poll h2 { display: flex; gap: .625rem; font-size: 1.3rem; }
.mark {
  flex: none; width: 1.75rem; height: 1.75rem; border-radius: 50%;
  background: var(--tint); color: var(--accent);
  font-size: 1rem; line-height: 1.75rem; text-align: center;
}
.failing .mark { background: var(--alarm-tint); color: var(--alarm); }
.waiting .mark { background: var(--line); color: var(--ink); }
.failing { border-color: var(--alarm); }
section p { margin-top: .75rem; }
.message { padding: .625rem .75rem; border-radius: .375rem; background: var(--alarm-tint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .375rem 1.25rem; margin-top: 1rem; }
dt { line-height: 1.55rem; }
time, td { font-variant-numeric: tabular-nums; }
time { white-space: nowrap; }
code { font: .875em ui-monospace, monospace; }
.total strong { margin-right: .125rem; font-size: 2.25rem; line-height: 1; letter-spacing: -.03em; }
table { width: 100%; margin-top: 1rem; border-collapse: collapse; }
caption { padding-bottom: .5rem; text-align: left; }
th, td { padding: .375rem 0; border-top: 1px solid var(--line); font-weight: inherit; text-align: left; }
td, th + th { text-align: right; }
.chip {
  display: inline-block; padding: .0625rem .625rem; border-radius: 1rem;
  background: var(--tint); color: var(--accent);
  font-size: .8125rem; font-weight: 600; letter-spacing: .02em;
}
.none { color: var(--soft); }
.none .chip { background: none; color: var(--soft); font-weight: 400; outline: 1px solid var(--line); }
.failed td { color: var(--alarm); font-weight: 700; }
.failed .chip { background: var(--alarm-tint); color: var(--alarm); }
nav { margin-top: 1.5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; padding: 0; list-style: none; }
a { display: inline-block; padding: .25rem 0; color: var(--accent); text-underline-offset: .2em; }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: .125rem; }
footer { margin-top: 1rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd + dt { margin-top: .5rem; } }
"""
