#!/usr/bin/env bash
# Draws each dashboard in each of the six states, or in those that are named: states.sh FOLDER [STATE…].
# Needs `npm install && npm run build` before, Prometheus, promtool and Chromium.
set -euo pipefail

folder=$1; shift
here=$(dirname "$0")
work=$(mktemp -d)
prometheus=
trap '[ -z "$prometheus" ] || kill "$prometheus"; rm -rf "$work"' EXIT
address=127.0.0.1:${PORT:-9099}
now=$(date +%s)

[ $# -gt 0 ] || set -- normal failed empty down many nameless

for state; do
    data=$work/$state
    mkdir -p "$data" "$folder/$state"
    python3 "$here/states.py" "$state" "$data.om" "$now"
    promtool tsdb create-blocks-from openmetrics --max-block-duration=200h "$data.om" "$data" >/dev/null
    prometheus --config.file=/dev/null --storage.tsdb.path="$data" --web.listen-address="$address" 2>"$data.log" &
    prometheus=$!
    until curl --silent --fail --output /dev/null "$address/-/ready"; do sleep 0.2; done
    python3 "$here/shoot.py" "http://$address" 1440 "$folder/$state" 60 "$now"
    kill "$prometheus"
    wait "$prometheus" || true
    prometheus=
done
