// Pairs (query, probe) by list, in any order: entries of scan_lists.cu, whose header has their budget.
#pragma once
#include "scan.cuh"
#include "tile.cuh"

ENTRY(scan_plan)(const ScanArgs a) {
    __shared__ i64 pairs[BLOCK], tiles[BLOCK];
    i64 pairs_before = 0, tiles_before = 0;
    for (int start = 0; start < a.n_lists; start += BLOCK) {
        const int list = start + threadIdx.x;
        const int mine = list < a.n_lists ? a.list_pairs[list] : 0;
        pairs[threadIdx.x] = mine;
        tiles[threadIdx.x] = ceil_div(mine, TILE);
        for (int stride = 1; stride < BLOCK; stride *= 2) {
            __syncthreads();  // sums over `stride` lists are there
            const bool add = threadIdx.x >= stride;
            const i64 more_pairs = add ? pairs[threadIdx.x - stride] : 0;
            const i64 more_tiles = add ? tiles[threadIdx.x - stride] : 0;
            __syncthreads();  // everyone has read them
            pairs[threadIdx.x] += more_pairs;
            tiles[threadIdx.x] += more_tiles;
        }
        __syncthreads();  // inclusive sums
        if (list < a.n_lists) {
            a.pair_first[list + 1] = pairs_before + pairs[threadIdx.x];
            a.tile_first[list + 1] = tiles_before + tiles[threadIdx.x];
        }
        pairs_before += pairs[BLOCK - 1];
        tiles_before += tiles[BLOCK - 1];
        __syncthreads();  // the sums are read: the next lists may come
    }
    if (threadIdx.x == 0) {
        a.pair_first[0] = 0;
        a.tile_first[0] = 0;
    }
}

ENTRY(scan_group)(const ScanArgs a) {
    const i64 pair = global_thread();  // [0, Q P)
    if (pair < (i64)a.n_queries * a.n_probes) {
        const int list = a.probes[pair];
        if (list >= 0) {
            const int place = atomicSub(&a.list_pairs[list], 1) - 1;
            a.pair_order[a.pair_first[list] + place] = pair;
        }
    }
}
