// The canonical distance: one value for a row and a query, however they met.
//
// Differences squared (or products) in float64, summed in the order of gpuann's seam (NumPy's
// pairwise order), rounded once to float32. __dadd_rn and __dmul_rn keep the compiler from fusing,
// so the bits are those of NumPy.
//
// Eight neighbouring lanes, a group, work on one row: lane j of the group keeps the j-th of the
// eight running sums. All 32 lanes of the warp call these functions together; the groups of a warp
// may be at different rows of the same length.
#pragma once
#include "common.cuh"

constexpr int GROUP = 8;         // lanes
constexpr int LEAF = 128;        // terms up to which eight running sums take turns
constexpr int MAX_HALVINGS = 8;  // so rows have at most 2^8 leaves: 16384 components are safe

__device__ __forceinline__ int lane_in_group() { return threadIdx.x % GROUP; }

// Sum of term(begin) ... term(begin + n - 1), n <= LEAF; every lane of the group gets it.
template <class Term>
__device__ __forceinline__ double leaf_sum(const Term& term, int begin, int n) {
    const int lane = lane_in_group();
    const int whole = n < GROUP ? 0 : n - n % GROUP;
    double sum = 0.0;
    if (whole) {
        sum = term(begin + lane);
        for (int i = GROUP; i < whole; i += GROUP) {
            sum = __dadd_rn(sum, term(begin + i + lane));
        }
        // ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)): addition commutes, so each lane agrees
        sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 1));
        sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 2));
        sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 4));
    }
    for (int i = whole; i < n; i++) {
        sum = __dadd_rn(sum, term(begin + i));
    }
    return sum;
}

// Sum of term(0) ... term(n - 1) in the canonical order; every lane of the group gets it.
//
// More than LEAF terms are the sum of two halves, the first of n / 2 less n / 2 mod 8 terms. The
// halving is walked leaf by leaf: bit d of `path` says that level d is in its second half, and
// `waiting` holds the sums of the first halves above, newest first (shifted, never indexed by a
// variable, so that it stays in registers).
template <class Term>
__device__ __forceinline__ double ordered_sum(const Term& term, int n) {
    double waiting[MAX_HALVINGS];
#pragma unroll
    for (int i = 0; i < MAX_HALVINGS; i++) {
        waiting[i] = 0.0;
    }
    u32 path = 0;
    while (true) {
        int begin = 0, length = n, depth = 0;
        while (length > LEAF) {
            const int first = length / 2 - length / 2 % GROUP;
            if (path >> depth & 1) {
                begin += first;
                length -= first;
            } else {
                length = first;
            }
            depth++;
        }
        double sum = leaf_sum(term, begin, length);
        while (depth > 0 && (path >> (depth - 1) & 1)) {  // a second half: its first half waits
            depth--;
            path &= ~(1u << depth);
            sum = __dadd_rn(waiting[0], sum);
#pragma unroll
            for (int i = 1; i < MAX_HALVINGS; i++) {
                waiting[i - 1] = waiting[i];
            }
        }
        if (depth == 0) {
            return sum;
        }
        path |= 1u << (depth - 1);
#pragma unroll
        for (int i = MAX_HALVINGS - 1; i > 0; i--) {
            waiting[i] = waiting[i - 1];
        }
        waiting[0] = sum;
    }
}

// Canonical distance of row(d) and query(d), d in [0, dim): minus the product, or squared L2, rounded
// once to float32. `extra` is added before rounding (a zero row under cosine). A -0 becomes 0 where
// it is selected (key_of).
template <class Row, class Query>
__device__ __forceinline__ float canonical(const Row& row, const Query& query, int dim, bool inner,
                                           double extra) {
    auto product = [&](int d) { return __dmul_rn((double)row(d), (double)query(d)); };
    auto square = [&](int d) {
        const double difference = __dsub_rn((double)row(d), (double)query(d));
        return __dmul_rn(difference, difference);
    };
    const double sum = inner ? -ordered_sum(product, dim) : ordered_sum(square, dim);
    return __double2float_rn(__dadd_rn(sum, extra));
}
