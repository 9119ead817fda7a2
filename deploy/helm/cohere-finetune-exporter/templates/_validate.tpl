{{/* Refuses what cannot work before it is installed. */}}

{{- define "cohere-finetune-exporter.validate" -}}
{{- include "cohere-finetune-exporter.validateRenamed" . -}}
{{- include "cohere-finetune-exporter.validateKey" . -}}
{{- include "cohere-finetune-exporter.validateCheck" . -}}
{{- include "cohere-finetune-exporter.validateOptions" . -}}
{{- include "cohere-finetune-exporter.validateNetwork" . -}}
{{- include "cohere-finetune-exporter.validateScrape" . -}}
{{- end -}}

{{/* Where the API key comes from, as the user gave it: a list, empty when there is none. */}}
{{- define "cohere-finetune-exporter.keySources" -}}
{{- $sources := list -}}
{{- if .Values.apiKey.existingSecret -}}
{{- $sources = append $sources "apiKey.existingSecret" -}}
{{- end -}}
{{- if dig "cohere" "api-key-file" "" (.Values.config | default dict) -}}
{{- $sources = append $sources "config.cohere.api-key-file" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "COHERE_API_KEY" "CO_API_KEY" "COHERE_EXPORTER_COHERE_API_KEY_FILE") -}}
{{- $sources = append $sources (printf "extraEnv %s" .name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if hasPrefix "--cohere.api-key-file" . -}}
{{- $sources = append $sources "extraArgs --cohere.api-key-file" -}}
{{- end -}}
{{- end -}}
{{- join ", " $sources -}}
{{- end -}}

{{- define "cohere-finetune-exporter.validateKey" -}}
{{- $sources := include "cohere-finetune-exporter.keySources" . -}}
{{- if contains ", " $sources -}}
{{- fail (printf "the API key is given more than once (%s); keep one" $sources) -}}
{{- end -}}
{{- if and (include "cohere-finetune-exporter.isHosted" .) (not (or $sources .Values.envFrom .Values.demo.enabled)) -}}
{{- fail (printf "there is no API key, and %s needs one: set apiKey.existingSecret, or config.cohere.base-url to a deployment that needs none, or demo.enabled" (include "cohere-finetune-exporter.baseUrl" .)) -}}
{{- end -}}
{{- end -}}

{{/* The injector puts its init container last, where the one before it would wait for the key for ever. */}}
{{- define "cohere-finetune-exporter.validateCheck" -}}
{{- $first := "vault.hashicorp.com/agent-init-first" -}}
{{- $annotations := merge (dict) .Values.podAnnotations .Values.commonAnnotations -}}
{{- $injects := eq "true" (get $annotations "vault.hashicorp.com/agent-inject" | toString) -}}
{{- if and .Values.configCheck.enabled $injects (not .Values.demo.enabled) (not .Values.apiKey.existingSecret) (ne "true" (get $annotations $first | toString)) -}}
{{- fail (printf "configCheck.enabled reads the key before Vault's agent brings it: set podAnnotations %s: \"true\"" $first) -}}
{{- end -}}
{{- end -}}

{{/* The options of config against their bounds; the schema has checked their types. */}}
{{- define "cohere-finetune-exporter.validateOptions" -}}
{{- $config := .Values.config | default dict -}}
{{- range $key, $bounds := .Files.Get "files/options.json" | fromJson -}}
{{- $path := splitList "." $key -}}
{{- $value := dig (index $path 0) (index $path 1) nil (deepCopy $config) -}}
{{- if and (eq $bounds.type "REGEX") $value -}}
{{- include "cohere-finetune-exporter.validateRegex" (list $value $bounds.unjudged) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- include "cohere-finetune-exporter.validateBounds" (list $key $bounds (include "cohere-finetune-exporter.number" $value | float64)) -}}
{{- end -}}
{{- end -}}
{{- $cohere := index $config "cohere" | default dict -}}
{{- if and (index $cohere "client-key-file") (not (index $cohere "client-cert-file")) -}}
{{- fail "config.cohere.client-key-file: needs config.cohere.client-cert-file" -}}
{{- end -}}
{{- $default := ternary "5s" "60s" .Values.demo.enabled -}}
{{- $interval := dig "poll" "interval" $default $config | default $default -}}
{{- $seconds := include "cohere-finetune-exporter.number" $interval | float64 -}}
{{- $shortest := dict "idle-interval" $seconds "stale-after" (mulf 2 $seconds) -}}
{{- range $name, $least := $shortest -}}
{{- $value := dig "poll" $name nil (deepCopy $config) -}}
{{- if not (kindIs "invalid" $value) -}}
{{- if lt (include "cohere-finetune-exporter.number" $value | float64) (float64 $least) -}}
{{- fail (printf "config.poll.%s: must be at least %vs, because the interval is %v" $name $least $interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Include with (list KEY BOUNDS NUMBER). */}}
{{- define "cohere-finetune-exporter.validateBounds" -}}
{{- $bounds := index . 1 -}}
{{- $number := index . 2 -}}
{{- if and (hasKey $bounds "ge") (lt $number (float64 $bounds.ge)) -}}
{{- fail (printf "config.%s: must be at least %v" (index . 0) $bounds.ge) -}}
{{- end -}}
{{- if and (hasKey $bounds "gt") (le $number (float64 $bounds.gt)) -}}
{{- fail (printf "config.%s: must be more than %v" (index . 0) $bounds.gt) -}}
{{- end -}}
{{- if and (hasKey $bounds "le") (gt $number (float64 $bounds.le)) -}}
{{- fail (printf "config.%s: must be at most %v" (index . 0) $bounds.le) -}}
{{- end -}}
{{- end -}}

{{/*
A regular expression: include with (list TEXT UNJUDGED). Go judges here, Python in the exporter: what they may see
differently, by the expression UNJUDGED, is left to the exporter. An error quotes the expression.
*/}}
{{- define "cohere-finetune-exporter.validateRegex" -}}
{{- $text := index . 0 | trim -}}
{{- if not (regexMatch (index . 1) $text) -}}
{{- $_ := mustRegexMatch $text "" -}}
{{- end -}}
{{- end -}}

{{/* A number, or a duration such as 1m30s in seconds. */}}
{{- define "cohere-finetune-exporter.number" -}}
{{- if not (kindIs "string" .) -}}
{{- printf "%f" (float64 .) -}}
{{- else if regexMatch "[a-z]" . -}}
{{- $units := dict "y" 31536000 "w" 604800 "d" 86400 "h" 3600 "m" 60 "s" 1 "ms" 0.001 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+(ms|[ywdhms])" . -1 -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9]+" . | float64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- printf "%f" (float64 $sum) -}}
{{- else -}}
{{- trim . | trimPrefix "+" -}}
{{- end -}}
{{- end -}}

{{/* A NetworkPolicy must let out to the API, as far as that is known here; NOTES.txt says what is not. */}}
{{- define "cohere-finetune-exporter.validateNetwork" -}}
{{- if and .Values.networkPolicy.enabled (not .Values.demo.enabled) -}}
{{- $route := include "cohere-finetune-exporter.route" . | fromJson -}}
{{- if and $route.unknown (not .Values.networkPolicy.egress) -}}
{{- fail (printf "networkPolicy.egress must be set, because only the pod knows where the exporter connects to (%s): let out DNS and the port of the API, or of the proxy in front of it" (join ", " $route.unknown)) -}}
{{- end -}}
{{- if not (or $route.unknown (empty $route.ports) (empty .Values.networkPolicy.egress) (include "cohere-finetune-exporter.letOut" (list .Values.networkPolicy.egress $route.ports))) -}}
{{- fail (printf "networkPolicy.egress lets out no connection to %s: allow TCP port %s" (include "cohere-finetune-exporter.baseUrl" .) (join " or " $route.ports)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cohere-finetune-exporter.validateScrape" -}}
{{- with .Values.serviceMonitor -}}
{{- if and .interval .scrapeTimeout -}}
{{- if gt (include "cohere-finetune-exporter.number" .scrapeTimeout | float64) (include "cohere-finetune-exporter.number" .interval | float64) -}}
{{- fail (printf "serviceMonitor.scrapeTimeout: must be at most the interval (%s)" .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values of charts before this one whose meaning cannot be kept. */}}
{{- define "cohere-finetune-exporter.validateRenamed" -}}
{{- if .Values.apiKey.value -}}
{{- fail "apiKey.value is gone: create a Secret and set apiKey.existingSecret to its name" -}}
{{- end -}}
{{- range $name := list "ingress" "egress" -}}
{{- if kindIs "map" (index $.Values.networkPolicy $name) -}}
{{- fail (printf "networkPolicy.%s is a list of rules now, as a NetworkPolicy has them" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* One line for each value of charts before this one that has another name now. */}}
{{- define "cohere-finetune-exporter.renamed" -}}
{{- if .Values.image.pullSecrets }}
- image.pullSecrets is imagePullSecrets: [{name: ...}]
{{- end }}
{{- if .Values.web.scheme }}
- web.scheme is serviceMonitor.scheme; web.tlsSecret implies https
{{- end }}
{{- if .Values.web.probes }}
- web.probes is without effect: probes have a port of their own
{{- end }}
{{- if .Values.serviceMonitor.labels }}
- serviceMonitor.labels is serviceMonitor.additionalLabels
{{- end }}
{{- if .Values.prometheusRule.labels }}
- prometheusRule.labels is prometheusRule.additionalLabels
{{- end }}
{{- range $old := list "runbooks" "grafana" }}
{{- if index $.Values.prometheusRule $old }}
- prometheusRule.{{ $old }} is prometheusRule.{{ $old }}Url
{{- end }}
{{- end }}
{{- end -}}
