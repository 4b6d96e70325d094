// group: stable counting sort of small integers, and where each group begins.
//
//   order: keys[order] ascends, ties in input order;  offsets[g] = how many keys are below g
//
// Least significant digit first, eight bits a pass, three launches each; then one for the offsets:
//   group_count    one block a run of keys: how many have each digit
//   group_scan     one block: where the keys of each (digit, run) go, digit by digit
//   group_scatter  one block a run: keys and positions to their places, in order
//   group_offsets  one thread a group: binary search in the sorted keys
//
// in      struct GroupArgs: keys (N,) i32; a key may count from its problem: see per_problem
// out     order (N,) i64, offsets (n_groups + 1,) i64
// defines BLOCK 256
// grid    group_count, group_scatter (n_runs), group_scan (1), group_offsets (ceil((G + 1) / BLOCK))
// shared  static: the digits' counts, 10 KiB at most
// budget  group_count: regs <= 40, spills 0, blocks/SM >= 6
// budget  group_scan: regs <= 40, spills 0, blocks/SM >= 6
// budget  group_scatter: regs <= 40, spills 0, blocks/SM >= 6
// budget  group_offsets: regs <= 32, spills 0, blocks/SM >= 6
// cost    ceil(log_256(n_groups)) passes over 12 N bytes
// source  Satish, Harris, Garland, "Designing efficient sorting algorithms for manycore GPUs", 2009
#include "common.cuh"

struct GroupArgs {
    const int* keys;       // (n,) keys of the input
    const int* from_keys;  // (n,) keys as the last pass left them; null in the first
    const i64* from_rows;  // (n,) their positions in the input; null in the first
    int* to_keys;          // (n,) out
    i64* to_rows;          // (n,) out; after the last pass: order
    i64* counts;           // (256, n_runs) scratch
    i64* offsets;          // (n_groups + 1,) out of group_offsets
    i64 n;                 // N
    i64 n_groups;          // G
    i64 per_problem;       // rows of one problem: row i's key is keys[i] + i / per_problem * stride
    i64 stride;            // groups of one problem, 0 where there is one
    i64 run;               // keys of one block, a multiple of BLOCK
    i64 n_runs;            // ceil(N / run)
    int shift;             // lowest bit of this pass' digit
};

constexpr int DIGITS = 256;
constexpr int WARPS = BLOCK / WARP;

__device__ __forceinline__ int key_at(const GroupArgs& a, i64 i) {
    if (a.from_keys != nullptr) {
        return a.from_keys[i];
    }
    return a.keys[i] + (int)(i / a.per_problem * a.stride);
}

ENTRY(group_count)(const GroupArgs a) {
    __shared__ int counts[DIGITS];
    counts[threadIdx.x] = 0;
    __syncthreads();  // the counts are clear
    const i64 begin = (i64)blockIdx.x * a.run;
    for (i64 i = begin + threadIdx.x; i < begin + a.run && i < a.n; i += BLOCK) {
        atomicAdd(&counts[key_at(a, i) >> a.shift & (DIGITS - 1)], 1);
    }
    __syncthreads();  // all are counted
    a.counts[threadIdx.x * a.n_runs + blockIdx.x] = counts[threadIdx.x];
}

ENTRY(group_scan)(const GroupArgs a) {
    __shared__ i64 sums[BLOCK];
    const i64 n = DIGITS * a.n_runs;
    i64 before = 0;
    for (i64 start = 0; start < n; start += BLOCK) {
        const i64 i = start + threadIdx.x;
        const i64 mine = i < n ? a.counts[i] : 0;
        sums[threadIdx.x] = mine;
        for (int stride = 1; stride < BLOCK; stride *= 2) {
            __syncthreads();  // sums over `stride` counts are there
            const i64 more = threadIdx.x >= stride ? sums[threadIdx.x - stride] : 0;
            __syncthreads();  // everyone has read them
            sums[threadIdx.x] += more;
        }
        __syncthreads();  // inclusive sums
        if (i < n) {
            a.counts[i] = before + sums[threadIdx.x] - mine;
        }
        before += sums[BLOCK - 1];
        __syncthreads();  // the sums are read: the next counts may come
    }
}

ENTRY(group_scatter)(const GroupArgs a) {
    __shared__ i64 next[DIGITS];            // place of the next key with each digit
    __shared__ int in_warp[WARPS][DIGITS];  // keys of this round with each digit, by warp
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    next[threadIdx.x] = a.counts[threadIdx.x * a.n_runs + blockIdx.x];
    const i64 begin = (i64)blockIdx.x * a.run;
    for (i64 start = begin; start < begin + a.run && start < a.n; start += BLOCK) {
        for (int w = 0; w < WARPS; w++) {
            in_warp[w][threadIdx.x] = 0;
        }
        __syncthreads();  // clear, and `next` is of this round
        const i64 i = start + threadIdx.x;
        const bool inside = i < a.n;
        const int key = inside ? key_at(a, i) : 0;
        const int digit = inside ? key >> a.shift & (DIGITS - 1) : DIGITS;  // none has DIGITS
        const u32 same = __match_any_sync(ALL_LANES, digit);
        const int rank = __popc(same & ((1u << lane) - 1));
        if (inside && rank == 0) {
            in_warp[warp][digit] = __popc(same);
        }
        __syncthreads();  // the warps' counts are there
        if (inside) {
            i64 place = next[digit] + rank;
            for (int w = 0; w < warp; w++) {
                place += in_warp[w][digit];
            }
            a.to_keys[place] = key;
            a.to_rows[place] = a.from_rows == nullptr ? i : a.from_rows[i];
        }
        __syncthreads();  // every place is taken
        for (int w = 0; w < WARPS; w++) {
            next[threadIdx.x] += in_warp[w][threadIdx.x];
        }
    }
}

ENTRY(group_offsets)(const GroupArgs a) {
    const i64 group = global_thread();  // [0, G]
    if (group > a.n_groups) {
        return;
    }
    i64 low = 0, high = a.n;  // how many keys are below `group`
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (a.to_keys[middle] < group) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    a.offsets[group] = low;
}
