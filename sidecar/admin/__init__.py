"""HTTP shells around what runs, on aiohttp: for kubelet and Prometheus, and for operators."""
