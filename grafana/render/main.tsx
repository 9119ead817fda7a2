import React, { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, DataFrame, FieldType, getFieldDisplayValues, getDisplayProcessor,
  standardTransformers, standardTransformersRegistry, transformDataFrame, ThemeContext, toDataFrame,
  standardFieldConfigEditorRegistry, FieldConfigOptionsRegistry, getFieldDisplayName,
} from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries, PortalContainer } from '@grafana/ui';
import { TableNG as Table } from "@grafana/ui/unstable";
import { firstValueFrom, map } from 'rxjs';

type Json = any;
declare const INPUT: { dashboard: Json; prometheus: string; from: number; to: number; variables: Record<string, string>; width: number; row: number };
const theme = createTheme({ colors: { mode: 'dark' } });
const { from, to, row: ROW } = INPUT;
const late = Date.now() - to * 1000, wallClock = Date.now;
Date.now = () => wallClock() - late; // "5 minutes ago" is seen from the end of the time range
const step = Math.max(5, Math.ceil((to - from) / 700));
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1h', to: 'now' } };

const identity = (id: string) => ({ id, path: id.replace(/^custom\./, ''), isCustom: id.startsWith('custom.'), name: id,
  editor: () => null, override: () => null, process: (v: any, c: any) => (id === 'displayName' && typeof v === 'string' ? c.replaceVariables(v, c.field?.state?.scopedVars) : v), shouldApply: () => true, settings: {} });
const options = ['displayName', 'unit', 'decimals', 'mappings', 'thresholds', 'color', 'noValue', 'min', 'max', 'custom.width',
  'custom.hidden', 'custom.hideFrom', 'custom.cellOptions', 'custom.axisPlacement', 'custom.axisLabel', 'custom.align', 'custom.filterable'];
const custom = INPUT.dashboard.panels.filter((p: Json) => p.fieldConfig).flatMap((p: Json) => [...Object.keys(p.fieldConfig.defaults.custom ?? {}).map((key) => `custom.${key}`),
  ...p.fieldConfig.overrides.flatMap((o: Json) => o.properties.map((property: Json) => property.id))]);
const registry = new FieldConfigOptionsRegistry(() => [...new Set([...options, ...custom])].map(identity) as any);
standardFieldConfigEditorRegistry.setInit(() => options.filter((o) => !o.includes('.')).map(identity) as any);
/* Grafana has this one outside of its packages. */
const partitionByValues = { id: 'partitionByValues', name: '', defaultOptions: {}, operator: (o: Json) => (source: any) => source.pipe(map((data: any) => data.flatMap((frame: any) => {
  const key = frame.fields.find((f: any) => f.name === o.fields[0]);
  return !key ? [] : [...new Set<string>(key.values)].map((value) => { const rows = key.values.map((v: any, i: number) => (v === value ? i : -1)).filter((i: number) => i >= 0);
    return { length: rows.length, fields: frame.fields.filter((f: any) => f !== key).map((f: any) => ({ ...f, config: { ...f.config }, labels: { [key.name]: value }, values: rows.map((i: number) => f.values[i]) })) }; });
}))) };
standardTransformersRegistry.setInit(() => [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer, standardTransformers.joinByFieldTransformer,
  standardTransformers.groupingToMatrixTransformer, partitionByValues].map((t: any) => ({ id: t.id, name: t.name, transformation: async () => t })) as any);

const fill = (expr: string) => Object.entries({ __rate_interval: `${Math.max(20, step + 5)}s`, __range: `${to - from}s`, __interval: `${step}s`, ...INPUT.variables })
  .reduce((e, [name, value]) => e.split('${' + name + '}').join(value).split('$' + name).join(value), expr);

async function ask(target: Json): Promise<Json[]> {
  const parameters = target.instant ? { query: fill(target.expr), time: String(to) }
    : { query: fill(target.expr), start: String(from), end: String(to), step: String(step) };
  const answer = await fetch(`${INPUT.prometheus}/api/v1/${target.instant ? 'query' : 'query_range'}?` + new URLSearchParams(parameters));
  const json = await answer.json();
  if (json.status !== 'success') throw new Error(`${json.error}: ${target.expr}`);
  return json.data.result.map((s: Json) => ({ labels: s.metric, points: s.values ?? [s.value] }));
}

function tableFrame(target: Json, series: Json[], several: boolean): DataFrame {
  const names = [...new Set(series.flatMap((s) => Object.keys(s.labels)))].sort();
  const rows = series.flatMap((s) => s.points.map((p: any) => ({ labels: s.labels, p })));
  return toDataFrame({ refId: target.refId, fields: series.length === 0 ? [] : [
    { name: 'Time', type: FieldType.time, values: rows.map((r) => r.p[0] * 1000) },
    ...names.map((name) => ({ name, type: FieldType.string, values: rows.map((r) => r.labels[name] ?? '') })),
    { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: rows.map((r) => Number(r.p[1])) },
  ] });
}

function seriesFrame(target: Json, series: Json): DataFrame {
  const legend = target.legendFormat ? target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_: string, name: string) => series.labels[name] ?? '') : undefined;
  const grid = target.instant ? series.points.map((p: any) => p[0]) : Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);
  const at = new Map(series.points.map((p: any) => [p[0], p[1] === '+Inf' ? Infinity : Number(p[1])]));
  return toDataFrame({ refId: target.refId, name: legend, fields: [
    { name: 'Time', type: FieldType.time, values: grid.map((t: number) => t * 1000), config: { interval: step * 1000 } },
    { name: 'Value', type: FieldType.number, labels: series.labels, values: grid.map((t: number) => at.get(t) ?? null), config: { displayNameFromDS: legend } },
  ] });
}

async function frames(panel: Json): Promise<DataFrame[]> {
  const found: DataFrame[] = [];
  for (const target of panel.targets) {
    const series = await ask(target);
    if (target.format === 'table') found.push(tableFrame(target, series, panel.targets.length > 1));
    else found.push(...series.map((s) => seriesFrame(target, s)));
  }
  const transformed = panel.transformations?.length ? await firstValueFrom(transformDataFrame(panel.transformations, found, { interpolate: (s: string) => s } as any)) : found;
  const done = applyFieldOverrides({ data: transformed, fieldConfig: panel.fieldConfig, replaceVariables: (s, scoped: any) => s.replace(/\$\{__field\.labels\.(\w+)\}/g, (_, name) => scoped?.__dataContext?.value?.field?.labels?.[name] ?? ''), theme, timeZone: 'utc', fieldConfigRegistry: registry as any });
  for (const frame of done) for (const field of frame.fields) { field.state = { ...field.state, displayName: null }; getFieldDisplayName(field, frame, done); }
  return done;
}

const Empty = ({ text }: { text: string }) => <div style={{ display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary }}>{text}</div>;

function Stat({ panel, data, width, height }: any) {
  let values = getFieldDisplayValues({ fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (s: string) => s, theme, data, timeZone: 'utc' });
  const w = width / Math.max(1, values.length);
  return <div style={{ display: 'flex' }}>{values.map((v, i) => <BigValue key={i} width={w - 4} height={height} theme={theme} colorMode={panel.options.colorMode}
    graphMode={'none' as any} justifyMode={panel.options.justifyMode} text={panel.options.text}
    textMode={panel.options.textMode === 'value' ? 'value' as any : panel.options.textMode} value={v.display} />)}</div>;
}

/* @grafana/ui has no state timeline: this draws the nearest thing, with the fields' own texts and colours. */
function Timeline({ panel, data, width, height }: any) {
  const shown = data.slice(0, panel.options.perPage), label = shown.length > 1 ? 190 : 165, row = Math.min(60, (height - 34) / Math.max(1, shown.length));
  const x = (t: number) => label + ((t / 1000 - from) / (to - from)) * (width - label);
  const spans = shown.flatMap((f: DataFrame, line: number) => {
    const time = f.fields[0].values, field = f.fields[1], out: Json[] = [];
    const display = field.display ?? getDisplayProcessor({ field, theme });
    time.forEach((t: number, i: number) => { const v = field.values[i]; if (v == null) return; const last = out[out.length - 1];
      if (last && last.v === v && last.end >= t) last.end = t + step * 1000; else out.push({ v, start: t, end: t + step * 1000, line, d: display(v) }); });
    return out;
  });
  const seen = new Map(spans.map((s: Json) => [s.d.text, s.d.color]));
  return <svg width={width} height={height} style={{ font: '12px Inter, sans-serif' }}>
    {shown.map((f: DataFrame, i: number) => <text key={i} x={label - 8} y={(i + 0.5) * row + 4} textAnchor="end" fill={theme.colors.text.primary}>{getFieldDisplayName(f.fields[1], f)}</text>)}
    {spans.map((s: Json, i: number) => { const w = Math.max(1, Math.min(x(s.end), width) - x(s.start)); return <g key={i}><rect x={x(s.start)} width={w} y={s.line * row + row * 0.075} height={row * panel.options.rowHeight} fill={s.d.color} opacity={0.85} />
      {w > s.d.text.length * 7.5 && <text x={x(s.start) + 4} y={(s.line + 0.5) * row + 4} fill="#fff">{s.d.text}</text>}</g>; })}
    {[0, 1, 2, 3, 4, 5].map((i) => { const t = from + ((to - from) * (i + 0.5)) / 6; return <text key={i} x={x(t * 1000)} y={shown.length * row + 14} fill={theme.colors.text.secondary} textAnchor="middle">{new Date(t * 1000).toISOString().slice(11, 16)}</text>; })}
    {[...seen].map(([text, color]: any, i) => <g key={text}><rect x={label + i * 100} y={height - 10} width={14} height={4} fill={color} /><text x={label + i * 100 + 20} y={height - 4} fill={theme.colors.text.primary}>{text}</text></g>)}
  </svg>;
}

/* Nor has it an XY chart: lines over the first number of each frame. */
function XY({ data, width, height }: any) {
  const left = 60, bottom = height - 46, xs = data.flatMap((f: any) => f.fields[0].values), ys = data.flatMap((f: any) => f.fields[1].values).filter((v: any) => v != null);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (v: number) => left + ((v - x0) / (x1 - x0 || 1)) * (width - left - 10), y = (v: number) => bottom - ((v - y0) / (y1 - y0 || 1)) * (bottom - 10);
  const color = (i: number) => theme.visualization.getColorByName(theme.visualization.palette[i]);
  return <svg width={width} height={height} style={{ font: '12px Inter, sans-serif' }} fill={theme.colors.text.secondary}>
    {[0, 1, 2, 3, 4].map((i) => { const v = y0 + ((y1 - y0) * i) / 4, w = x0 + ((x1 - x0) * i) / 4; return <g key={i}><text x={left - 8} y={y(v) + 4} textAnchor="end">{v.toFixed(3)}</text><line x1={left} x2={width - 10} y1={y(v)} y2={y(v)} stroke={theme.colors.border.weak} /><text x={x(w)} y={bottom + 18} textAnchor="middle">{Math.round(w)}</text></g>; })}
    {data.map((f: any, i: number) => <g key={i}><polyline fill="none" stroke={color(i)} strokeWidth={2} points={f.fields[0].values.map((v: number, j: number) => (f.fields[1].values[j] == null ? '' : `${x(v)},${y(f.fields[1].values[j])}`)).join(' ')} />
      {f.fields[0].values.map((v: number, j: number) => f.fields[1].values[j] != null && <circle key={j} cx={x(v)} cy={y(f.fields[1].values[j])} r={2} fill={color(i)} />)}
      <rect x={left + i * 230} y={height - 12} width={14} height={4} fill={color(i)} /><text x={left + i * 230 + 20} y={height - 6}>{getFieldDisplayName(f.fields[1], f, data)}</text></g>)}
  </svg>;
}

function Body({ panel, data, width, height }: any) {
  const none = panel.fieldConfig.defaults.noValue;
  const rows = data.reduce((n: number, f: DataFrame) => n + f.length, 0);
  if (panel.type === 'stat') return <Stat {...{ panel, data, width, height }} />;
  if (!rows) return <Empty text={none} />;
  if (panel.type === 'table') return <Table data={data[0]} width={width} height={height} sortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} />;
  if (panel.type === 'state-timeline') return <Timeline {...{ panel, data, width, height }} />;
  if (panel.type === 'xychart') return <XY {...{ data, width, height }} />;
  return <TimeSeries frames={data} structureRev={1} width={width} height={height} timeRange={range as any} timeZone="utc" legend={panel.options.legend} options={panel.options} />;
}

function Panel({ panel }: { panel: Json }) {
  const [data, setData] = useState<DataFrame[] | Error>();
  useEffect(() => { if (panel.targets) frames(panel).then(setData, setData); }, []);
  if (panel.type === 'row') return <h5 style={{ position: 'absolute', left: 8, top: panel.gridPos.y * ROW + 8, color: theme.colors.text.primary }}>⌄ {panel.title}</h5>;
  const cell = INPUT.width / 24, g = panel.gridPos, width = g.w * cell - 8, height = g.h * ROW - 8;
  return <div className={data ? 'done' : 'waiting'} style={{ position: 'absolute', left: g.x * cell + 4, top: g.y * ROW + 4 }}>
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(w, h) => data === undefined ? <i /> : data instanceof Error ? <pre style={{ color: 'red', whiteSpace: 'pre-wrap' }}>{String(data)}</pre> : <Body {...{ panel, data }} width={w} height={h} />}
    </PanelChrome></div>;
}

const panels = INPUT.dashboard.panels;
const total = Math.max(...panels.map((p: Json) => p.gridPos.y + p.gridPos.h)) * ROW + 8;
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}><GlobalStyles /><PortalContainer />
    <div style={{ position: 'relative', width: INPUT.width, height: total + 56, background: theme.colors.background.canvas }}>
      <h3 style={{ padding: '14px 12px', margin: 0, color: theme.colors.text.primary }}>{INPUT.dashboard.title}</h3>
      <div style={{ position: 'relative', height: total }}>{panels.map((p: Json) => <Panel key={p.id} panel={p} />)}</div></div></ThemeContext.Provider>);
