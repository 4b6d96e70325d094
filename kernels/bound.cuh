// What a query brings to the filter, and its first ceiling: entries of scan_lists.cu, whose header has
// their budget.
#pragma once
#include "items.cuh"
#include "walk.cuh"

ENTRY(scan_measure)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    const int query = blockIdx.x;  // [0, Q)
    const QueryScale scale = query_scale(a, query, reinterpret_cast<double*>(bytes));
    const WalkMemory memory(bytes, a.dim);
    load_query(a, query, memory.query);
    __syncthreads();  // the query is there
    const double longest = 2.0 * scale.norm;
    float shift_term = 0.0f;  // q'.shift
    double reach = length_of_rows(a, scale.reach);
    if (ROWS_AS == 2 && a.shift != nullptr) {  // bytes are multiplied where they are
        double product = 0.0, square = 0.0;
        for (int d = lane(); d < a.dim; d += WARP) {
            product += (double)memory.query[d] * a.shift[d];
            square += (double)a.shift[d] * a.shift[d];
        }
        for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
            product += __shfl_xor_sync(ALL_LANES, product, lanes);
            square += __shfl_xor_sync(ALL_LANES, square, lanes);
        }
        reach += sqrt(square) * (1.0 + 1e-9);
        shift_term = (float)product;
    }
    const int exponent = half_exponent(rounded_up(longest));
    const bool finite = scale.square < 1.0 / 0.0;  // else it finds nothing
    for (int i = threadIdx.x; i < a.words; i += BLOCK) {
        const float s = power_of_two(exponent);
        const float low = 2 * i < a.dim && finite ? memory.query[2 * i] : 0.0f;
        const float high = 2 * i + 1 < a.dim && finite ? memory.query[2 * i + 1] : 0.0f;
        a.query_halves[(i64)query * a.words + i] = two_halves(low * s, high * s);
    }
    if (threadIdx.x == 0) {
        a.slack[query] = scale.slack + half_rounding(a.dim, longest, reach);
        a.ceiling[query] = 1.0 / 0.0;
        a.query_term[query] = a.inner ? 0.0f : (float)scale.square;
        if (ROWS_AS == 2) {
            a.query_shift[query] = shift_term;
        }
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
