// What a block of the filter does at a time: an item, a tile of 64 pairs of one list times a piece of
// its rows; and what it has in shared memory meanwhile.
#pragma once
#include "fragments.cuh"
#include "list_rows.cuh"
#include "scan.cuh"

constexpr int STAGED = 16;  // survivors of a query that a block collects before it notes them
constexpr int FILTER_BYTES = TILE * (20 + 8 * STAGED) + 32;  // of FilterMemory

// One tile of pairs times one piece of the list's rows.
struct Item {
    int list;            // -1: there is none left
    int turn, end_turn;  // ROWS rows each, the row_step-th of the list's
    i64 pair, end_pair;  // the tile's, in pair_order; for one list they are queries
};

// Of a tile's pairs; behind it in dynamic shared memory the codebooks, then one or two tiles.
struct alignas(16) FilterMemory {
    Item item;
    int query[TILE];            // -1 for none
    float term[TILE];           // A(q, l)
    float highest[TILE];        // N - q.r that a row may have, so the term is taken off
    float factor[TILE];         // of the products, which are of scaled queries and rows
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

// The item of this number. Those of a list follow each other, and of these the tiles that share rows.
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
        item.list = last_at_or_before(first, a.n_lists, number);
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

// Threads under TILE, one a pair; nothing is staged yet.
__device__ __forceinline__ void load_pair(const ScanArgs& a, const Item& item, float row_factor,
                                          FilterMemory& memory) {
    const int at = threadIdx.x;
    memory.n_staged[at] = 0;
    memory.query[at] = -1;
    memory.highest[at] = -positive_infinity();
    memory.factor[at] = 0.0f;
    const i64 pair = pair_at(a, item.pair + at < item.end_pair ? item.pair + at : item.pair);
    const int q = (int)(pair / a.n_probes);
    if (item.pair + at < item.end_pair && a.query_factor[q] != 0.0f) {
        memory.query[at] = q;
        memory.term[at] = a.terms == nullptr ? a.query_term[q] : a.terms[pair];
        if (ROWS_AS == 2) {
            memory.term[at] += a.query_shift[q];  // which products of bytes leave out
        }
        memory.highest[at] = rounded_up(a.ceiling[q] - memory.term[at]);
        memory.factor[at] = a.query_factor[q] * row_factor;
    }
}

// The whole block starts to copy components `first` .. of the tile's queries, 16 lanes a row.
__device__ __forceinline__ void copy_tile(const ScanArgs& a, const Item& item, int first, u32* tile,
                                          int pitch) {
    const int words = (a.words - first / 2 < a.depth / 2 ? a.words - first / 2 : a.depth / 2);
#pragma unroll 1
    for (int row = threadIdx.x / 16; row < TILE; row += BLOCK / 16) {
        const i64 at = item.pair + row < item.end_pair ? item.pair + row : item.pair;
        const i64 q = pair_at(a, at) / a.n_probes;
        for (int i = threadIdx.x % 16 * 4; i < words; i += 64) {
            cp_async_16(tile + row * pitch + i, a.query_halves + q * a.words + first / 2 + i);
        }
    }
    cp_async_commit();
}
