{{/*
What the admission policies have in common. docs/security.md says what each forbids, and why.

`restore` is a verb of nobody's role: whoever puts back a backup gets it by slipway-restore, and whoever may do
everything has it.
*/}}
{{- define "slipway.admissionTrusted" -}}
- name: trusted
  expression: >-
    request.userInfo.username in {{ . | toJson }}
    || (has(request.userInfo.groups)
        && request.userInfo.groups.exists(g, g in ['system:serviceaccounts:kube-system', 'system:nodes']))
    || authorizer.group('slipway.dev').resource('trainingruns').namespace(request.namespace).check('restore').allowed()
{{- end -}}

{{/* The operator, and the controllers of Kubernetes where they share one account. */}}
{{- define "slipway.admissionUsers" -}}
{{- list (printf "system:serviceaccount:%s:%s" .Release.Namespace (include "slipway.serviceAccountName" .)) "system:kube-controller-manager" | toJson -}}
{{- end -}}

{{/* Whether an object, or what a controller makes of it, has the label by which the operator watches. Usage: its name in CEL. */}}
{{- define "slipway.admissionLabelled" -}}
{{- $label := "labels[?'app.kubernetes.io/managed-by'].orValue('')" -}}
({{ . }} != null && [
  {{ . }}.?metadata.?{{ $label }},
  {{ . }}.?spec.?template.?metadata.?{{ $label }},
  {{ . }}.?spec.?jobTemplate.?metadata.?{{ $label }},
  {{ . }}.?spec.?jobTemplate.?spec.?template.?metadata.?{{ $label }}
].exists(value, value == 'slipway'))
{{- end -}}

{{/* Usage: include "slipway.admissionBinding" (list $ NAME) */}}
{{- define "slipway.admissionBinding" -}}
{{- $root := index . 0 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ index . 1 }}
  labels: {{- include "slipway.labels" $root | nindent 4 }}
spec:
  policyName: {{ index . 1 }}
  validationActions: [Deny]
  {{- with $root.Values.watchNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{ . | toJson }}
  {{- end }}
{{- end -}}
