#!/usr/bin/env bash
# Turns Grafana's own published types into the JSON Schemas of tests/data/grafana, in a folder that is thrown
# away. Needs Node.js and npm. To be run again when the dashboards use another kind of panel or another Grafana.
set -euo pipefail

out=$(cd "$(dirname "$0")/../../tests/data/grafana" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --no-save --silent @grafana/schema@11.6.16 ts-json-schema-generator@2.4.0

raw=./node_modules/@grafana/schema/dist/esm/raw

schema() { # FILE TYPE NAME
    npx ts-json-schema-generator --no-type-check --jsDoc none --expose none --minify --path "$1" --type "$2" >"$out/$3.json"
}

panel() { # TYPE-OF-PANEL FOLDER MODULE; stats have no field options of their own
    local types="$raw/composable/$2/panelcfg/x/$3PanelCfg_types.gen" custom='Record<string, never>'
    if grep -q 'interface FieldConfig' "$types.d.ts"; then custom="panel.FieldConfig"; fi
    echo "import type * as panel from '$types'; export interface Panel { options: panel.Options; custom: $custom }" >"$1.ts"
    schema "$1.ts" Panel "$1"
}

schema "$raw/dashboard/x/dashboard_types.gen.d.ts" Dashboard dashboard
panel stat stat Stat
panel table table Table
panel timeseries timeseries TimeSeries
panel xychart xychart XYChart
panel state-timeline statetimeline StateTimeline
