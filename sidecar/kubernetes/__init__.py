"""The injector: puts the sidecar into pods, by webhook or in files.

How the files build on each other, lowest first:

- `settings`: what an operator of the injector decides.
- `quantity`: CPU and memory as Kubernetes writes them.
- `annotations`: what a pod asks for, with `sidecar.dev/...`.
- `pod`: the few parts of a pod that matter here, read from whatever JSON came.
- `containers`: the sidecar's container and its volumes.
- `proxy_env`: HTTP_PROXY for the app's containers.
- `patch`: from a pod and the settings to a JSON patch (RFC 6902). Pure, like everything above.
- `files`: the same patch on the YAML of workloads.
- `review`: AdmissionReview in and out (admission.k8s.io/v1). Pure.
- `server_tls`, `webhook`: the review over HTTPS.
- `objects`: the API server, for the two objects that certificates need.
- `authority`, `certificates`: a CA of the injector's own, kept and rotated.
- `injector`: all of it as a process.
"""
