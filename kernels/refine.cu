// refine: canonical distances of given candidates, the k best of each query.
//
//   (dists, names)[q] = the k smallest by (canonical distance, id) of rows candidates[q]
//
// A candidate outside [0, N) is none; one that is listed twice counts once, under its first id.
//
// in      struct RefineArgs: queries (Q, D) f32, rows (N, D) ROW, candidates and ids (Q, R) i64
// out     dists (Q, k) f32, names (Q, k) i64, padded with (+inf, -1)
// defines BLOCK 256; ROW float, __half, i8 or u8; CODEC 0
// grid    (Q); a block owns a query, a group of 8 lanes one candidate at a time
// shared  dynamic: 24 * capacity bytes, the selection
// budget  refine: regs <= 128, spills 0, blocks/SM >= 2
// cost    Q * R * D in float64, and Q * R^2 / 2 comparisons for candidates listed twice
// source  own
#include "canonical.cuh"
#include "common.cuh"
#include "ptx.cuh"
#include "rows.cuh"
#include "select.cuh"

struct RefineArgs {
    const float* queries;   // (n_queries, dim)
    const ROW* rows;        // (n_rows, dim)
    const float* scale;     // (n_rows,) or null, see rows.cuh
    const i64* candidates;  // (n_queries, n_candidates) rows, -1 for none
    const i64* ids;         // (n_queries, n_candidates) their names
    float* dists;           // (n_queries, k) out
    i64* names;             // (n_queries, k) out
    i64 n_rows;             // N
    int n_candidates;       // R
    int k;                  // wanted
    int dim;                // D
    int inner;              // 1: inner product, 0: squared L2
    int capacity;           // of the selection, see select.cuh
};

constexpr int GROUPS = BLOCK / GROUP;  // candidates at a time

// Whether candidate i names a row that none before it names; i >= n names none. The group shares
// the looking, the whole warp comes together.
__device__ __forceinline__ bool is_first(const i64* candidates, int n, int i, i64 n_rows) {
    const i64 row = i < n ? candidates[i] : -1;
    bool seen = row < 0 || row >= n_rows;
    for (int j = lane_in_group(); !seen && j < i; j += GROUP) {
        seen = candidates[j] == row;
    }
    const u32 mine = 0xffu << (threadIdx.x % WARP / GROUP * GROUP);
    return (__ballot_sync(ALL_LANES, seen) & mine) == 0;
}

ENTRY(refine)(const RefineArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int arrived;
    const i64 query = blockIdx.x;  // [0, Q)
    const float* q = a.queries + query * a.dim;
    const i64* candidates = a.candidates + query * a.n_candidates;
    const StoredRows rows{a.rows,  a.scale, nullptr, nullptr, nullptr, nullptr,
                          nullptr, a.dim,   0,       0,       0,       0};
    Selection best;
    best.begin(bytes, &arrived, a.capacity, a.k);
    for (int start = 0; start < a.n_candidates; start += GROUPS) {
        best.make_room(GROUPS);
        const int i = start + threadIdx.x / GROUP;  // [0, R)
        const bool counts = is_first(candidates, a.n_candidates, i, a.n_rows);
        if (!__any_sync(ALL_LANES, counts)) {
            continue;
        }
        const i64 row = counts ? candidates[i] : 0;
        const float distance =
            canonical([&](int d) { return rows.decoded(row, 0, d); }, [&](int d) { return q[d]; },
                      a.dim, a.inner, rows.without_direction(row) ? 1.0 : 0.0);
        if (counts && lane_in_group() == 0) {
            best.push(distance, a.ids[query * a.n_candidates + i]);
        }
    }
    best.finish(a.dists + query * a.k, a.names + query * a.k);
}
