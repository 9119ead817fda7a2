#!/usr/bin/env bash
# Build the current releases of the programs that the tests run against, at the versions pinned in each go.mod, into
# $PROGRAMS (a cache outside the checkout). What is there already at that version is not built again. Without arguments,
# what `make test` takes; helm, otelcol and kubernetes, which take longer, are built when named.
set -euo pipefail
cd "$(dirname "$0")"
programs=${PROGRAMS:-${XDG_CACHE_HOME:-$HOME/.cache}/cohere-finetune-exporter/programs}
command -v go >/dev/null || { echo "needs Go 1.25 or later: https://go.dev/doc/install" >&2; exit 1; }
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # FOLDER [FLAG...] PACKAGE...: each package's last element names its binary
    local folder=$1 into=bin linked='-s -w' stamp version
    shift
    case $folder in kubernetes-*) # the server says which version it is, as clients ask
        version=$(sed -n 's/^require k8s.io.kubernetes //p' "$folder/go.mod")
        into=$folder linked+=" -X k8s.io/component-base/version.gitVersion=$version"
        linked+=" -X k8s.io/client-go/pkg/version.gitVersion=$version" ;;
    esac
    stamp="$programs/$folder.$({ cat "$folder"/go.mod "$folder"/go.sum; printf '%s ' "${@/$work/}"; } | sha256sum | cut -c1-16)"
    [ -e "$stamp" ] && return
    mkdir -p "$programs/$into"
    (cd "$folder" && go build -ldflags="$linked" -o "$programs/$into/" "$@")
    rm -f "$programs/$folder".*
    touch "$stamp"
}

[ $# -gt 0 ] || set -- prometheus alertmanager json_exporter victoria
for folder in "$@"; do
    case $folder in
        helm) build helm helm.sh/helm/v4/cmd/helm ;;
        prometheus) # without the service discoveries of clouds, which are most of what there is to compile
            build prometheus -tags remove_all_sd github.com/prometheus/prometheus/cmd/{prometheus,promtool} ;;
        alertmanager)
            # Its module lacks the built web interface, which no test opens; an empty page takes its place in a copy.
            cp -R --no-preserve=mode "$(cd alertmanager && go mod download && go list -m -f '{{.Dir}}' \
                github.com/prometheus/alertmanager)" "$work/source"
            mkdir -p "$work/source/ui/app/dist"
            echo '<!doctype html>' >"$work/source/ui/app/dist/index.html"
            cp alertmanager/go.sum "$work/go.sum"
            { cat alertmanager/go.mod; echo "replace github.com/prometheus/alertmanager => $work/source"; } >"$work/go.mod"
            build alertmanager -modfile "$work/go.mod" github.com/prometheus/alertmanager/cmd/{alertmanager,amtool}
            ;;
        otelcol) build otelcol -tags remove_all_sd . ;; # discovery would be most of it
        victoria) build victoria github.com/VictoriaMetrics/VictoriaMetrics/app/{victoria-metrics,vmagent,vmalert,vmalert-tool} ;;
        kubernetes) # and the schemas of the Prometheus Operator's resources
            for version in kubernetes-*; do
                build "$version" k8s.io/kubernetes/cmd/{kube-apiserver,kubectl}
            done
            operator=$(cd operator && go mod download github.com/prometheus-operator/prometheus-operator &&
                go list -m -f '{{.Dir}}' github.com/prometheus-operator/prometheus-operator)
            mkdir -p "$programs/operator"
            cp -f --no-preserve=mode "$operator"/example/prometheus-operator-crd/*.yaml "$programs/operator/"
            ;;
        json_exporter) build json_exporter github.com/prometheus-community/json_exporter ;;
        *) echo "no such program: $folder" >&2; exit 2 ;;
    esac
done
