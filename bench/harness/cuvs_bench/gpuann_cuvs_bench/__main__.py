"""`python -m cuvs_bench.run` with gpuann registered."""

from cuvs_bench.run.__main__ import main

from gpuann_cuvs_bench import register

register()
main()
