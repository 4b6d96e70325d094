// Pairs (query, probe) by list, in any order, and the items of every list: entries of scan_lists.cu,
// whose header has their budget.
#pragma once
#include "filter.cuh"

ENTRY(scan_begin)(const ScanArgs a) {
    __shared__ u32 longest;  // bits of a float: they ascend as it does, for it is not negative
    const i64 at = global_thread();
    if (a.list_pairs != nullptr && at < 2 * (i64)a.n_lists) {
        a.list_pairs[at] = 0;
    }
    const int m = blockIdx.x;  // [0, pq_dim)
    if (a.book_reach == nullptr || m >= a.pq_dim) {
        return;  // the whole block
    }
    if (threadIdx.x == 0) {
        longest = 0;
    }
    __syncthreads();  // no entry was seen
    const float* entries = a.codebooks + (i64)m * a.pq_book_size * a.pq_len;
    for (int i = threadIdx.x; i < a.pq_book_size; i += BLOCK) {
        double square = 0.0;
        for (int d = 0; d < a.pq_len; d++) {
            const double x = entries[i * a.pq_len + d];
            square += x * x;
        }
        atomicMax(&longest, __float_as_uint(rounded_up(sqrt(square))));
    }
    __syncthreads();  // all entries were seen
    if (threadIdx.x == 0) {
        a.book_reach[m] = __uint_as_float(longest);
    }
}

// first[i] = sum of count(j) over lists j < i. The whole block; sums (BLOCK,) shared.
template <class Count>
__device__ __forceinline__ void sum_lists(int n_lists, i64* sums, i64* first, const Count& count) {
    i64 before = 0;
    for (int start = 0; start < n_lists; start += BLOCK) {
        const int list = start + threadIdx.x;
        sums[threadIdx.x] = list < n_lists ? count(list) : 0;
        for (int stride = 1; stride < BLOCK; stride *= 2) {
            __syncthreads();  // sums over `stride` lists are there
            const i64 more = threadIdx.x >= stride ? sums[threadIdx.x - stride] : 0;
            __syncthreads();  // everyone has read them
            sums[threadIdx.x] += more;
        }
        __syncthreads();  // inclusive sums
        if (list < n_lists) {
            first[list + 1] = before + sums[threadIdx.x];
        }
        before += sums[BLOCK - 1];
        __syncthreads();  // the sums are read: the next lists may come
    }
    if (threadIdx.x == 0) {
        first[0] = 0;
    }
}

ENTRY(scan_plan)(const ScanArgs a) {
    __shared__ i64 sums[BLOCK];
    sum_lists(2 * a.n_lists, sums, a.pair_first, [&](int key) { return (i64)a.list_pairs[key]; });
    i64 row_step = 1;
    for (int epoch = a.n_epochs; epoch >= 0; epoch--) {
        row_step = epoch == 0 ? 1 : row_step;
        sum_lists(a.n_lists, sums, a.item_first + (i64)epoch * (a.n_lists + 1), [&](int list) {
            const i64 n_pairs =
                a.list_pairs[2 * list] + (epoch == 0 ? 0 : a.list_pairs[2 * list + 1]);
            return items_of(a, list, n_pairs, epoch, row_step);
        });
        row_step *= a.growth;
    }
}

ENTRY(scan_group)(const ScanArgs a) {
    const i64 pair = global_thread();  // [0, Q P)
    if (pair < (i64)a.n_queries * a.n_probes) {
        const int list = a.probes[pair];
        if (list >= 0) {
            const i64 key = key_of_pair(a, list, (int)(pair % a.n_probes));
            const int place = atomicSub(&a.list_pairs[key], 1) - 1;
            a.pair_order[a.pair_first[key] + place] = pair;
        }
    }
}
