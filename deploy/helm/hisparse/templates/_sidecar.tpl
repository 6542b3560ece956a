{{/*
The sidecar as a container of an SGLang pod, and the volumes that it needs. Nothing of SGLang's container changes: the
kubelet writes its output to the node, and the sidecar sees that folder of its own pod, read-only.

  initContainers:            # a native sidecar: starts first, ends last, and a Job may end without it
    {{- include "hisparse.sidecar" (dict "root" $ "container" "sglang" "model" "glm-5") | nindent 4 }}
  volumes:
    {{- include "hisparse.sidecarVolumes" (dict "root" $) | nindent 4 }}

"root" is the context of this chart: `$` inside it, `$.Subcharts.hisparse` in a chart that depends on it. "container" is
the name of SGLang's container. With "file", a path or pattern, and "volume", one of the pod's volumes that is mounted
at /logs, the sidecar follows files instead of the container's output. The pod also needs the label
`hisparse/scrape: "true"`.
It has no readiness probe and no startup probe: if it fails, SGLang goes on.
*/}}
{{- define "hisparse.sidecar" -}}
{{- $root := .root -}}
- name: hisparse
  image: {{ include "hisparse.image" (dict "root" $root "image" $root.Values.images.sidecar) }}
  imagePullPolicy: {{ $root.Values.images.sidecar.pullPolicy }}
  restartPolicy: Always
  args:
    - sidecar
    {{- if .file }}
    - --sglang-log={{ .file }}
    {{- else }}
    - --cri=/logs/{{ required "hisparse.sidecar needs \"container\": the name of SGLang's container" .container }}/*.log
    {{- end }}
    - --engine-name=$(POD_NAME)
    {{- with .model }}
    - --model={{ . }}
    {{- end }}
    - --state-file=/var/lib/hisparse/sidecar.json
    {{- include "hisparse.webArgs" $root | nindent 4 }}
    {{- with $root.Values.sidecar.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    {{- include "hisparse.podName" $root | nindent 4 }}
    - name: POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    - name: POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
  ports:
    {{- include "hisparse.metricsPort" $root | nindent 4 }}
  livenessProbe:
    {{- include "hisparse.livenessProbe" $root | nindent 4 }}
  resources:
    {{- toYaml $root.Values.sidecar.resources | nindent 4 }}
  securityContext:
    {{- include "hisparse.securityContext" $root | nindent 4 }}
    runAsNonRoot: true
    runAsUser: 10001
    # containerd writes logs that the group root may read.
    runAsGroup: 0
    seccompProfile: {type: RuntimeDefault}
  volumeMounts:
    {{- if .file }}
    - {name: {{ required "hisparse.sidecar needs \"volume\" with \"file\"" .volume }}, mountPath: /logs, readOnly: true}
    {{- else }}
    - name: hisparse-pod-logs
      mountPath: /logs
      subPathExpr: $(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)
      readOnly: true
    {{- end }}
    - {name: hisparse-state, mountPath: /var/lib/hisparse}
    {{- include "hisparse.webMounts" $root | nindent 4 }}
{{- end -}}

{{- define "hisparse.sidecarVolumes" -}}
{{- if not .file }}
- name: hisparse-pod-logs
  hostPath: {path: /var/log/pods, type: Directory}
{{- end }}
- name: hisparse-state
  emptyDir: {sizeLimit: 64Mi}
{{- include "hisparse.webVolumes" .root }}
{{- end -}}
