// scan_lists: the k nearest rows of the probed lists, each list multiplied with all of its queries.
//
//   (dists, ids)[q] = the k smallest by (canonical distance, id) over the rows of lists probes[q]
//
// Large batches, list by list, eight launches and two more for each further epoch:
//   scan_begin    counters to zero; the longest entry of every codebook (left out if there is neither)
//   scan_measure  one block a query: slack, the query in fp16, its pairs counted
//   scan_plan     one block: first pair and first item of every list (left out for one list)
//   scan_group    one thread a pair: pairs by list, in any order (left out for one list)
//   scan_filter   blocks that stay take items, a tile of 64 or 128 pairs of one list times a piece of
//                 its rows: multiply them on tensor cores (fp16, see fragments.cuh) and append the rows
//                 at or under the ceiling, which allows for their rounding, to their query; meanwhile
//                 one warp finds the next item, whose tile is copied while the last survivors are
//                 looked for. Epoch 0 has no ceiling: of each query's near lists, or evenly of the only
//                 one, some rows
//   scan_bound    one block a query, behind epoch 0: the k-th score of those makes the ceiling, and
//                 they are forgotten; if they are less than k, of its first `budget` rows
//   scan_tighten  one block a query, between epochs: lowers the ceiling to the k-th score of the
//                 survivors and drops those above it. Where more rows are probed than the first
//                 ceiling keeps out, few rows are filtered first, evenly spread, then more
//   scan_finish   one block a query: canonical distances of the survivors, the k best of them; if
//                 there were more survivors than places, it walks the query's lists itself, exactly
// Small batches, one launch:
//   scan_queries  one block a (query, split): the walk of walk.cuh; splits are merged afterwards
//
// in      struct ScanArgs in scan.cuh: queries (Q, dim), probes (Q, P), lists, payload, filter
// out     dists (n_splits, Q, k) f32, names (n_splits, Q, k) i64, padded with (+inf, -1)
// defines BLOCK 256; ROW and CODEC, see rows.cuh; ROWS_AS 1 if whole rows are given as fp16 too, which
//         the filter reads instead, 2 if it multiplies bytes or scalar codes as they are, 0 if it
//         converts them;
//         PQ_LEN 1, 2, 4 or 8 components of an entry, then the codebooks are in shared memory, or 0:
//         any length, entries are read where they are; PACKED 1 if codes have less than 8 bits; TILE
//         64 pairs, or 128, which share the decoding of codes and the reading of halves, at one block
//         on a multiprocessor; TABLE (not read here)
// grid    scan_begin (max(ceil(2 L / BLOCK), pq_dim)), scan_measure, scan_bound, scan_tighten,
//         scan_finish (Q),
//         scan_plan (1), scan_group (ceil(Q P / BLOCK)), scan_filter (what the device holds),
//         scan_queries (Q, n_splits)
// shared  dynamic: max(BLOCK * 12, 4 * padded dim + max(4 * (budget + 128), 24 * capacity)) bytes;
//         scan_tighten: 4 * survivor_places; scan_filter: FILTER_BYTES, the codebooks (512 bytes a
//         component) and one tile of up to 256 components (TILE * 576 bytes), two of longer rows
// budget  scan_begin: regs <= 40, spills 0, blocks/SM >= 6
// budget  scan_measure: regs <= 64, spills 0, blocks/SM >= 4
// budget  scan_bound: regs <= 80, spills 0, blocks/SM >= 3
// budget  scan_plan: regs <= 48, spills 0, blocks/SM >= 4
// budget  scan_group: regs <= 32, spills 0, blocks/SM >= 6
// budget  scan_filter: regs <= 128, spills 316, blocks/SM >= 2
//         (with ROWS_AS or PQ_LEN outside the loop over components, as the SASS shows)
// budget  scan_filter with TILE 128: regs <= 248, spills 0, blocks/SM >= 1
// budget  scan_tighten: regs <= 40, spills 0, blocks/SM >= 4
// budget  scan_finish: regs <= 128, spills 0, blocks/SM >= 2
// budget  scan_queries: regs <= 128, spills 0, blocks/SM >= 2
// cost    2 * pairs * list length * dim flop of fp16; Q * budget * dim for the bound; survivors * dim in
//         float64
// source  own: bound, filter and canonical rescoring of gpuann; list-major order as in FAISS'
//         contrib/big_batch_search
#include "bound.cuh"
#include "common.cuh"
#include "filter.cuh"
#include "pairs_by_list.cuh"
#include "ptx.cuh"
#include "scan.cuh"
#include "walk.cuh"

ENTRY(scan_filter)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    FilterMemory& memory = *reinterpret_cast<FilterMemory*>(bytes);
    u32* books = reinterpret_cast<u32*>(bytes + FILTER_BYTES);
    u32* tiles = books;
    const int warp = threadIdx.x / WARP;
    const int pitch = tile_pitch(a.depth);
    if (warp == 0) {
        find_work(a, memory.works[0]);
    }
    if (threadIdx.x < TILE) {
        memory.n_staged[threadIdx.x] = 0;
    }
#if PQ_LEN > 0
    tiles += ceil_div((i64)a.pq_dim * a.pq_book_size * a.pq_len, 8) * 4;
    load_books(a, power_of_two(row_exponent(a, 0.0f)), books);
#endif
    __syncthreads();  // the first item and the codebooks are there
    copy_tile(a, memory.works[0], 0, tiles, pitch);
    for (int now = 0; memory.works[now].item.list >= 0; now = 1 - now) {
        const Work& work = memory.works[now];
        const Item& item = work.item;
        Work& next = memory.works[1 - now];
        cp_async_wait<0>();
        __syncthreads();  // the tile is there, and the survivors of the item before are noted
        if (warp == WARPS - 1) {
            find_work(a, next);  // while the others multiply
        }
        int part = 0;  // of the queries' components; the tiles of two parts take turns
        for (int start = item.turn; start < item.end_turn; start += WARPS) {
            const int turn = start + warp;
            // an earlier epoch had every growth-th turn
            const bool mine = turn < item.end_turn && (a.is_first || turn % a.growth != 0);
            const ListRows rows(a, books, item.list, turn, power_of_two(item.exponent));
            Product acc = {};
            for (int d = 0; d < a.dim; d += a.depth) {
                const bool is_last = d + a.depth >= a.dim;
                const bool more = a.depth < a.dim && (!is_last || start + WARPS < item.end_turn);
                if (more) {
                    copy_tile(a, work, is_last ? 0 : d + a.depth,
                              tiles + (part + 1) % 2 * TILE * pitch, pitch);
                }
                if (mine) {
                    const int depth = a.dim - d < a.depth ? a.dim - d : a.depth;
                    multiply(tiles + part % 2 * TILE * pitch, pitch, item.n_blocks(), rows, d,
                             depth, acc);
                }
                if (more) {
                    cp_async_wait<0>();
                    __syncthreads();  // the part is there, and the other tile has been multiplied
                    part++;
                }
            }
            if (start + WARPS >= item.end_turn) {
                __syncthreads();  // the tile has been multiplied, and the next item is there
                copy_tile(a, next, 0, tiles, pitch);
            }
            if (mine) {
                keep_survivors(a, memory, work, rows, acc);
            }
        }
        __syncthreads();  // all survivors are staged
        note_staged(a, memory, work);
    }
}

ENTRY(scan_tighten)(const ScanArgs a) {
    EXTERN_SHARED(u32, keys);
    __shared__ int histogram[256];
    __shared__ u32 found[2];
    __shared__ int n_kept;
    const int query = blockIdx.x;  // [0, Q)
    const int n = a.n_survivors[query];
    if (n > a.survivor_places) {
        return;  // rows are lost already: scan_finish walks the lists of this query
    }
    const i64 first = (i64)query * a.survivor_places;
    for (int i = threadIdx.x; i < n; i += BLOCK) {
        keys[i] = key_of(a.scores[first + i]);
    }
    if (threadIdx.x == 0) {
        n_kept = 0;
    }
    __syncthreads();  // the keys and the counter are there
    const u32 key = kth_smallest(keys, n, a.k, histogram, found);
    double ceiling = a.ceiling[query];
    if (key != NO_KEY) {
        ceiling = fmin(ceiling, (double)float_of(key) + 2.0 * a.slack[query]);
    }
    for (int i = threadIdx.x; i < n; i += BLOCK) {
        if ((double)a.scores[first + i] <= ceiling) {
            const int place = atomicAdd(&n_kept, 1);
            a.kept[first + place] = a.survivors[first + i];
            a.kept_scores[first + place] = a.scores[first + i];
        }
    }
    __syncthreads();  // all are counted, and everyone has read the old ceiling
    if (threadIdx.x == 0) {
        a.n_survivors[query] = n_kept;
        a.ceiling[query] = ceiling;
    }
}

ENTRY(scan_finish)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int arrived;
    const int query = blockIdx.x;  // [0, Q)
    const int n = a.n_survivors[query];
    const WalkMemory memory(bytes, a.dim);
    load_query(a, query, memory.query);
    Selection best;
    best.begin(memory.selection, &arrived, a.capacity, a.k);
    const StoredRows rows = stored_rows(a);
    const float limit = a.limit == nullptr ? positive_infinity() : a.limit[query];
    if (n > a.survivor_places) {  // overflow: nothing was kept of what did not fit
        select_under(a, query, 0, a.query_term[query], a.ceiling[query], a.slack[query],
                     DotScore{rows, memory.query}, best);
    } else {
        for (int start = 0; start < n; start += GROUPS) {
            best.make_room(GROUPS);
            const int i = start + threadIdx.x / GROUP;
            const i64 row = a.survivors[(i64)query * a.survivor_places + (i < n ? i : start)];
            const int list = last_at_or_before(a.offsets, a.n_lists + 1, row);
            const float distance = canonical_of(a, rows, query, row, list);
            if (i < n && lane_in_group() == 0 && distance <= limit) {
                best.push(distance, a.ids[row]);
            }
        }
    }
    best.finish(a.dists + (i64)query * a.k, a.names + (i64)query * a.k);
}

ENTRY(scan_queries)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int histogram[256];
    __shared__ u32 found[2];
    __shared__ int arrived;
    const int query = blockIdx.x, split = blockIdx.y;
    const QueryScale scale = query_scale(a, query, reinterpret_cast<double*>(bytes));
    const WalkMemory memory(bytes, a.dim);
    load_query(a, query, memory.query);
    __syncthreads();  // the query is there
    const float own = a.inner ? 0.0f : (float)scale.square;
    const DotScore score{stored_rows(a), memory.query};
    float bound = first_bound(a, query, split, own, score, memory.keys, histogram, found);
    if (a.limit != nullptr) {
        bound = fminf(bound, a.limit[query]);
    }
    Selection best;
    best.begin(memory.selection, &arrived, a.capacity, a.k);
    select_under(a, query, split, own, (double)bound + 2.0 * scale.slack, scale.slack, score, best);
    const i64 out = ((i64)split * a.n_queries + query) * a.k;
    best.finish(a.dists + out, a.names + out);
}
