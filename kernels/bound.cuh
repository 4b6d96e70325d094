// What a query brings to the filter, and its first ceiling: entries of scan_lists.cu, whose header has
// their budget.
#pragma once
#include "items.cuh"
#include "walk.cuh"

// Bytes are multiplied as they are stored: what q' they meet, and what their products leave out.
struct ByteQuery {
    float term;      // what the pair's term has more
    double longest;  // at least the length of the query that is multiplied
    double slack;    // by how much products and term may err
};

__device__ __forceinline__ double sum_of_lanes(double x) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, lanes);
    }
    return x;
}

// The whole warp; query (dim,) is q', of length at most `length`; rows are `reach` long at most.
//     whole rows   q'.r = q'.byte - q'.shift
//     scalar codes q'.r = (q' step).code + q'.middle
__device__ __forceinline__ ByteQuery byte_query(const ScanArgs& a, const float* query,
                                                double length, double reach) {
    const float* origin = CODEC == 2 ? a.middle : a.shift;
    double product = 0.0, origin_square = 0.0, own_square = 0.0;
    for (int d = lane(); d < a.dim; d += WARP) {
        const double x = query[d], y = origin == nullptr ? 0.0 : origin[d];
        const double own = CODEC == 2 ? x * a.step[d] : x;
        product += x * y;
        origin_square += y * y;
        own_square += own * own;
    }
    product = sum_of_lanes(product);
    const double away = sqrt(sum_of_lanes(origin_square)) * (1.0 + 1e-9);
    if (CODEC != 2) {
        return {(float)product, length, half_rounding(a.dim, length, reach + away)};
    }
    const double longest = sqrt(sum_of_lanes(own_square)) * (1.0 + 1e-6);  // steps are rounded in
    const double codes = 128.0 * sqrt((double)a.dim);  // the length of any row of them
    // The products' sum is at most |q' step| |codes|, and at most |q'| |r - middle|.
    const double sum = fmin(longest * codes, length * (reach + away));
    // Components of q' step that are far smaller than the longest lose 2^-39 of it, and meet 128.
    const double small = a.dim * (128.0 * 0x1p-39 * longest + 0x1p-98 * (longest + codes));
    return {(float)-product, longest, sum * half_relative(a.dim) + small + 0x1p-20 * length * away};
}

ENTRY(scan_measure)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    const int query = blockIdx.x;  // [0, Q)
    const QueryScale scale = query_scale(a, query, reinterpret_cast<double*>(bytes));
    const WalkMemory memory(bytes, a.dim);
    load_query(a, query, memory.query);
    __syncthreads();  // the query is there
    double longest = 2.0 * scale.norm;
    const double reach = length_of_rows(a, scale.reach);
#if ROWS_AS == 2
    const ByteQuery of_bytes = byte_query(a, memory.query, longest, reach);
    longest = of_bytes.longest;
    const double rounding_error = of_bytes.slack;
#else
    const double rounding_error = half_rounding(a.dim, longest, reach);
#endif
    const int exponent = half_exponent(rounded_up(longest));
    const bool finite = scale.square < 1.0 / 0.0;  // else it finds nothing
    const float s = power_of_two(exponent);
    auto component = [&](int d) {
        const float x = d < a.dim && finite ? memory.query[d] * s : 0.0f;
        return CODEC == 2 && d < a.dim ? x * a.step[d] : x;
    };
    for (int i = threadIdx.x; i < a.words; i += BLOCK) {
        a.query_halves[(i64)query * a.words + i] =
            two_halves(component(2 * i), component(2 * i + 1));
    }
    if (threadIdx.x == 0) {
        a.slack[query] = scale.slack + rounding_error;
        a.ceiling[query] = 1.0 / 0.0;
        a.query_term[query] = a.inner ? 0.0f : (float)scale.square;
#if ROWS_AS == 2
        a.query_shift[query] = of_bytes.term;
#endif
        a.query_factor[query] = finite ? power_of_two(-exponent) : 0.0f;
        a.n_survivors[query] = 0;
    }
    if (query == 0 && threadIdx.x <= a.n_epochs) {
        a.tickets[threadIdx.x] = 0;
    }
    if (a.n_lists > 1) {
        for (int p = threadIdx.x; p < a.n_probes; p += BLOCK) {
            const int list = probed_list(a, query, p);
            if (list >= 0) {
                atomicAdd(&a.list_pairs[key_of_pair(a, list, p)], 1);
            }
        }
    }
}

ENTRY(scan_bound)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int histogram[256];
    __shared__ u32 found[2];
    const int query = blockIdx.x;  // [0, Q)
    const WalkMemory memory(bytes, a.dim);
    const int most = a.survivor_places < a.budget ? a.survivor_places : a.budget;
    const int n = a.n_survivors[query] < most ? a.n_survivors[query] : most;
    float bound = positive_infinity();
    if (n >= a.k) {
        for (int i = threadIdx.x; i < n; i += BLOCK) {
            memory.keys[i] = key_of(a.scores[(i64)query * a.survivor_places + i]);
        }
        // no barrier: the selection begins with one
        const u32 key = kth_smallest(memory.keys, n, a.k, histogram, found);
        bound = key == NO_KEY ? bound : float_of(key);
    } else if (a.query_factor[query] != 0.0f) {  // its near lists are short: it looks for itself
        load_query(a, query, memory.query);
        __syncthreads();  // the query is there
        bound = first_bound(a, query, 0, a.query_term[query],
                            DotScore{stored_rows(a), memory.query}, memory.keys, histogram, found);
    }
    if (a.limit != nullptr) {
        bound = fminf(bound, a.limit[query]);
    }
    __syncthreads();  // everyone has read the count
    if (threadIdx.x == 0) {
        // the k-th row lies under bound + slack, and the filter errs by as much once more
        a.ceiling[query] = (double)bound + 2.0 * a.slack[query];
        a.n_survivors[query] = 0;
    }
}
