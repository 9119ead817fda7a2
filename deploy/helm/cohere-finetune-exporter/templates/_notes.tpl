{{/* A warning when no Prometheus of the cluster selects the ServiceMonitor by its labels. */}}
{{- define "cohere-finetune-exporter.unselected" -}}
{{- if or .Values.serviceMonitor.enabled .Values.podMonitor.enabled .Values.monitoring.enabled }}
{{- $labels := include "cohere-finetune-exporter.monitoringLabels" (list $ .Values.serviceMonitor.additionalLabels) | fromYaml }}
{{- $wanted := list }}
{{- $selected := false }}
{{- range (lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items }}
{{- $matches := true }}
{{- range $label, $value := dig "serviceMonitorSelector" "matchLabels" (dict) .spec }}
{{- if ne (get $labels $label) $value }}
{{- $matches = false }}
{{- $wanted = append $wanted (printf "%s=%s" $label $value) }}
{{- end }}
{{- end }}
{{- $selected = or $selected $matches }}
{{- end }}
{{- if and $wanted (not $selected) }}

WARNING: no Prometheus of this cluster selects the ServiceMonitor: they want {{ $wanted | uniq | join " or " }}.
Set monitoring.release, or serviceMonitor.additionalLabels.
{{- end }}
{{- end }}
{{- end -}}
