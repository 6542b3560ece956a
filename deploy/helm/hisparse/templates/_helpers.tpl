{{- define "hisparse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that every name made from it, with a pod's suffix, is a valid label. */}}
{{- define "hisparse.fullname" -}}
{{- $name := include "hisparse.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hisparse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: hisparse
{{ include "hisparse.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hisparse.selector" -}}
app.kubernetes.io/name: {{ include "hisparse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The PodMonitor and the NetworkPolicy know pods with our endpoint by this label, whoever made them. */}}
{{- define "hisparse.scrapeLabel" -}}
hisparse/scrape: "true"
{{- end -}}

{{- define "hisparse.serviceAccountName" -}}
{{- default (ternary (include "hisparse.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Call with (dict "root" . "image" .Values.images.sidecar). */}}
{{- define "hisparse.image" -}}
{{- $version := ternary (printf "@%s" .image.digest) (printf ":%s" (default .root.Chart.AppVersion .image.tag)) (ne .image.digest "") -}}
{{- with .image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}{{ $version }}
{{- end -}}

{{/* What every container of ours runs with. */}}
{{- define "hisparse.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "hisparse.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hisparse.metricsPort" -}}
- name: metrics
  containerPort: 9477
  protocol: TCP
{{- end -}}

{{- define "hisparse.scheme" -}}{{ ternary "HTTPS" "HTTP" .Values.web.tls }}{{- end -}}

{{/* TLS and users may guard the metrics; a probe has no password, so web.yaml has to except these two paths. */}}
{{- define "hisparse.livenessProbe" -}}
httpGet: {path: /-/healthy, port: metrics, scheme: {{ include "hisparse.scheme" . }}}
periodSeconds: 10
failureThreshold: 6
{{- end -}}

{{- define "hisparse.readinessProbe" -}}
httpGet: {path: /-/ready, port: metrics, scheme: {{ include "hisparse.scheme" . }}}
periodSeconds: 5
{{- end -}}

{{- define "hisparse.webArgs" -}}
{{- range .Values.web.listenAddresses }}
- {{ printf "--web.listen-address=%s" . | quote }}
{{- end }}
{{- if .Values.web.configSecret }}
- --web.config.file=/etc/hisparse/web.yaml
{{- end }}
{{- end -}}

{{- define "hisparse.webMounts" -}}
{{- if .Values.web.configSecret }}
- {name: hisparse-web, mountPath: /etc/hisparse, readOnly: true}
{{- end }}
{{- end -}}

{{- define "hisparse.webVolumes" -}}
{{- if .Values.web.configSecret }}
- name: hisparse-web
  secret: {secretName: {{ .Values.web.configSecret }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{- define "hisparse.podName" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end -}}

{{/* How series are named. HiSparseEngineDown watches jobs whose names start with "hisparse". */}}
{{- define "hisparse.relabelings" -}}
- {action: replace, targetLabel: job, replacement: {{ .job }}}
# A name that a person knows, and that a restarted pod of a StatefulSet keeps.
- sourceLabels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_name]
  separator: /
  action: replace
  targetLabel: instance
{{- end -}}

{{/* Fields that the monitors of our own endpoint share. */}}
{{- define "hisparse.endpoint" -}}
{{- $values := .monitor -}}
port: metrics
path: /metrics
scheme: {{ include "hisparse.scheme" .root | lower }}
interval: {{ $values.interval }}
scrapeTimeout: {{ $values.scrapeTimeout }}
relabelings:
  {{- include "hisparse.relabelings" (dict "job" "hisparse") | nindent 2 }}
{{- with $values.endpoint }}
{{ toYaml . }}
{{- end }}
{{- end -}}
