{{/* Warnings when no Prometheus of the cluster selects what the chart makes for the operator. */}}
{{- define "cohere-finetune-exporter.unselected" -}}
{{- $prometheuses := (lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items }}
{{- if and .Values.exporter.enabled (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled .Values.monitoring.enabled) }}
{{- $kind := ternary "PodMonitor" "ServiceMonitor" .Values.podMonitor.enabled }}
{{- include "cohere-finetune-exporter.unselectedObject" (list . $kind (printf "%sSelector" (untitle $kind)) "serviceMonitor" $prometheuses) }}
{{- end }}
{{- if or .Values.prometheusRule.enabled .Values.monitoring.enabled }}
{{- include "cohere-finetune-exporter.unselectedObject" (list . "PrometheusRule" "ruleSelector" "prometheusRule" $prometheuses) }}
{{- end }}
{{- end -}}

{{/*
Include with (list $ KIND SELECTOR VALUES PROMETHEUSES): the field of a Prometheus that selects it, the name of its values.
*/}}
{{- define "cohere-finetune-exporter.unselectedObject" -}}
{{- $root := index . 0 }}
{{- $own := include "cohere-finetune-exporter.monitoringLabels" (list $root (index $root.Values (index . 3))) | fromYaml }}
{{- $labels := (include "cohere-finetune-exporter.metadata" (dict "root" $root "labels" $own) | fromYaml).labels }}
{{- $wanted := list }}
{{- $selected := false }}
{{- range index . 4 }}
{{- $unmet := include "cohere-finetune-exporter.unmet" (list (index .spec (index $ 2)) $labels) | trim }}
{{- $wanted = append $wanted $unmet }}
{{- $selected = or $selected (empty $unmet) }}
{{- end }}
{{- if and $wanted (not $selected) }}

WARNING: no Prometheus of this cluster selects the {{ index . 1 }}: they want {{ $wanted | uniq | join ", or " }}.
Set monitoring.release, or {{ index . 3 }}.additionalLabels.
{{- end }}
{{- end -}}

{{/* What labels lack for a selector, empty if it selects them: include with (list SELECTOR LABELS). */}}
{{- define "cohere-finetune-exporter.unmet" -}}
{{- $labels := index . 1 }}
{{- $selector := index . 0 }}
{{- $unmet := list }}
{{- if kindIs "invalid" $selector }}
{{- $unmet = list "none at all" }}
{{- $selector = dict }}
{{- end }}
{{- $requirements := $selector.matchExpressions | default list }}
{{- range $label, $value := $selector.matchLabels }}
{{- $requirements = append $requirements (dict "key" $label "operator" "In" "values" (list $value)) }}
{{- end }}
{{- range $requirements }}
{{- $values := .values | default list }}
{{- $matches := and (hasKey $labels .key) (or (empty $values) (has (get $labels .key) $values)) }}
{{- if eq $matches (has .operator (list "NotIn" "DoesNotExist")) }}
{{- $is := and (eq .operator "In") (eq (len $values) 1) | ternary "=" (printf " %s " .operator) }}
{{- $unmet = append $unmet (printf "%s%s%s" .key $is (join ", " $values) | trim) }}
{{- end }}
{{- end }}
{{- join " and " $unmet }}
{{- end -}}
