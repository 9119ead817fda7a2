{{/* Names, labels and what several objects must agree on. */}}

{{- define "cohere-finetune-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, with the chart's unless it is in there. */}}
{{- define "cohere-finetune-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "cohere-finetune-exporter.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "cohere-finetune-exporter.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "cohere-finetune-exporter.selectorLabels" -}}
{{- dict "app.kubernetes.io/name" (include "cohere-finetune-exporter.name" .) "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end -}}

{{/* Labels of the pod; none changes with the chart's own version, which would restart it for nothing. */}}
{{- define "cohere-finetune-exporter.podLabels" -}}
{{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- merge (include "cohere-finetune-exporter.selectorLabels" . | fromYaml) $own .Values.podLabels .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Labels of every other object: include with (list $ LABELS); the chart's own are never overridden. */}}
{{- define "cohere-finetune-exporter.labels" -}}
{{- $root := index . 0 -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := dict "helm.sh/chart" $chart
  "app.kubernetes.io/component" "metrics-exporter"
  "app.kubernetes.io/part-of" "cohere-finetuning"
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- merge (include "cohere-finetune-exporter.selectorLabels" $root | fromYaml) $own (index . 1) $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The metadata of an object: include with (dict "root" $), and name, namespace, labels, annotations. */}}
{{- define "cohere-finetune-exporter.metadata" -}}
name: {{ .name | default (include "cohere-finetune-exporter.fullname" .root) | quote }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- include "cohere-finetune-exporter.labels" (list .root (.labels | default dict)) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "cohere-finetune-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "cohere-finetune-exporter.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "cohere-finetune-exporter.image" -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest -}}
@{{ .Values.image.digest }}
{{- else -}}
:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the API key; empty when the key comes another way, or not at all. */}}
{{- define "cohere-finetune-exporter.keySecret" -}}
{{- if .Values.demo.enabled -}}
{{- else if .Values.apiKey.value -}}
{{- include "cohere-finetune-exporter.fullname" . }}-api-key
{{- else -}}
{{- .Values.apiKey.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* The path of the metrics, which the configuration may move. */}}
{{- define "cohere-finetune-exporter.metricsPath" -}}
{{- dig "web" "telemetry-path" "/metrics" (.Values.config | default dict) -}}
{{- end -}}

{{/* A file that the chart carries; include with (list $ PATH TEXT), where TEXT must be in the file. */}}
{{- define "cohere-finetune-exporter.file" -}}
{{- $text := (index . 0).Files.Get (index . 1) -}}
{{- if not (contains (index . 2) $text) -}}
{{- fail (printf "%s is missing: the chart's files are symbolic links, which were lost on the way here; use what `helm package` makes of it" (index . 1)) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- define "cohere-finetune-exporter.podAnnotations" -}}
{{- $scrape := dict -}}
{{- if .Values.scrapeAnnotations -}}
{{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/port" "10220"
  "prometheus.io/path" (include "cohere-finetune-exporter.metricsPath" .) "prometheus.io/scheme" .Values.web.scheme -}}
{{- end -}}
{{- with merge (dict) .Values.podAnnotations $scrape .Values.commonAnnotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "cohere-finetune-exporter.args" -}}
{{- $args := list -}}
{{- if .Values.demo.enabled -}}
{{- $args = append $args "demo" -}}
{{- end -}}
{{- $args = append $args "--config.file=/etc/cohere-finetune-exporter/config.yml" -}}
{{- if include "cohere-finetune-exporter.keySecret" . -}}
{{- $args = append $args "--cohere.api-key-file=/run/secrets/cohere/api-key" -}}
{{- end -}}
{{- if .Values.web.existingSecret -}}
{{- $args = append $args (printf "--web.config.file=/run/secrets/web/%s" .Values.web.secretKey) -}}
{{- end -}}
{{- concat $args .Values.extraArgs | toYaml -}}
{{- end -}}

{{/* How a probe asks: include with (list $ PATH). */}}
{{- define "cohere-finetune-exporter.probe" -}}
{{- $web := (index . 0).Values.web -}}
{{- if eq $web.probes "tcp" -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: metrics
  scheme: {{ upper $web.scheme }}
{{- end -}}
{{- end -}}

{{/* Where the API key comes from, as the user gave it: a list, empty when there is none. */}}
{{- define "cohere-finetune-exporter.keySources" -}}
{{- $sources := list -}}
{{- if .Values.apiKey.existingSecret -}}
{{- $sources = append $sources "apiKey.existingSecret" -}}
{{- end -}}
{{- if .Values.apiKey.value -}}
{{- $sources = append $sources "apiKey.value" -}}
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

{{/* Refuse what cannot work, before it is installed. */}}
{{- define "cohere-finetune-exporter.validate" -}}
{{- $sources := include "cohere-finetune-exporter.keySources" . -}}
{{- if contains ", " $sources -}}
{{- fail (printf "the API key is given more than once (%s); keep one" $sources) -}}
{{- end -}}
{{- if and (eq .Values.web.scheme "https") (not .Values.web.existingSecret) -}}
{{- fail "web.scheme is https, but nothing gives the exporter a certificate; set web.existingSecret" -}}
{{- end -}}
{{- end -}}
