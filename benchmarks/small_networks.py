"""Settings of networks that learn nothing, for benchmarks that only need their files and steps."""

SMALL_LANELM = (
    "--lanelm.network.num-steps=16",
    "--lanelm.network.nbins-x=80",
    "--lanelm.network.embed-dim=32",
    "--lanelm.network.num-heads=2",
    "--lanelm.network.ffn-dim=64",
)
