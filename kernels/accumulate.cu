// accumulate: sum and number of the rows of every cluster, for B problems.
//
//   sums[b, c, d] = sum over the rows i of cluster c, in order, of x[b, i, d];  counts[b, c]
//
// The rows come grouped (group.cu). One thread adds one component of one cluster in float64, row
// after row: no atomics, the same bits every run, and those of the NumPy backend.
//
// in      struct AccumulateArgs: x (B * N, D) f32, order (B * N,) i64, offsets (B * C + 1,) i64
// out     sums (B * C, D) f64, counts (B * C,) i64
// defines BLOCK 256
// grid    (ceil(B C D / BLOCK))
// shared  none
// budget  accumulate: regs <= 64, spills 0, blocks/SM >= 4
// cost    reads x once, gathered by row
// source  Lloyd, "Least squares quantization in PCM", 1982
#include "common.cuh"

struct AccumulateArgs {
    const float* x;      // (n_problems * n, dim)
    const i64* order;    // (n_problems * n,) rows by cluster
    const i64* offsets;  // (n_clusters + 1,) first row of each cluster in order
    double* sums;        // (n_clusters, dim) out
    i64* counts;         // (n_clusters,) out
    i64 n_clusters;      // of all problems together, B * C
    int dim;             // D
};

ENTRY(accumulate)(const AccumulateArgs a) {
    const i64 cluster = global_thread() / a.dim;  // [0, B C)
    const int d = (int)(global_thread() % a.dim);
    if (cluster >= a.n_clusters) {
        return;
    }
    const i64 begin = a.offsets[cluster], end = a.offsets[cluster + 1];
    double sum = 0.0;
    for (i64 i = begin; i < end; i++) {
        sum = __dadd_rn(sum, (double)a.x[a.order[i] * a.dim + d]);
    }
    a.sums[cluster * a.dim + d] = sum;
    if (d == 0) {
        a.counts[cluster] = end - begin;
    }
}
