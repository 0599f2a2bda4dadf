{{- define "openclaw-operator.name" -}}
{{- printf "%s" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "openclaw-operator.selector" -}}
app.kubernetes.io/name: openclaw-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "openclaw-operator.labels" -}}
{{ include "openclaw-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: openclaw
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "openclaw-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "openclaw-operator.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create is false: set serviceAccount.name to the account to use" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Names of the pull secrets of agents' and stores' pods, comma separated. */}}
{{- define "openclaw-operator.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.agents.imagePullSecrets -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- join "," $names -}}
{{- end -}}

{{/* The reference of an image: (list root image). */}}
{{- define "openclaw-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}
