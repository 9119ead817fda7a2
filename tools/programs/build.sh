#!/usr/bin/env bash
# Build the current releases of the programs that the tests run against, at the versions pinned in each go.mod, into
# $PROGRAMS (a cache outside the checkout). What is there already at that version is not built again, and then nothing
# is downloaded. Without arguments, what `make test` takes; helm, otelcol and kubernetes, which take longer, are built
# when named; `go` only looks whether Go is there and new enough.
set -euo pipefail
cd "$(dirname "$0")"
programs=${PROGRAMS:-${XDG_CACHE_HOME:-$HOME/.cache}/cohere-finetune-exporter/programs}
needed=$(sed -n 's/^go //p' ./*/go.mod | sort --version-sort | tail -n 1)
# In the folder that needs the most, so that Go may fetch the toolchain of that version by itself.
go=$(cd "$(grep -l "^go $needed$" ./*/go.mod | head -n 1 | xargs dirname)" && go env GOVERSION 2>/dev/null) || go=go0
printf '%s\n' "go$needed" "$go" | sort --version-sort --check=quiet ||
    { echo "needs Go $needed or later: https://go.dev/dl/" >&2; exit 1; }
[ "${1-}" != go ] || exit 0
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$programs"
exec 9>"$programs/.lock" && flock 9 # builds into one cache take turns

build() { # FOLDER [FLAG...] PACKAGE...: each package's last element names its binary
    local folder=$1 into=bin linked='-s -w' stamp version flags=()
    shift
    case $folder in kubernetes-*) # the server says which version it is, as clients ask
        version=$(sed -n 's/^require k8s.io.kubernetes //p' "$folder/go.mod")
        into=$folder linked+=" -X k8s.io/component-base/version.gitVersion=$version"
        linked+=" -X k8s.io/client-go/pkg/version.gitVersion=$version" ;;
    esac
    stamp=$(stamp_of "$folder" "$linked" "$@")
    [ -e "$stamp" ] && are_there "$programs/$into" "$folder" "$@" && return
    [ "$folder" != alertmanager ] || { with_an_empty_page; flags=(-modfile "$work/go.mod"); }
    rm -f "$programs/$folder".*
    mkdir -p "$programs/$into"
    (cd "$folder" && go build -ldflags="$linked" "${flags[@]}" -o "$programs/$into/" "$@")
    touch "$stamp"
}

stamp_of() { # FOLDER ARGUMENT...
    echo "$programs/$1.$({ cat "$1"/*; printf '%s ' "$@"; } | sha256sum | cut -c1-16)"
}

are_there() { # WHERE FOLDER [FLAG...] PACKAGE...
    local where=$1 folder=$2 package
    shift 2
    for package; do
        case $package in
            */*) [ -x "$where/${package##*/}" ] || return 1 ;;
            .) [ -x "$where/$folder" ] || return 1 ;;
        esac
    done
}

source_of() { # FOLDER MODULE
    (cd "$1" && go mod download "$2" && go list -m -f '{{.Dir}}' "$2")
}

with_an_empty_page() { # in a copy, since Alertmanager's module lacks the built web interface, which no test opens
    local module=github.com/prometheus/alertmanager source
    source=$(source_of alertmanager "$module")
    cp -R --no-preserve=mode "$source" "$work/source"
    mkdir -p "$work/source/ui/app/dist"
    echo '<!doctype html>' >"$work/source/ui/app/dist/index.html"
    cp alertmanager/go.sum "$work/go.sum"
    { cat alertmanager/go.mod; echo "replace $module => $work/source"; } >"$work/go.mod"
}

schemas() { # of the Prometheus Operator's resources
    local stamp source
    stamp=$(stamp_of operator)
    [ -e "$stamp" ] && [ -e "$programs/operator" ] && return
    source=$(source_of operator github.com/prometheus-operator/prometheus-operator)
    rm -rf "$programs/operator" "$programs"/operator.*
    mkdir "$programs/operator"
    cp --no-preserve=mode "$source"/example/prometheus-operator-crd/*.yaml "$programs/operator/"
    touch "$stamp"
}

[ $# -gt 0 ] || set -- prometheus alertmanager json_exporter victoria
for folder in "$@"; do
    case $folder in
        helm) build helm helm.sh/helm/v4/cmd/helm ;;
        prometheus) # without the service discoveries of clouds, which are most of what there is to compile
            build prometheus -tags remove_all_sd github.com/prometheus/prometheus/cmd/{prometheus,promtool} ;;
        alertmanager) build alertmanager github.com/prometheus/alertmanager/cmd/{alertmanager,amtool} ;;
        otelcol) build otelcol -tags remove_all_sd . ;; # discovery would be most of it
        victoria)
            build victoria github.com/VictoriaMetrics/VictoriaMetrics/app/{victoria-metrics,vmagent,vmalert,vmalert-tool} ;;
        kubernetes)
            for version in kubernetes-*; do
                build "$version" k8s.io/kubernetes/cmd/{kube-apiserver,kubectl}
            done
            schemas
            ;;
        json_exporter) build json_exporter github.com/prometheus-community/json_exporter ;;
        *) echo "no such program: $folder" >&2; exit 2 ;;
    esac
done
