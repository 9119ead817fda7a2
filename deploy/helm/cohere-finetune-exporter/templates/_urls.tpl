{{/*
Where the exporter connects to, from config, extraEnv and extraArgs as the exporter itself would read them. What only the
pod knows (valueFrom, envFrom, $(NAME)) is unknown here, and named.
*/}}

{{/* A value from somewhere, as JSON: {value}, {unknown: SOURCE}, or {} if it is blank. Include with (list VALUE SOURCE). */}}
{{- define "cohere-finetune-exporter.known" -}}
{{- $value := index . 0 | default "" | toString | trim -}}
{{- $known := dict "value" $value -}}
{{- if contains "$(" $value -}}
{{- $known = dict "unknown" (index . 1) -}}
{{- end -}}
{{- empty $value | ternary dict $known | toJson -}}
{{- end -}}

{{/* The first variable of extraEnv that is set, likewise: include with (list $ NAME...). */}}
{{- define "cohere-finetune-exporter.variable" -}}
{{- $found := dict -}}
{{- range $name := rest . -}}
{{- $given := dict -}}
{{- range (index $ 0).Values.extraEnv -}}
{{- if eq .name $name -}}
{{- $given = include "cohere-finetune-exporter.known" (list (empty .valueFrom | ternary .value "$(") (printf "extraEnv %s" $name)) | fromJson -}}
{{- end -}}
{{- end -}}
{{- $found = $found | default $given -}}
{{- end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* The base URL, likewise; what envFrom may replace has both. */}}
{{- define "cohere-finetune-exporter.base" -}}
{{- $found := dict -}}
{{- $arguments := append .Values.extraArgs "" -}}
{{- range $place, $argument := $arguments -}}
{{- if regexMatch "^--cohere\\.base-url(=|$)" $argument -}}
{{- $value := contains "=" $argument | ternary (trimPrefix "--cohere.base-url=" $argument) (index $arguments (add1 $place | min (len $.Values.extraArgs))) -}}
{{- $found = include "cohere-finetune-exporter.known" (list $value "extraArgs --cohere.base-url") | fromJson -}}
{{- end -}}
{{- end -}}
{{- $found = $found | default (include "cohere-finetune-exporter.variable" (list . "COHERE_EXPORTER_COHERE_BASE_URL" "CO_API_URL") | fromJson) -}}
{{- $configured := dig "cohere" "base-url" "" (.Values.config | default dict) | default "https://api.cohere.com" -}}
{{- $configured = dict "value" (trim $configured) -}}
{{- if .Values.envFrom -}}
{{- $_ := set $configured "unknown" "envFrom" -}}
{{- end -}}
{{- $found | default $configured | toJson -}}
{{- end -}}

{{/* The base URL; empty if it is unknown. */}}
{{- define "cohere-finetune-exporter.baseUrl" -}}
{{- (include "cohere-finetune-exporter.base" . | fromJson).value | default "" -}}
{{- end -}}

{{- define "cohere-finetune-exporter.isHosted" -}}
{{- regexMatch "^(?i)https?://([^/]*\\.)?cohere\\.(com|ai)\\.?(:[0-9]*)?(/|$)" (include "cohere-finetune-exporter.baseUrl" .) | ternary "true" "" -}}
{{- end -}}

{{/* Host and port of a URL, as JSON; that of a proxy may lack its scheme. */}}
{{- define "cohere-finetune-exporter.address" -}}
{{- $authority := regexReplaceAll "^([A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*@)?([^/?#]*).*$" . "${3}" | lower -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $authority) | default (hasPrefix "https://" (lower .) | ternary "443" "80") -}}
{{- dict "host" (regexReplaceAll ":[0-9]*$" $authority "" | trimSuffix ".") "port" (atoi $port) | toJson -}}
{{- end -}}

{{/* Whether NO_PROXY covers an address: yes or no, or maybe where networks decide. Include with (list ADDRESS NO_PROXY). */}}
{{- define "cohere-finetune-exporter.bypasses" -}}
{{- $host := (index . 0).host -}}
{{- $port := (index . 0).port | int -}}
{{- $answer := "no" -}}
{{- range regexSplit "[,\\s]+" (index . 1 | lower) -1 -}}
{{- $only := regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default $port | toString | atoi -}}
{{- $name := regexReplaceAll ":[0-9]*$" . "" | trimPrefix "*" -}}
{{- $domain := trimAll "." $name -}}
{{- if eq . "*" -}}
{{- $answer = "yes" -}}
{{- else if and (regexMatch "^([0-9.]+|\\[.*)$" $host) (regexMatch "[/:]" .) -}}
{{- $answer = eq $answer "yes" | ternary "yes" "maybe" -}}
{{- else if and $domain (eq $only $port) (or (hasSuffix (printf ".%s" $domain) $host) (eq $host (trimSuffix "." $name))) -}}
{{- $answer = "yes" -}}
{{- end -}}
{{- end -}}
{{- $answer -}}
{{- end -}}

{{/*
The TCP ports to one of which the exporter connects, and from where it learns of others that are unknown, as JSON. No
port: the API is in the pod itself.
*/}}
{{- define "cohere-finetune-exporter.route" -}}
{{- $base := include "cohere-finetune-exporter.base" . | fromJson -}}
{{- $address := include "cohere-finetune-exporter.address" ($base.value | default "") | fromJson -}}
{{- $proxy := hasPrefix "http:" (lower ($base.value | default "")) | ternary "http_proxy" "https_proxy" -}}
{{- $proxy = include "cohere-finetune-exporter.variable" (list . (upper $proxy) $proxy "ALL_PROXY" "all_proxy") | fromJson -}}
{{- $exceptions := include "cohere-finetune-exporter.variable" (list . "NO_PROXY" "no_proxy") | fromJson -}}
{{- $unknown := compact (list $base.unknown (empty .Values.envFrom | ternary "" "envFrom") $proxy.unknown (empty $proxy | ternary "" $exceptions.unknown)) -}}
{{- $ports := list $address.port -}}
{{- if $proxy.value -}}
{{- $through := (include "cohere-finetune-exporter.address" $proxy.value | fromJson).port -}}
{{- $bypasses := include "cohere-finetune-exporter.bypasses" (list $address ($exceptions.value | default "")) -}}
{{- $ports = get (dict "yes" $ports "no" (list $through) "maybe" (list $address.port $through)) $bypasses -}}
{{- end -}}
{{- if and (regexMatch "^(localhost|127\\.[0-9.]+|\\[::1])$" $address.host) (not $base.unknown) -}}
{{- $unknown = list -}}
{{- $ports = list -}}
{{- end -}}
{{- dict "ports" $ports "unknown" (uniq $unknown) | toJson -}}
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

{{/* The host of the API if it is a name, and networkPolicy.egress lets out no DNS by which to resolve it. */}}
{{- define "cohere-finetune-exporter.unresolved" -}}
{{- $host := (include "cohere-finetune-exporter.address" (include "cohere-finetune-exporter.baseUrl" .) | fromJson).host -}}
{{- $isName := not (regexMatch "^(localhost|[0-9.]+|\\[.*)?$" $host) -}}
{{- $rules := .Values.networkPolicy.egress -}}
{{- if and .Values.networkPolicy.enabled $rules $isName (not .Values.hostAliases) (not .Values.demo.enabled) -}}
{{- $letsOut := false -}}
{{- range $rule := $rules -}}
{{- range $allowed := $rule.ports | default (list (dict "protocol" "UDP")) -}}
{{- $first := $allowed.port | default 53 -}}
{{- $isPort := kindIs "string" $first | ternary (list 53 53) (list (int $first) ($allowed.endPort | default $first | int)) -}}
{{- range $port := list 53 5353 -}}
{{- if and (eq ($allowed.protocol | default "TCP") "UDP") (ge $port (index $isPort 0)) (le $port (index $isPort 1)) -}}
{{- $letsOut = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $letsOut | ternary "" $host -}}
{{- end -}}
{{- end -}}
