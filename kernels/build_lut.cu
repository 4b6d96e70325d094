// build_lut: the products of every query's pieces with every codebook entry.
//
//   lut[q, m, j] = sum_l queries[q, m * pq_len + l] * codebooks[m, j, l]
//
// in      struct BuildLutArgs: queries (Q, pq_dim * pq_len) f32, codebooks (pq_dim, J, pq_len) f32
// out     lut (Q, pq_dim, J) TABLE
// defines BLOCK 256; TABLE float or __half (rounded to nearest)
// grid    (pq_dim, ceil(J / BLOCK), ceil(Q / QUERIES)); a thread owns entry j of codebook m and
//         gives it to QUERIES queries
// shared  none
// budget  build_lut: regs <= 40, spills 0, blocks/SM >= 6
// cost    2 * Q * pq_dim * J * pq_len flop; writes the table, reads the codebooks
//         ceil(Q / QUERIES) times from L2
// source  Jegou, Douze, Schmid, PAMI 2011; a table without its list term, so once a query: own
#include <cuda_fp16.h>

#include "common.cuh"

struct BuildLutArgs {
    const float* queries;    // (n_queries, pq_dim * pq_len)
    const float* codebooks;  // (pq_dim, pq_book_size, pq_len)
    TABLE* lut;              // (n_queries, pq_dim, pq_book_size) out
    int n_queries;           // Q
    int pq_dim;              // codes of a row
    int pq_book_size;        // entries of a codebook
    int pq_len;              // components of an entry
};

constexpr int QUERIES = 8;  // of one block: the entry comes from L1 after the first

__device__ __forceinline__ void store(float* to, float x) { *to = x; }
__device__ __forceinline__ void store(__half* to, float x) { *to = __float2half_rn(x); }

ENTRY(build_lut)(const BuildLutArgs a) {
    const int m = blockIdx.x;                        // [0, pq_dim)
    const int j = blockIdx.y * BLOCK + threadIdx.x;  // [0, J)
    const i64 first = (i64)blockIdx.z * QUERIES;     // [0, Q)
    if (j >= a.pq_book_size) {
        return;
    }
    const float* entry = a.codebooks + ((i64)m * a.pq_book_size + j) * a.pq_len;
    for (i64 q = first; q < first + QUERIES && q < a.n_queries; q++) {
        const float* piece = a.queries + (q * a.pq_dim + m) * a.pq_len;
        float sum = 0.0f;
        for (int l = 0; l < a.pq_len; l++) {
            sum = fmaf(piece[l], entry[l], sum);
        }
        store(&a.lut[(q * a.pq_dim + m) * a.pq_book_size + j], sum);
    }
}
