{{- define "slipway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "slipway.operatorName" -}}
{{ include "slipway.fullname" . }}-operator
{{- end -}}

{{/* Of what no upgrade changes: replicas that look at two Leases lead side by side. */}}
{{- define "slipway.leaseName" -}}
{{ .Release.Name }}-operator
{{- end -}}

{{/* Of what no upgrade changes, either: under another name there would be another key. */}}
{{- define "slipway.signingSecret" -}}
{{ .Release.Name }}-operator-signing-key
{{- end -}}

{{- define "slipway.trustedKeys" -}}
{{ .Release.Name }}-operator-trusted-keys
{{- end -}}

{{- define "slipway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "slipway.operatorName" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "slipway.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* What the operator makes carries managed-by: slipway; this is what the chart makes. */}}
{{- define "slipway.labels" -}}
{{ include "slipway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
