{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "kedastral.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Short enough for the suffixes of mode split. */ -}}
{{- define "kedastral.fullname" -}}
{{- $name := include "kedastral.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kedastral.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kedastral.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kedastral.selector" -}}
app.kubernetes.io/name: {{ include "kedastral.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "kedastral.labels" -}}
app.kubernetes.io/name: {{ include "kedastral.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The Deployments of the mode: command, name and ports of each, by component. */ -}}
{{- define "kedastral.components" -}}
{{- $name := include "kedastral.fullname" . -}}
{{- if eq .Values.mode "split" -}}
forecaster:
  command: forecaster
  name: {{ $name }}-forecaster
  ports: {http: 8081}
scaler:
  command: scaler
  name: {{ $name }}-scaler
  ports: {grpc: 8080, http: 8082}
{{- else -}}
autoscaler:
  command: run
  name: {{ $name }}
  ports: {grpc: 8080, http: 8081}
{{- end -}}
{{- end -}}

{{- define "kedastral.scalerHost" -}}
{{- include "kedastral.fullname" . }}{{ eq .Values.mode "split" | ternary "-scaler" "" }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end -}}

{{- define "kedastral.configMap" -}}
{{- if .Values.existingConfigMap -}}
{{- .Values.existingConfigMap -}}
{{- else if or .Values.dataSources .Values.forecastPolicies -}}
{{- include "kedastral.fullname" . }}-config
{{- end -}}
{{- end -}}

{{- define "kedastral.configPath" -}}/etc/kedastral/config{{- end -}}
{{- define "kedastral.statePath" -}}/var/lib/kedastral{{- end -}}

{{- /* The settings of a component, by key: what the features of the chart need, then `settings`, then its own. */ -}}
{{- define "kedastral.settings" -}}
{{- $root := .root -}}
{{- $all := $root.Files.Get "files/settings.yaml" | fromYaml -}}
{{- $names := index $all.commands .command -}}
{{- $values := $root.Values -}}
{{- $found := dict -}}
{{- if $values.redis.url -}}
{{- $_ := set $found "storage" "redis" -}}
{{- $_ := set $found "redisUrl" $values.redis.url -}}
{{- if $values.redis.passwordSecret -}}
{{- $_ := set $found "redisPasswordFile" (printf "/etc/kedastral/redis/%s" $values.redis.passwordKey) -}}
{{- end -}}
{{- end -}}
{{- if $values.tls.enabled -}}
{{- $_ := set $found "grpcTlsCertFile" "/etc/kedastral/tls/tls.crt" -}}
{{- $_ := set $found "grpcTlsKeyFile" "/etc/kedastral/tls/tls.key" -}}
{{- if $values.tls.mutual -}}
{{- $_ := set $found "grpcTlsClientCaFile" "/etc/kedastral/tls/ca.crt" -}}
{{- end -}}
{{- if $values.tls.http -}}
{{- $_ := set $found "httpTlsCertFile" "/etc/kedastral/tls/tls.crt" -}}
{{- $_ := set $found "httpTlsKeyFile" "/etc/kedastral/tls/tls.key" -}}
{{- $_ := set $found "forecasterCaFile" "/etc/kedastral/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- if or (eq .command "scaler") (not (or $values.forecastPolicies $values.existingConfigMap)) -}}
{{- $_ := set $found "onStale" $values.onStale -}}
{{- end -}}
{{- range $key, $value := $values.settings }}{{ $_ := set $found $key $value }}{{ end -}}
{{- if ne .component "autoscaler" -}}
{{- range $key, $value := (index $values .component).settings }}{{ $_ := set $found $key $value }}{{ end -}}
{{- end -}}
{{- range $key := keys $found -}}
{{- if not (hasKey $names $key) }}{{ $_ := unset $found $key }}{{ end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /* A value as a variable has it. Numbers go through JSON, since templates write a million as 1e+06. */ -}}
{{- define "kedastral.text" -}}
{{- if kindIs "string" .value -}}
{{- .value -}}
{{- else if kindIs "slice" .value -}}
{{- join .joiner .value -}}
{{- else -}}
{{- toJson .value -}}
{{- end -}}
{{- end -}}

{{- define "kedastral.env" -}}
{{- $all := .root.Files.Get "files/settings.yaml" | fromYaml -}}
{{- $names := index $all.commands .command -}}
{{- range $key, $value := .settings }}
{{- $text := include "kedastral.text" (dict "value" $value "joiner" (default "," (index $all.joiners $key))) }}
- name: {{ index $names $key }}
  value: {{ or (contains "\n" $text) (gt (len $text) 70) | ternary (quote $text) (toYaml $text) }}
{{- end }}
{{- range $key, $secret := .root.Values.secretSettings }}
{{- with index $names $key }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}
{{- if and (ne .command "scaler") (ne .root.Values.state.kind "none") }}
- name: STATE_DIR
  value: {{ include "kedastral.statePath" .root }}/state
{{- end }}
{{- if and (eq .command "scaler") (ne (default "memory" .settings.storage) "redis") }}
- name: FORECASTER_URL
  value: {{ printf "%s://%s-forecaster.%s.svc.cluster.local:8081" .forecasterScheme (include "kedastral.fullname" .root) .root.Release.Namespace }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* By the measurements of `make bench-scale` in docs/benchmarks.md, with room for a start; no limit of CPU. */ -}}
{{- define "kedastral.resources" -}}
{{- $own := dict -}}
{{- if ne .component "autoscaler" }}{{ $own = (index .root.Values .component).resources }}{{ end -}}
{{- if $own -}}
{{- toYaml $own -}}
{{- else if .root.Values.resources -}}
{{- toYaml .root.Values.resources -}}
{{- else -}}
{{- $workloads := int64 (default (len .root.Values.forecastPolicies) .root.Values.workloads) -}}
requests:
  cpu: {{ add 100 (div $workloads 4) }}m
  memory: {{ mul 64 (div (add 128 (div $workloads 4)) 64) }}Mi
limits:
  memory: {{ mul 64 (div (add 256 (div (mul $workloads 13) 10)) 64) }}Mi
{{- end -}}
{{- end -}}

{{- /* Refuses values that would not do what they say. */ -}}
{{- define "kedastral.validate" -}}
{{- $values := .Values -}}
{{- $all := .Files.Get "files/settings.yaml" | fromYaml -}}
{{- $components := include "kedastral.components" . | fromYaml -}}
{{- range $key := concat (keys $values.settings) (keys $values.secretSettings) | sortAlpha -}}
{{- $known := false -}}
{{- range $component := $components }}{{ $known = or $known (hasKey (index $all.commands $component.command) $key) }}{{ end -}}
{{- if not $known }}{{ fail (printf "settings.%s: no process of mode %s has this setting" $key $values.mode) }}{{ end -}}
{{- end -}}
{{- if $values.forecastPolicies -}}
{{- $given := concat (keys $values.settings) (keys $values.secretSettings) (eq $values.mode "split" | ternary (keys $values.forecaster.settings) list) -}}
{{- range $key := sortAlpha $given -}}
{{- if has $key $all.workload -}}
{{- fail (printf "settings.%s would win over every one of forecastPolicies and dataSources: write it there" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.existingConfigMap (or $values.forecastPolicies $values.dataSources) -}}
{{- fail "existingConfigMap takes the place of dataSources and forecastPolicies: set one or the other" -}}
{{- end -}}
{{- if and (eq $values.mode "single") (or $values.forecaster.settings $values.scaler.settings) -}}
{{- fail "forecaster.settings and scaler.settings are for mode split: use settings" -}}
{{- end -}}
{{- $forecasters := eq $values.mode "split" | ternary $values.forecaster.replicas nil -}}
{{- if and (eq $values.state.kind "claim") (ne (int (kindIs "invalid" $forecasters | ternary $values.replicas $forecasters)) 1) -}}
{{- fail "state.kind claim is for one pod, since two cannot share a directory: set replicas to 1, or use redis" -}}
{{- end -}}
{{- if and $values.tls.certificate.enabled (not $values.tls.enabled) -}}
{{- fail "tls.certificate.enabled needs tls.enabled" -}}
{{- end -}}
{{- if and $values.tls.certificate.enabled (not $values.tls.certificate.issuerRef.name) -}}
{{- fail "tls.certificate.enabled needs the name of an issuer: tls.certificate.issuerRef.name" -}}
{{- end -}}
{{- end -}}
