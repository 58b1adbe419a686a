{{/* The file of slipway_operator.settings, key by key; one that it does not know stops the operator at its start. */}}
{{- define "slipway.config" -}}
{{- $operator := .Values.operator -}}
images:
  train: {{ include "slipway.image" (list . "train") }}
  serve: {{ include "slipway.image" (list . "serve") }}
  pullPolicy: {{ .Values.images.pullPolicy }}
  pullSecrets: {{ .Values.images.pullSecrets | toJson }}
workspace: {{- .Values.defaults.workspace | toYaml | nindent 2 }}
training: {{- .Values.defaults.training | toYaml | nindent 2 }}
serving: {{- .Values.defaults.serving | toYaml | nindent 2 }}
lease:
  name: {{ include "slipway.leaseName" . }}
  namespace: {{ .Release.Namespace }}
  {{- $operator.leaderElection | toYaml | nindent 2 }}
client: {{- $operator.client | toYaml | nindent 2 }}
limits: {{- $operator.limits | toYaml | nindent 2 }}
networkPolicy:
  metricsFrom: {{ .Values.networkPolicy.metricsFrom | toJson }}
retention: {{- .Values.retention | toYaml | nindent 2 }}
admissionPolicies: {{ .Values.admissionPolicies.enabled }}
signing:
  secret: {{ include "slipway.signingSecret" . }}
  keys: {{ include "slipway.trustedKeys" . }}
  namespace: {{ .Release.Namespace }}
trustedKeys: {{ .Values.trustedKeys | toJson }}
watchNamespaces: {{ .Values.watchNamespaces | toJson }}
port: {{ $operator.port }}
podUrl: {{ $operator.podUrl | quote }}
resync: {{ $operator.resync }}
progressSeconds: {{ $operator.progressSeconds }}
nodeLostSeconds: {{ $operator.nodeLostSeconds }}
backoff: {{ $operator.backoff }}
longestBackoff: {{ $operator.longestBackoff }}
giveWayAfter: {{ $operator.giveWayAfter }}
{{- end -}}
