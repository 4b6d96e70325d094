// The rows that pass the filter: found in a warp's products, collected, noted for their query.
#pragma once
#include "items.cuh"
#include "list_rows.cuh"

// Note rows of query q, from place `place` on. What does not fit is only counted.
__device__ __forceinline__ void put_survivor(const ScanArgs& a, int q, int place, i64 row,
                                             float score) {
    if (place < a.survivor_places) {
        const i64 at = (i64)q * a.survivor_places + place;
        a.survivors[at] = row;
        a.scores[at] = score;
    }
}

// Places for n rows of query q; -1 if there is none any more: so the count cannot overflow, for it is
// looked at first, and only threads that looked at the same time go on.
__device__ __forceinline__ int take_places(const ScanArgs& a, int q, int n) {
    if (*static_cast<volatile int*>(&a.n_survivors[q]) > a.survivor_places) {
        return -1;
    }
    return atomicAdd(&a.n_survivors[q], n);
}

// A row that passed: into shared memory; noted at once if there is no room.
__device__ __forceinline__ void stage(const ScanArgs& a, FilterMemory& memory, const Work& work,
                                      int pair, i64 row, float score) {
    const int q = work.query[pair];
    if (q < 0 || !allowed(a, q, a.ids[row])) {
        return;
    }
    const int staged = atomicAdd(&memory.n_staged[pair], 1);
    if (staged < STAGED) {
        memory.row[pair][staged] = (u32)(row - a.offsets[work.item.list]);
        memory.score[pair][staged] = work.term[pair] + score;
        return;
    }
    const int place = take_places(a, q, 1);
    if (place >= 0) {
        put_survivor(a, q, place, row, work.term[pair] + score);
    }
}

// The whole block: note what was staged, a warp a query, with one atomic each. Then nothing is staged.
__device__ __forceinline__ void note_staged(const ScanArgs& a, FilterMemory& memory,
                                            const Work& work) {
    const i64 list_begin = a.offsets[work.item.list];
    for (int pair = threadIdx.x / WARP; pair < work.item.n_pairs(); pair += WARPS) {
        const int n = memory.n_staged[pair] < STAGED ? memory.n_staged[pair] : STAGED;
        if (n == 0) {
            continue;  // the whole warp
        }
        const int q = work.query[pair];
        const int first = __shfl_sync(ALL_LANES, lane() == 0 ? take_places(a, q, n) : 0, 0);
        if (first >= 0 && lane() < n) {
            put_survivor(a, q, first + lane(), list_begin + memory.row[pair][lane()],
                         memory.score[pair][lane()]);
        }
        __syncwarp();  // every lane has read how many they are
        if (lane() == 0) {
            memory.n_staged[pair] = 0;
        }
    }
}

// acc[first + m][n][i] for place = 16 m + 4 n + i, which only registers of known number can give: by
// halves.
__device__ __forceinline__ float pick(const Product& acc, int first, int place) {
    float quarter[4];
#pragma unroll
    for (int m = 0; m < 4; m++) {
        float four[4];
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const float low = place & 1 ? acc[first + m][n][1] : acc[first + m][n][0];
            const float high = place & 1 ? acc[first + m][n][3] : acc[first + m][n][2];
            four[n] = place & 2 ? high : low;
        }
        const float low = place & 4 ? four[1] : four[0], high = place & 4 ? four[3] : four[2];
        quarter[m] = place & 8 ? high : low;
    }
    const float low = place & 16 ? quarter[1] : quarter[0];
    const float high = place & 16 ? quarter[3] : quarter[2];
    return place & 32 ? high : low;
}

// Bit 16 m + 4 n + i: acc[first + m][n][i] makes a score at or under its query's highest. Not "at or
// under": a NaN is to be looked at.
__device__ __forceinline__ u64 passed(const Work& work, const Product& acc, int first,
                                      const float (&norm)[8]) {
    u32 bits[2] = {0, 0};
#pragma unroll
    for (int m = 0; m < 4; m++) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const float highest = work.highest[tile_row(first + m, i)];
            const float factor = work.factor[tile_row(first + m, i)];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float score = fmaf(-acc[first + m][j / 2][i + j % 2], factor, norm[j]);
                bits[m / 2] |= !(score > highest) ? 1u << (m % 2 * 16 + j / 2 * 4 + i + j % 2) : 0;
            }
        }
    }
    return (u64)bits[1] << 32 | bits[0];
}

// The warp: the rows whose score is at or under their query's highest, of these products, for 64
// queries at a time.
__device__ __forceinline__ void keep_survivors(const ScanArgs& a, FilterMemory& memory,
                                               const Work& work, const ListRows& rows,
                                               const Product& acc) {
    static_assert(TILE % 64 == 0 && ROWS == 32, "pick and the bits of `passed`");
    float norm[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        norm[j] = a.norms[rows.at(warp_row(j / 2, j % 2))];
    }
#pragma unroll
    for (int first = 0; first < TILE / 16; first += 4) {
        if (first > 0 && first >= work.item.n_blocks()) {
            return;
        }
        u64 left = passed(work, acc, first, norm);
        while (left != 0) {  // rare
            const int place = __ffsll(left) - 1;
            left &= left - 1;
            const int pair = tile_row(first + place / 16, place % 4);
            const int row = warp_row(place / 4 % 4, place % 4);
            const float product = pick(acc, first, place);
            const float score = fmaf(-product, work.factor[pair], a.norms[rows.at(row)]);
            if (row <= rows.last) {
                stage(a, memory, work, pair, rows.at(row), score);
            }
        }
    }
}
