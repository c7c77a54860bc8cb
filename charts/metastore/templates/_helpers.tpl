{{- define "metastore.name" -}}
{{- if contains "metastore" .Release.Name -}}
{{- printf "%s-operator" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-metastore-operator" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- /* The name of what has no namespace: releases of one namespace each may have the same name. */ -}}
{{- define "metastore.clusterWideName" -}}
{{- if .Values.watchNamespace -}}
{{- printf "%s-%s" (include "metastore.name" .) .Release.Namespace -}}
{{- else -}}
{{- include "metastore.name" . -}}
{{- end -}}
{{- end -}}

{{- define "metastore.selectorLabels" -}}
app.kubernetes.io/name: metastore-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "metastore.labels" -}}
{{ include "metastore.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* A reference to an image; takes the image's values and the chart's appVersion. */ -}}
{{- define "metastore.image" -}}
{{- with .image.registry -}}{{ . }}/{{- end -}}
{{- .image.repository -}}
{{- if or .image.tag (not .image.digest) -}}:{{ .image.tag | default .appVersion }}{{- end -}}
{{- with .image.digest -}}@{{ . }}{{- end -}}
{{- end -}}

{{- /* The operator's rules, generated from its code, as YAML with the key rules.
     Takes root and only: namespaced, clusterWide, or all. */ -}}
{{- define "metastore.rules" -}}
{{- $clusterWide := list "nodes" "persistentvolumes" "storageclasses" -}}
{{- $only := .only -}}
{{- $rules := list -}}
{{- range (.root.Files.Get "files/role.yaml" | fromYaml).rules -}}
  {{- $resources := list -}}
  {{- range .resources -}}
    {{- $wide := has . $clusterWide -}}
    {{- if or (eq $only "all") (and $wide (eq $only "clusterWide")) (and (not $wide) (eq $only "namespaced")) -}}
      {{- $resources = append $resources . -}}
    {{- end -}}
  {{- end -}}
  {{- if $resources -}}
    {{- $rules = append $rules (dict "apiGroups" .apiGroups "resources" $resources "verbs" .verbs) -}}
  {{- end -}}
{{- end -}}
{{- dict "rules" $rules | toYaml -}}
{{- end -}}
