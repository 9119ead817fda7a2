{{/* Where the exporter connects to, from config, extraEnv and extraArgs as the exporter itself would read them. */}}

{{- define "cohere-finetune-exporter.baseUrl" -}}
{{- $url := dig "cohere" "base-url" "" (.Values.config | default dict) | default "https://api.cohere.com" -}}
{{- range $name := list "CO_API_URL" "COHERE_EXPORTER_COHERE_BASE_URL" -}}
{{- range $.Values.extraEnv -}}
{{- if and (eq .name $name) .value -}}
{{- $url = .value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if hasPrefix "--cohere.base-url=" . -}}
{{- $url = trimPrefix "--cohere.base-url=" . -}}
{{- end -}}
{{- end -}}
{{- $url -}}
{{- end -}}

{{- define "cohere-finetune-exporter.isHosted" -}}
{{- regexMatch "^(?i)https?://([^/]*\\.)?cohere\\.(com|ai)\\.?(:[0-9]*)?(/|$)" (include "cohere-finetune-exporter.baseUrl" .) | ternary "true" "" -}}
{{- end -}}

{{/* The port of a URL, which may lack its scheme as proxies do. */}}
{{- define "cohere-finetune-exporter.port" -}}
{{- $url := urlParse (contains "://" . | ternary . (printf "http://%s" .)) -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (eq (lower $url.scheme) "https" | ternary "443" "80") -}}
{{- end -}}

{{/* The ports that must be let out, as JSON: that of the API, or those of the proxies in front of it. */}}
{{- define "cohere-finetune-exporter.ports" -}}
{{- $ports := list (include "cohere-finetune-exporter.port" (include "cohere-finetune-exporter.baseUrl" .) | int) -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^(?i)(https?|all)_proxy$" .name -}}
{{- if .value -}}
{{- $ports = append $ports (include "cohere-finetune-exporter.port" .value | int) -}}
{{- else if not $.Values.networkPolicy.egress -}}
{{- fail (printf "networkPolicy.egress: the port of the proxy in %s is not known here; write the rules" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* The first of the ports that a list of egress rules lets out, "" if none: include with (list RULES PORTS). */}}
{{- define "cohere-finetune-exporter.letOut" -}}
{{- $found := list -}}
{{- $ports := index . 1 -}}
{{- range $rule := index . 0 -}}
{{- range $allowed := $rule.ports | default (list dict) -}}
{{- range $port := $ports -}}
{{- if ne ($allowed.protocol | default "TCP") "TCP" -}}
{{- else if or (not $allowed.port) (kindIs "string" $allowed.port) -}}
{{- $found = append $found $port -}}
{{- else if and (ge (int $port) (int $allowed.port)) (le (int $port) ($allowed.endPort | default $allowed.port | int)) -}}
{{- $found = append $found $port -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "" (slice (append $found "") 0 1) -}}
{{- end -}}
