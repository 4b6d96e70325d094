// What the two scans share: their arguments, and the error bound between a scan score and the
// canonical distance.
//
//   score(q, v) = A(q, l) + N(v) - q'.r(v)       q' = 2q for L2, q for inner product
#pragma once
#include "canonical.cuh"
#include "rows.cuh"

struct ScanArgs {
    const float* queries;    // (n_queries, dim)
    const float* terms;      // (n_queries, n_probes) A(q, l); null where no centre is added
    const i64* offsets;      // (n_lists + 1,) first storage row of each list
    const i64* ids;          // (n_rows,) the caller's names
    const float* norms;      // (n_rows,) N(v)
    const float* radius;     // (n_lists,) at least 2 |c_l| + |v|
    const int* probes;       // (n_queries, n_probes) distinct lists, nearest first; -1 for none
    const u32* keep;         // (keep_words,) or (n_queries, keep_words) bits over the ids; or null
    const float* limit;      // (n_queries,) rows farther than it are dropped; or null
    const ROW* rows;         // (n_rows, dim), or codes (n_rows, code_bytes)
    const u32* halves;       // (n_rows + 31, words) what is scanned as scaled fp16, or null
    const float* scale;      // (n_rows,) or null, see rows.cuh
    const float* shift;      // (dim,) or null
    const float* codebooks;  // (pq_dim, pq_book_size, pq_len), PQ only
    const float* step;       // (dim,), scalar codes only, see rows.cuh
    const float* middle;     // (dim,), scalar codes only
    const float* centers;    // (n_lists, dim), or null where none is added to rows
    const TABLE* lut;        // (n_queries, pq_dim, pq_book_size), scan_lut only
    float* dists;            // (n_splits, n_queries, k) out
    i64* names;              // (n_splits, n_queries, k) out
    float* book_reach;       // (pq_dim,) scratch, PQ only: at least the length of every entry
    u32* query_halves;       // (n_queries, words) scratch: q' as fp16, scaled, two a word
    float* query_shift;      // (n_queries,) scratch, bytes only: q'.shift, or minus q'.middle
    float* query_factor;  // (n_queries,) scratch: undoes that scale; 0 for one that is not finite
    double* ceiling;      // (n_queries,) scratch: the highest score that can matter
    double* slack;        // (n_queries,) scratch: bound of |filter score - canonical distance|
    float* query_term;    // (n_queries,) scratch: A(q) of rows stored whole
    int* list_pairs;   // (2 n_lists,) scratch, zero: pairs of near probes of each list, its others
    i64* pair_first;   // (2 n_lists + 1,) scratch: where these begin in pair_order
    i64* item_first;   // (n_epochs + 1, n_lists + 1) scratch: first item of each list
    u64* tickets;      // (n_epochs + 1,) scratch: items taken
    i64* pair_order;   // (n_queries * n_probes,) scratch: pairs q * n_probes + p by list
    int* n_survivors;  // (n_queries,) scratch
    i64* survivors;    // (n_queries, survivor_places) scratch: storage rows
    float* scores;     // (n_queries, survivor_places) scratch: their scores
    i64* kept;         // (n_queries, survivor_places) scratch: survivors after tightening
    float* kept_scores;   // (n_queries, survivor_places) scratch: their scores
    i64 keep_words;       // words of one bit set
    i64 row_step;         // this epoch filters every row_step-th turn of a list's rows ...
    int growth;           // ... but every growth-th of those was filtered before, ...
    int is_first;         // ... unless this is 1
    int epoch;            // 0: what the bound is made from; 1 .. n_epochs
    int n_epochs;         // row_step is growth times less in each, 1 in the last
    int turns;            // of a list's rows in an item at most
    int near_probes;      // whose lists epoch 0 looks at ...
    int near_turns;       // ... and at how many turns of each at most
    int depth;            // components of a tile of queries
    int words;            // of a query or a row as fp16, padded to a multiple of 16 components
    int bound_stride;     // rows from one that the bound is made from to the next
    int keep_per_query;   // 1: one bit set for each query
    int n_queries;        // Q
    int n_probes;         // P
    int n_lists;          // L
    int k;                // results of each query
    int dim;              // components of a scanned row
    int inner;            // 1: inner product, 0: squared L2
    int pq_dim;           // codes of a row, 0 for rows stored whole
    int pq_book_size;     // entries of a codebook
    int pq_len;           // components of an entry
    int pq_bits;          // of a code
    int code_bytes;       // of a row's codes, PQ only
    int budget;           // rows that the bound is made from
    int capacity;         // of the selection, see select.cuh
    int n_splits;         // blocks that share a query
    int survivor_places;  // room for each query's survivors
    int table_is_shared;  // 1: the look-up table is copied to shared memory
};

constexpr int CHUNK = 128;             // rows between two looks at the selection's room
constexpr int GROUPS = BLOCK / GROUP;  // rows that a block scores at a time

__device__ __forceinline__ StoredRows stored_rows(const ScanArgs& a) {
    return StoredRows{a.rows,    a.scale, a.shift,        a.codebooks, a.step,    a.middle,
                      a.centers, a.dim,   a.pq_book_size, a.pq_len,    a.pq_bits, a.code_bytes};
}

__device__ __forceinline__ bool allowed(const ScanArgs& a, int query, i64 id) {
    if (a.keep == nullptr) {
        return true;
    }
    if (id < 0 || id >= 32 * a.keep_words) {
        return false;
    }
    const u32* bits = a.keep_per_query ? a.keep + query * a.keep_words : a.keep;
    return bits[id >> 5] >> (id & 31) & 1;
}

// The query as the scan multiplies it, moved and scaled, zero-padded: (padded_dim,) shared.
__device__ __forceinline__ int padded_dim(int dim) { return (dim + 3) / 4 * 4; }

__device__ __forceinline__ float moved_component(const ScanArgs& a, int query, int d) {
    const float x = a.queries[(i64)query * a.dim + d];
    return a.shift == nullptr ? x : __fsub_rn(x, a.shift[d]);
}

__device__ __forceinline__ void load_query(const ScanArgs& a, int query, float* scaled) {
    for (int d = threadIdx.x; d < padded_dim(a.dim); d += BLOCK) {
        const float x = d < a.dim ? moved_component(a, query, d) : 0.0f;
        scaled[d] = a.inner ? x : 2.0f * x;
    }
}

// The p-th list of a query, or -1: a query that is not finite has no nearest lists.
__device__ __forceinline__ int probed_list(const ScanArgs& a, int query, int p) {
    return a.probes[(i64)query * a.n_probes + p];
}

struct QueryScale {
    double square;  // |q|^2 of the moved query
    double norm;    // at least |q|
    double reach;   // the largest radius of the probed lists, at least |r| of any row
    double slack;   // bound of |score - canonical distance|
};

// The whole block. As numpy_ops/_slack.py: (dim + 16) (u size + 2^-126), size = (|q| + R)^2 or
// 2 |q| R, where R is the largest radius of the probed lists. `partial` (BLOCK,) shared.
__device__ __forceinline__ QueryScale query_scale(const ScanArgs& a, int query, double* partial) {
    double square = 0.0;
    for (int d = threadIdx.x; d < a.dim; d += BLOCK) {
        const double x = moved_component(a, query, d);
        square += x * x;
    }
    float radius = 0.0f;
    for (int p = threadIdx.x; p < a.n_probes; p += BLOCK) {
        const int list = probed_list(a, query, p);
        radius = list < 0 ? radius : fmaxf(radius, a.radius[list]);
    }
    float* largest = reinterpret_cast<float*>(partial + BLOCK);
    partial[threadIdx.x] = square;
    largest[threadIdx.x] = radius;
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        __syncthreads();  // the level above is written
        if (threadIdx.x < half) {
            partial[threadIdx.x] += partial[threadIdx.x + half];
            largest[threadIdx.x] = fmaxf(largest[threadIdx.x], largest[threadIdx.x + half]);
        }
    }
    __syncthreads();  // the sums are there
    QueryScale scale;
    scale.square = partial[0];
    const double norm = sqrt(scale.square) * (1.0 + 1e-9), reach = largest[0];
    scale.norm = norm;
    scale.reach = reach;
    const double size = a.inner ? 2.0 * norm * reach : (norm + reach) * (norm + reach);
    scale.slack = rounding(a.dim, size);
    __syncthreads();  // everyone has read them: the memory may be used again
    return scale;
}

constexpr int SCALE_BYTES = BLOCK * 12;  // of shared memory that query_scale takes
