// The walk of one block over the lists of one query, selection included.
//
// Scores of `budget` rows, nearest lists first; the k-th smallest of them plus twice the slack is a
// ceiling; every row at or under it gets its canonical distance, and the selection keeps the k best
// of those. The ceiling falls with the k-th canonical distance.
#pragma once
#include "scan.cuh"
#include "select.cuh"

// The walk's shared memory: the query, then the keys of the bound or the selection, never both.
struct WalkMemory {
    float* query;
    u32* keys;
    void* selection;

    __device__ WalkMemory(unsigned char* bytes, int dim) {
        query = reinterpret_cast<float*>(bytes);
        const int used = padded_dim(dim) * 4;  // a multiple of 16
        keys = reinterpret_cast<u32*>(bytes + used);
        selection = bytes + used;
    }
};

// Components of one stored row times the query in shared memory, by one group of lanes.
struct DotScore {
    StoredRows rows;
    const float* query;  // (padded_dim,) shared

    __device__ float operator()(i64 row) const {
        float sum = 0.0f;
        for (int d = 4 * lane_in_group(); d < rows.dim; d += 4 * GROUP) {
            float x[4];
            rows.load(row, d, x);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sum = fmaf(x[i], query[d + i], sum);
            }
        }
        return group_sum(sum);
    }
};

// Canonical distance of a stored row, by one group; all lanes of the warp come together.
__device__ __forceinline__ float canonical_of(const ScanArgs& a, const StoredRows& rows, int query,
                                              i64 row, int list) {
    const float* q = a.queries + (i64)query * a.dim;
    return canonical([&](int d) { return rows.decoded(row, list, d); }, [&](int d) { return q[d]; },
                     a.dim, a.inner, rows.without_direction(row) ? 1.0 : 0.0);
}

// Calls visit(list, probe, begin, end) for this split's pieces of `length` rows of the query's
// lists, nearest lists first, until it returns false. The same for all threads of the block.
template <class Visit>
__device__ __forceinline__ void for_each_piece(const ScanArgs& a, int query, int split, i64 length,
                                               const Visit& visit) {
    int turn = 0;
    for (int p = 0; p < a.n_probes; p++) {
        const int list = probed_list(a, query, p);
        const i64 stop = list < 0 ? 0 : a.offsets[list + 1];
        for (i64 begin = list < 0 ? 0 : a.offsets[list]; begin < stop; begin += length) {
            const i64 end = begin + length < stop ? begin + length : stop;
            if (turn == split && !visit(list, p, begin, end)) {
                return;
            }
            turn = turn + 1 == a.n_splits ? 0 : turn + 1;
        }
    }
}

__device__ __forceinline__ float pair_term(const ScanArgs& a, int query, int probe, float own) {
    return a.terms == nullptr ? own : a.terms[(i64)query * a.n_probes + probe];
}

// The whole block: upper bound of the k-th smallest score, from about `budget` rows: those of the
// nearest lists, or every bound_stride-th of an only list, whose rows may lie in any order; +inf if
// there are fewer than k. Splits take different rows, each k of which bound the whole query's k-th.
// keys (budget + CHUNK,), histogram (256,), found (2,) shared.
template <class Score>
__device__ __forceinline__ float first_bound(const ScanArgs& a, int query, int split, float own,
                                             const Score& score, u32* keys, int* histogram,
                                             u32* found) {
    int n = 0;
    const i64 length = (i64)CHUNK * a.bound_stride;
    for_each_piece(a, query, split, length, [&](int, int probe, i64 begin, i64 end) {
        const float term = pair_term(a, query, probe, own);
        for (int i = threadIdx.x / GROUP; i < CHUNK; i += GROUPS) {
            const i64 at = begin + (i64)i * a.bound_stride;
            const bool inside = at < end;
            const i64 row = inside ? at : begin;
            const float product = score(row);
            if (inside && lane_in_group() == 0) {
                const bool kept = allowed(a, query, a.ids[row]);
                const float found_score = term + (a.norms[row] - product);
                keys[n + i] = key_of(kept ? found_score : positive_infinity());
            }
        }
        n += (int)ceil_div(end - begin, a.bound_stride);
        return n < a.budget;
    });
    __syncthreads();  // every score is written
    const u32 key = kth_smallest(keys, n, a.k, histogram, found);
    return key == NO_KEY ? positive_infinity() : float_of(key);
}

// The whole block: canonical distances of this split's rows whose score is at or under `ceiling`
// go to the selection.
template <class Score>
__device__ __forceinline__ void select_under(const ScanArgs& a, int query, int split, float own,
                                             double ceiling, double slack, const Score& score,
                                             Selection& best) {
    const StoredRows rows = stored_rows(a);
    const float limit = a.limit == nullptr ? positive_infinity() : a.limit[query];
    for_each_piece(a, query, split, CHUNK, [&](int list, int probe, i64 begin, i64 end) {
        const float term = pair_term(a, query, probe, own);
        best.make_room(CHUNK);
        const double highest = fmin(ceiling, (double)best.bound() + slack);
        for (int i = threadIdx.x / GROUP; i < CHUNK; i += GROUPS) {
            const bool inside = begin + i < end;
            const i64 row = inside ? begin + i : begin;
            const float product = score(row);
            // not "at or under": an fp16 table that overflowed gives NaN, and a ceiling of +inf
            const bool above = (double)(term + (a.norms[row] - product)) > highest;
            const bool passes = inside && !above && allowed(a, query, a.ids[row]);
            if (!__any_sync(ALL_LANES, passes)) {
                continue;  // the whole warp
            }
            const float distance = canonical_of(a, rows, query, row, list);
            if (passes && lane_in_group() == 0 && distance <= limit) {
                best.push(distance, a.ids[row]);
            }
        }
        return true;
    });
}
