"""The injector: adds the sidecar to pods, by a webhook or in files.

The modules, lowest first:

- `settings`: what the operator of the injector decides
- `quantity`: CPU and memory in Kubernetes' notation
- `annotations`: what a pod asks for with `sidecar.dev/...`
- `pod`: reads the few parts of a pod that matter here, from any JSON
- `containers`: the sidecar's container and its volumes
- `proxy_env`: HTTP_PROXY for the app's containers
- `patch`: builds a JSON patch (RFC 6902) from a pod and the settings. Like all modules above, it does no I/O.
- `files`: applies the same patch to YAML files of workloads
- `review`: reads and writes AdmissionReview (admission.k8s.io/v1). It does no I/O.
- `server_tls`, `webhook`: answer reviews over HTTPS
- `objects`: reads and writes the two API objects that certificates need
- `authority`, `certificates`: the injector's own CA, stored and rotated
- `injector`: the whole process
"""
