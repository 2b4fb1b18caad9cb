{{/*
Names are fixed, not derived from the release: the metrics APIs have one server in a cluster, so there is one
installation, and the operator, the certificates and the documentation all say the same names.
*/}}

{{/* Labels that select a component's pods. They never change, since selectors can't. */}}
{{- define "eventengine.selectorLabels" -}}
app.kubernetes.io/name: eventengine
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object of a component. */}}
{{- define "eventengine.labels" -}}
{{ include "eventengine.selectorLabels" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: eventengine
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* Labels of a component's pods: the user's, and over them those that the chart needs. */}}
{{- define "eventengine.podLabels" -}}
{{- include "eventengine.labels" . | fromYaml | mergeOverwrite (deepCopy .further) | toYaml }}
{{- end }}

{{/* An image's full name: registry/repository:tag. */}}
{{- define "eventengine.image" -}}
{{- with .image.registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Components with a certificate, which the API server calls. */}}
{{- define "eventengine.certified" -}}
{{- if ne .Values.metricsApis.mode "off" }}
- adapter
{{- end }}
{{- if .Values.webhook.enabled }}
- webhook
{{- end }}
{{- end }}

{{/* What the "restricted" pod security standard asks of a pod. */}}
{{- define "eventengine.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What it asks of a container, and a root file system that nothing can write to. */}}
{{- define "eventengine.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What a user may say about where the pods of a component run. */}}
{{- define "eventengine.placement" -}}
{{- with .priorityClassName -}}
priorityClassName: {{ . }}
{{ end -}}
{{- with .nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .affinity -}}
affinity:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- end }}
