{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "tidegate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.selectorLabels" -}}
{{- dict "app.kubernetes.io/name" (include "tidegate.name" .) "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end -}}

{{- /* Labels of an object, from (root, labels of its own). Those that selectors use stand; of the others the nearest wins. */ -}}
{{- define "tidegate.labels" -}}
{{- $root := first . -}}
{{- $selected := include "tidegate.selectorLabels" $root | fromYaml -}}
{{- $usual := dict
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "app.kubernetes.io/managed-by" $root.Release.Service
      "app.kubernetes.io/part-of" "tidegate"
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- merge (dict) $selected (last . | default dict) ($root.Values.commonLabels | default dict) $usual | toYaml -}}
{{- end -}}

{{- /* What a shard or a namespace adds to the names of Lease and memory. */ -}}
{{- define "tidegate.part" -}}
{{- with .Values.shard }}-{{ . }}{{ end -}}
{{- with .Values.watchNamespace }}.{{ . }}{{ end -}}
{{- end -}}

{{- define "tidegate.annotations" -}}
{{- with .Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* A mapping as `key<mark>value`, comma-separated, in the order of the keys. */ -}}
{{- define "tidegate.pairs" -}}
{{- $mark := .mark -}}
{{- $pairs := list -}}
{{- range $key, $value := .of -}}
{{- $pairs = append $pairs (printf "%s%s%s" $key $mark $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
