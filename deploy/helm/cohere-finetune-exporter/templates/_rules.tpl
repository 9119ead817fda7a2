{{/*
The rules as exporter.rules renders them: include with (dict "root" $ "values" VALUES), whose values override
files/rules.defaults.yml. Prometheus' own templates stand in the rules, so they are never given to Helm's engine.
*/}}
{{- define "cohere-finetune-exporter.rules" -}}
{{- $files := .root.Files -}}
{{- $given := .values -}}
{{- $text := $files.Get "files/rules.template.yml" | fromYaml | toJson -}}
{{- $values := $files.Get "files/rules.defaults.yml" | fromYaml -}}
{{- range $name, $value := $given -}}
{{- if not (hasKey $values $name) -}}
{{- fail (printf "unknown value of the rules: %s" $name) -}}
{{- end -}}
{{- range $key, $_ := ternary $value dict (has $name (list "thresholds" "severities")) -}}
{{- if not (hasKey (index $values $name) $key) -}}
{{- fail (printf "unknown name in %s of the rules: %s" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := $given.disabled -}}
{{- if not (hasKey $values.severities $name) -}}
{{- fail (printf "unknown alert in disabled: %s" $name) -}}
{{- end -}}
{{- end -}}
{{- $values = mergeOverwrite $values (deepCopy $given) -}}
{{- $text = include "cohere-finetune-exporter.selecting" (list $text (include "cohere-finetune-exporter.escaped" $values.selector)) -}}
{{- range $name, $number := $values.thresholds -}}
{{- $text = $text | replace (printf "@%s@" $name) (int64 $number | toString) -}}
{{- end -}}
{{- $url := regexReplaceAll "/+$" $values.url "" -}}
{{- $runbooks := $values.runbooksUrl | default (ternary (printf "%s/runbooks" $url) "" (ne $url "")) -}}
{{- $runbooks = regexReplaceAll "/+$" $runbooks "" -}}
{{- $grafana := regexReplaceAll "/+$" ($values.grafanaUrl | default $url) "" -}}
{{- $text = $text | replace "@runbooksUrl@" (include "cohere-finetune-exporter.escaped" $runbooks) -}}
{{- $content := $text | replace "@grafanaUrl@" (include "cohere-finetune-exporter.escaped" $grafana) | fromYaml -}}
{{- if not $content.groups -}}
{{- fail (printf "the rules cannot be rendered: %s" $content.Error) -}}
{{- end -}}
{{- $groups := list -}}
{{- range $group := $content.groups -}}
{{- $rules := list -}}
{{- range $rule := $group.rules -}}
{{- if not (has $rule.alert $values.disabled) -}}
{{- $labels := merge (deepCopy $values.labels) (dict "severity" (index $values.severities $rule.alert)) -}}
{{- $unwanted := list (ternary "runbook" "runbook_url" (ne $runbooks "")) (ternary "dashboard" "dashboard_url" (ne $grafana "")) -}}
{{- $annotations := omit $rule.annotations (index $unwanted 0) (index $unwanted 1) -}}
{{- $rules = append $rules (merge (dict "labels" $labels "annotations" $annotations) (omit $rule "annotations")) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (dict "name" $group.name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toYaml -}}
{{- end -}}

{{/* A text as it is inside JSON's quotes. */}}
{{- define "cohere-finetune-exporter.escaped" -}}
{{- . | toJson | trimPrefix "\"" | trimSuffix "\"" -}}
{{- end -}}

{{/*
A template of rules with the matchers of a selector in each of its selectors: include with (list TEXT SELECTOR).
*/}}
{{- define "cohere-finetune-exporter.selecting" -}}
{{- $text := index . 0 -}}
{{- $selector := index . 1 | default "" -}}
{{- if not $selector -}}
{{- $text = $text | replace "{@selector@}" "" | replace ", @selector@}" "}" -}}
{{- end -}}
{{- $text | replace "@selector@" $selector -}}
{{- end -}}
