// scan_lists: the k nearest rows of the probed lists, each list multiplied with all of its queries.
//
//   (dists, ids)[q] = the k smallest by (canonical distance, id) over the rows of lists probes[q]
//
// Large batches, list by list, five launches and two more for each further epoch:
//   scan_bound    one block a query: slack, a ceiling from its first `budget` rows, pairs counted
//   scan_plan     one block: first pair and first tile of every list (left out for one list)
//   scan_group    one thread a pair: pairs by list, in any order (left out for one list)
//   scan_filter   one block a tile of 64 pairs of one list: multiplies it with the list's rows in
//                 tiles of 64 on tensor cores (TF32) and appends the rows at or under the ceiling,
//                 which allows for their rounding, to their query
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
// defines BLOCK 256; ROW and ROW_PQ, see rows.cuh; TABLE (not read here)
// grid    scan_bound, scan_tighten, scan_finish (Q), scan_plan (1), scan_group (ceil(Q P / BLOCK)),
//         scan_filter (tiles at most, row splits), scan_queries (Q, n_splits)
// shared  dynamic: max(BLOCK * 12, 4 * padded dim + max(4 * (budget + 128), 24 * capacity)) bytes;
//         scan_tighten: 4 * survivor_places
// budget  scan_bound: regs <= 80, spills 0, blocks/SM >= 3
// budget  scan_plan: regs <= 48, spills 0, blocks/SM >= 4
// budget  scan_group: regs <= 32, spills 0, blocks/SM >= 6
// budget  scan_filter: regs <= 64, spills 0, blocks/SM >= 4
// budget  scan_tighten: regs <= 40, spills 0, blocks/SM >= 4
// budget  scan_finish: regs <= 128, spills 0, blocks/SM >= 2
// budget  scan_queries: regs <= 128, spills 0, blocks/SM >= 2
// cost    2 * pairs * list length * dim flop of TF32; Q * budget * dim for the bound; survivors * dim in
//         float64
// source  own: bound, filter and canonical rescoring of gpuann; list-major order as in FAISS'
//         contrib/big_batch_search
#include "common.cuh"
#include "pairs.cuh"
#include "pairs_by_list.cuh"
#include "ptx.cuh"
#include "scan.cuh"
#include "tensor.cuh"
#include "walk.cuh"

ENTRY(scan_bound)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int histogram[256];
    __shared__ u32 found[2];
    const int query = blockIdx.x;  // [0, Q)
    const QueryScale scale = query_scale(a, query, reinterpret_cast<double*>(bytes));
    const WalkMemory memory(bytes, a.dim);
    load_query(a, query, memory.query);
    __syncthreads();  // the query is there
    const float own = a.inner ? 0.0f : (float)scale.square;
    const DotScore score{stored_rows(a), memory.query};
    float bound = first_bound(a, query, 0, own, score, memory.keys, histogram, found);
    if (a.limit != nullptr) {
        bound = fminf(bound, a.limit[query]);
    }
    if (threadIdx.x == 0) {
        // the k-th row lies under bound + slack; the filter errs by more than the bound's scores
        const double filter_slack =
            scale.slack + product_rounding(a.dim, 2.0 * scale.norm, scale.reach);
        a.ceiling[query] = (double)bound + scale.slack + filter_slack;
        a.slack[query] = filter_slack;
        a.query_term[query] = own;
        a.n_survivors[query] = 0;
    }
    if (a.n_lists > 1) {
        for (int p = threadIdx.x; p < a.n_probes; p += BLOCK) {
            const int list = probed_list(a, query, p);
            if (list >= 0) {
                atomicAdd(&a.list_pairs[list], 1);
            }
        }
    }
}

ENTRY(scan_filter)(const ScanArgs a) {
    __shared__ TensorMemory memory;
    __shared__ int query[TILE];
    __shared__ float term[TILE];     // A(q, l)
    __shared__ float highest[TILE];  // of N - q.r, so the term is taken off
    const i64 tile = blockIdx.x;
    int list = 0;
    i64 first_pair = tile * TILE, end_pair = a.n_queries;  // one list: a pair is a query
    if (a.n_lists > 1) {
        if (tile >= a.tile_first[a.n_lists]) {
            return;  // the grid is for the most tiles that there can be
        }
        list = last_at_or_before(a.tile_first, a.n_lists, tile);
        first_pair = a.pair_first[list] + (tile - a.tile_first[list]) * TILE;
        end_pair = a.pair_first[list + 1];
    }
    if (threadIdx.x < TILE) {
        const i64 at = first_pair + threadIdx.x;
        query[threadIdx.x] = -1;
        if (at < end_pair) {
            const i64 pair = a.n_lists > 1 ? a.pair_order[at] : at;
            const int q = (int)(pair / a.n_probes);
            query[threadIdx.x] = q;
            term[threadIdx.x] = a.terms == nullptr ? a.query_term[q] : a.terms[pair];
            highest[threadIdx.x] = rounded_up(a.ceiling[q] - term[threadIdx.x]);
        }
    }
    // no barrier: the product begins with one
    const TileQueries queries{a, query, rows_are_aligned(a.queries, a.dim)};
    const i64 stop = a.offsets[list + 1];
    for (i64 turn = blockIdx.y;; turn += gridDim.y) {
        const i64 begin = a.offsets[list] + turn * a.row_step * TILE;
        if (begin >= stop) {
            break;
        }
        if (!a.is_first && turn % a.growth == 0) {
            continue;  // an earlier epoch had this tile
        }
        float product[4][4] = {};
        tensor_product(queries, TileRows{stored_rows(a), begin, stop}, a.dim, memory, product);
#pragma unroll
        for (int column = 0; column < 8; column++) {
            const int j = column / 2, odd = column % 2;
            const i64 row = begin + tensor_right(j, odd);
            const float norm = row < stop ? a.norms[row] : 0.0f;
#pragma unroll
            for (int i = odd; i < 4; i += 2) {
                const int pair = tensor_left(i), q = query[pair];
                const float score = norm - product[j][i];
                if (q >= 0 && row < stop && score <= highest[pair] && allowed(a, q, a.ids[row])) {
                    add_survivor(a, q, row, term[pair] + score);
                }
            }
        }
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
