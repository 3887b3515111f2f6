"""HTTP shells around what runs, on aiohttp: for kubelet and Prometheus, and for operators.

probe          /livez, /readyz, /health, /metrics: the probe listener, and on the admin listener too
server         the admin listener: what is answered where
guard          whose requests are refused
running        what the daemon has to offer
answers        what is told and what is asked, as structs; openapi makes the document from them
services_view, config_view, explain
               from live objects to answers; clock, problem: moments and refusals
commands       what changes something
stream         events as they happen
page           the dashboard's files
"""
