// What a block of the filter does at a time: an item, a tile of pairs of one list times a piece of its
// rows; and what it has in shared memory meanwhile.
#pragma once
#include "fragments.cuh"
#include "list_rows.cuh"
#include "scan.cuh"

constexpr int STAGED = 16;  // survivors of a query that a block collects before it notes them
constexpr int FILTER_BYTES = TILE * (36 + 8 * STAGED) + 64;  // of FilterMemory

// One tile of pairs times one piece of the list's rows.
struct Item {
    int list;            // -1: there is none left
    int turn, end_turn;  // ROWS rows each, the row_step-th of the list's
    int exponent;        // of the power of two that scales its rows
    i64 pair, end_pair;  // the tile's, in pair_order; for one list they are queries

    __device__ int n_pairs() const { return (int)(end_pair - pair); }
    __device__ int n_blocks() const { return (n_pairs() + 15) / 16; }  // 16 rows of the tile each
};

// An item and its pairs.
struct alignas(16) Work {
    Item item;
    int query[TILE];      // ~q for one of which no row is kept
    float term[TILE];     // A(q, l)
    float highest[TILE];  // N - q.r that a row may have, so the term is taken off
    float factor[TILE];   // of the products, which are of scaled queries and rows
};

// Behind it in dynamic shared memory the codebooks, then one or two tiles.
struct alignas(16) FilterMemory {
    Work works[2];              // what is multiplied, and what will be
    int n_staged[TILE];         // survivors of the item
    u32 row[TILE][STAGED];      // from the list's first
    float score[TILE][STAGED];  // A + N - q.r
};
static_assert(sizeof(FilterMemory) == FILTER_BYTES, "the launcher asks for as much");

// Turns of a list that an epoch goes through; of several lists epoch 0 has the first ones.
__device__ __forceinline__ i64 turns_of(const ScanArgs& a, int list, int epoch, i64 row_step) {
    const i64 turns = ceil_div(a.offsets[list + 1] - a.offsets[list], row_step * ROWS);
    return epoch == 0 && turns > a.near_turns ? a.near_turns : turns;
}

__device__ __forceinline__ i64 items_of(const ScanArgs& a, int list, i64 n_pairs, int epoch,
                                        i64 row_step) {
    return ceil_div(n_pairs, TILE) * ceil_div(turns_of(a, list, epoch, row_step), a.turns);
}

// Pairs are grouped by list, and of a list those of near probes come first: epoch 0 has no others.
__device__ __forceinline__ i64 key_of_pair(const ScanArgs& a, int list, int probe) {
    return 2 * (i64)list + (probe >= a.near_probes);
}

// As last_at_or_before, by a whole warp that looks at 32 places at a time: of 1024 lists two loads wait
// for each other, not ten.
__device__ __forceinline__ int found_by_warp(const i64* first, int n, i64 at) {
    int low = 0, size = n;
    while (size > 1) {
        const int step = (size + WARP - 1) / WARP;
        const bool before = lane() * step < size && first[low + lane() * step] <= at;
        const int skipped = (__popc(__ballot_sync(ALL_LANES, before)) - 1) * step;
        low += skipped;
        size = step < size - skipped ? step : size - skipped;
    }
    return low;
}

// The item of this number. Those of a list follow each other, and of these the tiles that share rows.
// The whole warp.
__device__ __forceinline__ Item find_item(const ScanArgs& a, i64 number) {
    Item item = {};
    i64 first_pair = 0, end_pair = a.n_queries;
    const i64* first = a.item_first + (i64)a.epoch * (a.n_lists + 1);
    if (number >=
        (a.n_lists > 1 ? first[a.n_lists] : items_of(a, 0, end_pair, a.epoch, a.row_step))) {
        item.list = -1;
        return item;
    }
    if (a.n_lists > 1) {
        item.list = found_by_warp(first, a.n_lists, number);
        number -= first[item.list];
        first_pair = a.pair_first[2 * item.list];
        end_pair = a.pair_first[2 * item.list + (a.epoch == 0 ? 1 : 2)];
    }
    const i64 n_tiles = ceil_div(end_pair - first_pair, TILE);
    item.pair = first_pair + number % n_tiles * TILE;
    item.end_pair = item.pair + TILE < end_pair ? item.pair + TILE : end_pair;
    const int turns = (int)turns_of(a, item.list, a.epoch, a.row_step);
    item.turn = (int)(number / n_tiles) * a.turns;
    item.end_turn = item.turn + a.turns < turns ? item.turn + a.turns : turns;
    return item;
}

__device__ __forceinline__ i64 pair_at(const ScanArgs& a, i64 at) {
    return a.n_lists > 1 ? a.pair_order[at] : at;
}

// Pair `at` of the item's tile; one behind the last is the first once more, without a row to keep.
__device__ __forceinline__ void load_pair(const ScanArgs& a, const Item& item, int at, Work& work) {
    const i64 pair = pair_at(a, at < item.n_pairs() ? item.pair + at : item.pair);
    const int q = (int)(pair / a.n_probes);
    const float factor = a.query_factor[q];
    const bool counts = at < item.n_pairs() && factor != 0.0f;
    float term = a.terms == nullptr ? a.query_term[q] : a.terms[pair];
    if (ROWS_AS == 2) {
        term += a.query_shift[q];  // which products of bytes leave out
    }
    work.query[at] = counts ? q : ~q;
    work.term[at] = term;
    work.highest[at] = counts ? rounded_up(a.ceiling[q] - term) : -positive_infinity();
    work.factor[at] = counts ? factor * power_of_two(-item.exponent) : 0.0f;
}

// One warp: the next item and its pairs. Nobody else looks at this work meanwhile.
__device__ __forceinline__ void find_work(const ScanArgs& a, Work& work) {
    const u64 ticket = lane() == 0 ? atomicAdd(&a.tickets[a.epoch], 1ull) : 0;
    Item item = find_item(a, (i64)__shfl_sync(ALL_LANES, ticket, 0));
    if (item.list >= 0) {
        item.exponent = row_exponent(a, a.radius[item.list]);
        for (int at = lane(); at < TILE; at += WARP) {
            load_pair(a, item, at, work);
        }
    }
    if (lane() == 0) {
        work.item = item;
    }
}

// The whole block starts to copy components `first` .. of the work's queries, 16 lanes a row.
__device__ __forceinline__ void copy_tile(const ScanArgs& a, const Work& work, int first, u32* tile,
                                          int pitch) {
    const int words = (a.words - first / 2 < a.depth / 2 ? a.words - first / 2 : a.depth / 2);
#pragma unroll 1
    for (int row = threadIdx.x / 16; row < 16 * work.item.n_blocks(); row += BLOCK / 16) {
        const i64 q = work.query[row] < 0 ? ~work.query[row] : work.query[row];
        for (int i = threadIdx.x % 16 * 4; i < words; i += 64) {
            cp_async_16(tile + row * pitch + i, a.query_halves + q * a.words + first / 2 + i);
        }
    }
    cp_async_commit();
}
