"""Whether two builds of the sidecar behave alike: random scripts are played against both, and everything is compared.

    python -m benchmarks.differential --old BIN --new BIN --seed 1 --requests 100000

An *episode* is a random service (its policy) and some *scenes* that use it, one after the other. A scene is what an app
does (`apps`), and an answer for each copy of its requests (`upstreams`), all made of a seed (`episodes`, `scenes`,
`answers`, `policies`). A *round* starts both builds with the same file of some hundred services, and plays many
episodes at a time (`rounds`). Compared are the bytes that each app and each upstream got, how connections ended, the
metrics and the access log (`sameness`).

What differs is played again, alone, up to three times: only what differs each time is reported, with the scenes that
are needed for it. An episode that was alike in one of these tries is counted as unsteady. A POST that reached an
upstream twice is reported in any case.

It needs Linux: upstreams listen on addresses such as 127.10.0.1.
"""
