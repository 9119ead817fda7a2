{{/*
What must be selected by a Prometheus of the operator. Nothing is looked up in the cluster: without the operator's CRDs, or
the right to list Prometheus objects, a lookup fails the installation.
*/}}
{{- define "cohere-finetune-exporter.selection" -}}
{{- $labels := dict }}
{{- if and .Values.exporter.enabled (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled .Values.monitoring.enabled) }}
{{- $_ := set $labels (ternary "PodMonitor" "ServiceMonitor" .Values.podMonitor.enabled) "serviceMonitor" }}
{{- end }}
{{- if or .Values.prometheusRule.enabled .Values.monitoring.enabled }}
{{- $_ := set $labels "PrometheusRule" "prometheusRule" }}
{{- end }}
{{- range $kind, $name := $labels }}
{{- if not (merge (include "cohere-finetune-exporter.monitoringLabels" (list $ (index $.Values $name)) | fromYaml) $.Values.commonLabels) }}

WARNING: the {{ $kind }} has no label by which a Prometheus could select it; that of kube-prometheus-stack wants the name of
its release. Set monitoring.release, or {{ $name }}.additionalLabels.
{{- end }}
{{- end }}
{{- if $labels }}

Prometheus reads {{ keys $labels | sortAlpha | join " and " }} only if it selects their labels. What each Prometheus selects:

  kubectl get prometheuses.monitoring.coreos.com --all-namespaces --output yaml | grep -A 3 -E 'Selector:'
{{- end }}
{{- end -}}
