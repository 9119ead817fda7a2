{{/* Names, labels and what several objects must agree on. */}}

{{- define "cohere-finetune-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, with the chart's unless it contains it. */}}
{{- define "cohere-finetune-exporter.fullname" -}}
{{- $name := include "cohere-finetune-exporter.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cohere-finetune-exporter.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "cohere-finetune-exporter.selectorLabels" -}}
{{- dict "app.kubernetes.io/name" (include "cohere-finetune-exporter.name" .) "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end -}}

{{/* The metadata of an object: include with (dict "root" $), and name, namespace, labels, annotations. */}}
{{- define "cohere-finetune-exporter.metadata" -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := dict "helm.sh/chart" $chart
  "app.kubernetes.io/component" "metrics-exporter"
  "app.kubernetes.io/part-of" "cohere-finetuning"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $selected := include "cohere-finetune-exporter.selectorLabels" .root | fromYaml -}}
name: {{ .name | default (include "cohere-finetune-exporter.fullname" .root) | quote }}
namespace: {{ .namespace | default (include "cohere-finetune-exporter.namespace" .root) | quote }}
labels:
  {{- merge $selected $own (.labels | default dict) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels by which a Prometheus selects a resource: include with (list $ VALUES-OF-THE-RESOURCE). */}}
{{- define "cohere-finetune-exporter.monitoringLabels" -}}
{{- $root := index . 0 -}}
{{- $release := $root.Values.releaseLabel | ternary $root.Release.Name $root.Values.monitoring.release -}}
{{- $values := index . 1 -}}
{{- merge (dict) ($values.additionalLabels | default dict) ($values.labels | default dict) (ternary (dict) (dict "release" $release) (empty $release)) | toYaml -}}
{{- end -}}

{{- define "cohere-finetune-exporter.serviceAccountName" -}}
{{- $default := .Values.serviceAccount.create | ternary (include "cohere-finetune-exporter.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "cohere-finetune-exporter.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is required: build the image (deploy/docker), push it, and set image.repository to its name" $image.repository -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- $repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* Pull secrets, given as names or as {name: ...}. */}}
{{- define "cohere-finetune-exporter.pullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets (.Values.image.pullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- $secrets | uniq | toYaml -}}
{{- end -}}

{{- define "cohere-finetune-exporter.config" -}}
{{- .Values.config | default dict | toYaml -}}
{{- end -}}

{{- define "cohere-finetune-exporter.metricsPath" -}}
{{- dig "web" "telemetry-path" "/metrics" (.Values.config | default dict) -}}
{{- end -}}

{{/* Whether the exporter serves the training steps. */}}
{{- define "cohere-finetune-exporter.servesSteps" -}}
{{- $window := dig "training" "steps-window" "" (.Values.config | default dict) -}}
{{- if or (has $window (list nil "")) (include "cohere-finetune-exporter.number" $window | float64) -}}true{{- end -}}
{{- end -}}

{{/* http or https: how Prometheus reaches the metrics. */}}
{{- define "cohere-finetune-exporter.scheme" -}}
{{- .Values.serviceMonitor.scheme | default .Values.web.scheme | default (ternary "http" "https" (empty .Values.web.tlsSecret)) -}}
{{- end -}}

{{/* The Secret that holds the API key; empty when the key comes another way, or not at all. */}}
{{- define "cohere-finetune-exporter.keySecret" -}}
{{- .Values.demo.enabled | ternary "" .Values.apiKey.existingSecret -}}
{{- end -}}

{{- define "cohere-finetune-exporter.webConfig" -}}
{{- if .Values.web.existingSecret -}}
{{- .Values.web.secretKey -}}
{{- else if .Values.web.tlsSecret -}}
web-config.yml
{{- end -}}
{{- end -}}

{{- define "cohere-finetune-exporter.args" -}}
{{- prepend .Values.extraArgs "--config.file=/etc/cohere-finetune-exporter/config.yml" | toYaml -}}
{{- end -}}

{{/* What the chart sets itself, as variables, which win over config. */}}
{{- define "cohere-finetune-exporter.env" -}}
{{- with include "cohere-finetune-exporter.keySecret" . }}
- name: COHERE_EXPORTER_COHERE_API_KEY_FILE
  value: /run/secrets/cohere/api-key
{{- end }}
- name: COHERE_EXPORTER_COHERE_BUDGET_FILE
  value: /var/lib/cohere-finetune-exporter/budget.json
- name: COHERE_EXPORTER_WEB_PROBE_ADDRESS
  value: ":10221"
{{- with include "cohere-finetune-exporter.webConfig" . }}
- name: COHERE_EXPORTER_WEB_CONFIG_FILE
  value: /run/secrets/web/{{ . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the exporter's container and the configuration check have in common. */}}
{{- define "cohere-finetune-exporter.container" -}}
image: {{ include "cohere-finetune-exporter.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- include "cohere-finetune-exporter.env" . | trim | nindent 2 }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/cohere-finetune-exporter
    readOnly: true
  - name: state
    mountPath: /var/lib/cohere-finetune-exporter
  {{- if include "cohere-finetune-exporter.keySecret" . }}
  # The whole folder: a subPath would never see a rotated key.
  - name: api-key
    mountPath: /run/secrets/cohere
    readOnly: true
  {{- end }}
  {{- if include "cohere-finetune-exporter.webConfig" . }}
  - name: web
    mountPath: /run/secrets/web
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A map without the fields that are null: one of Kubernetes' objects. */}}
{{- define "cohere-finetune-exporter.withoutNulls" -}}
{{- $fields := dict -}}
{{- range $field, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $fields $field $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $fields -}}
{{- end -}}

{{/* A probe, whose default handler gives way to one of the user's; nothing if it is null or disabled. */}}
{{- define "cohere-finetune-exporter.probe" -}}
{{- $probe := . | default (dict "enabled" false) -}}
{{- if ne (get $probe "enabled" | toString) "false" -}}
{{- $replaced := or $probe.tcpSocket $probe.exec $probe.grpc | empty | ternary "enabled" "httpGet" -}}
{{- omit $probe "enabled" $replaced | include "cohere-finetune-exporter.withoutNulls" -}}
{{- end -}}
{{- end -}}

{{/* fsGroup lets the image's user write to a claim; OpenShift assigns a group of its own and refuses others. */}}
{{- define "cohere-finetune-exporter.podSecurityContext" -}}
{{- $context := dict -}}
{{- $claim := .Values.persistence -}}
{{- if and $claim.enabled $claim.fsGroup (not (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- $context = dict "fsGroup" $claim.fsGroup -}}
{{- end -}}
{{- range $field, $value := .Values.podSecurityContext -}}
{{- $_ := set $context $field $value -}}
{{- end -}}
{{- include "cohere-finetune-exporter.withoutNulls" $context -}}
{{- end -}}

{{- define "cohere-finetune-exporter.podAnnotations" -}}
{{- $scrape := dict -}}
{{- if .Values.scrapeAnnotations -}}
{{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/port" "10220"
  "prometheus.io/path" (include "cohere-finetune-exporter.metricsPath" .) "prometheus.io/scheme" (include "cohere-finetune-exporter.scheme" .) -}}
{{- end -}}
{{- with merge (dict) .Values.podAnnotations $scrape .Values.commonAnnotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}
