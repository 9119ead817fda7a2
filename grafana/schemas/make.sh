#!/usr/bin/env bash
# Turns Grafana's own published types into the JSON Schemas of tests/data/grafana, in a folder that is thrown
# away. Needs Node.js and npm. To be run again when the dashboards use another kind of panel or another Grafana.
set -euo pipefail

out=$(cd "$(dirname "$0")/../../tests/data/grafana" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

schema() { # FILE TYPE NAME
    npx ts-json-schema-generator --no-type-check --jsDoc none --expose none --minify --path "$1" --type "$2" >"$out/$3.json"
}

panel() { # NAME TYPES; stats have no field options of their own
    local custom='Record<string, never>'
    if grep -q 'interface FieldConfig' "$2.d.ts"; then custom="panel.FieldConfig"; fi
    echo "import type * as panel from '$2'; export interface Panel { options: panel.Options; custom: $custom }" >panel.ts
    schema panel.ts Panel "$1"
}

of_grafana() { # VERSION
    npm install --no-save --silent "@grafana/schema@$1" ts-json-schema-generator@2.4.0
    mkdir -p "$out/${1%%.*}"
}

of_grafana 11.6.16
raw=./node_modules/@grafana/schema/dist/esm/raw
schema "$raw/dashboard/x/dashboard_types.gen.d.ts" Dashboard 11/dashboard
for name in Stat Table TimeSeries StateTimeline XYChart; do
    folder=${name,,}
    panel "11/${folder/statetimeline/state-timeline}" "$raw/composable/$folder/panelcfg/x/${name}PanelCfg_types.gen"
done

for version in 12.4.11 13.2.3; do
    of_grafana "$version"
    raw=./node_modules/@grafana/schema/dist/types/raw
    schema "$raw/dashboard/x/types.gen.d.ts" Dashboard "${version%%.*}/dashboard"
    for name in stat table timeseries state-timeline xychart; do
        folder=${name/-/}
        panel "${version%%.*}/$name" "$raw/composable/${folder/xychart/xychart2}/panelcfg/x/types.gen"
    done
done
