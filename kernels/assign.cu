// assign: nearest centre of every row, for a batch of independent problems in one launch.
//
//   labels[b, i] = argmin_c |x[b, i] - centers[b, c]|^2 canonical; ties -> smaller c
//
// Scores on tensor cores (center_tile.cuh) never reach memory: a block has a tile of 64 rows, each
// warp of it takes 32 centres at a time and keeps the best and the second best of the rows. Where the
// second lies further than both could err, the best is the answer. The few other rows are listed and
// come to tiles of their own: their scores are made once more, and the centres that may be the
// nearest, two or three a row, are compared by canonical distance. Where they are more than there is
// room for, all centres are looked at in float32, whose error is relative to the distance.
//   assign_origin  one thread a (problem, component): the mean of some centres
//   assign_centers one group of 8 lanes a centre: its norm, its error, its halves
//   assign         one block a tile of 64 rows
//   assign_unsure  blocks that take tiles of 64 unsure rows
//
// in      struct AssignArgs in center_tile.cuh: x (B, N, D) f32, centers (B, C, D) f32
// out     labels (B, N) i32, dists (B, N) f32 canonical squared L2
// defines BLOCK 256; TILE 64; SPLIT 1 for rows of up to 10 components, packed as hi + lo halves, else 0
// grid    assign_origin one thread a (problem, component); assign_centers eight threads a centre;
//         assign (ceil(N / 64), B); assign_unsure (any, B)
// shared  dynamic: TILE_BYTES and a tile of up to 256 components (64 * 576 bytes)
// budget  assign_origin: regs <= 40, spills 0, blocks/SM >= 6
// budget  assign_centers: regs <= 64, spills 0, blocks/SM >= 4
// budget  assign: regs <= 128, spills 24, blocks/SM >= 2
//         (none but on sm_100 with SPLIT, outside the loop over components)
// budget  assign_unsure: regs <= 128, spills 72, blocks/SM >= 2
//         (of addresses, outside the loop over components; few rows come here)
// cost    2 * B * N * C * D flop of fp16 (6 with SPLIT), once more for the unsure rows
// source  own; the rounding bound after Higham, "Accuracy and Stability of Numerical Algorithms"; best
//         and second best as in many nearest-centre kernels, hi + lo as in Ootomo and Yokota, 2022
#include "center_tile.cuh"
#include "common.cuh"
#include "ptx.cuh"

constexpr int SOME_CENTERS = 256;  // whose mean is the origin: any point near them would do

ENTRY(assign_origin)(const AssignArgs a) {
    const i64 problem = global_thread() / a.dim;  // [0, B)
    const int d = (int)(global_thread() % a.dim);
    if (problem >= a.n_problems) {
        return;
    }
    if (d == 0) {
        a.n_unsure[problem] = 0;
    }
    const float* centers = a.centers + problem * a.n_centers * a.dim;
    const int step = a.n_centers < SOME_CENTERS ? 1 : a.n_centers / SOME_CENTERS;
    double sum = 0.0;
    int n = 0;
    for (i64 c = 0; c < a.n_centers; c += step, n++) {
        sum += centers[c * a.dim + d];
    }
    a.origin[problem * a.dim + d] = (float)(sum / n);
}

ENTRY(assign_centers)(const AssignArgs a) {
    const i64 center = global_thread() / GROUP;  // [0, B C)
    const bool inside = center < (i64)a.n_problems * a.n_centers;
    const i64 safe = inside ? center : 0;
    const float* c = a.centers + safe * a.dim;
    const float* origin = a.origin + safe / a.n_centers * a.dim;
    double square = 0.0;
    for (int d = lane_in_group(); d < a.dim; d += GROUP) {
        const double moved = __fsub_rn(c[d], origin[d]);
        square += moved * moved;
    }
    for (int lanes = GROUP / 2; lanes > 0; lanes /= 2) {
        square += __shfl_xor_sync(ALL_LANES, square, lanes);
    }
    if (!inside) {
        return;
    }
    const int exponent = half_exponent(rounded_up(sqrt(square) * (1.0 + 1e-9)));
    const float scale = power_of_two(exponent);
    for (int i = lane_in_group(); i < a.words; i += GROUP) {
        a.halves[center * a.words + i] =
            packed_word(i, a.dim, true, [&](int d) { return __fsub_rn(c[d], origin[d]) * scale; });
    }
    if (lane_in_group() == 0) {
        const double error = score_error(a.dim, square);
        a.lower[center] = (float)(square - error);
        a.error[center] = (float)(2.0 * error);
        a.factor[center] = -2.0f * power_of_two(-exponent);
    }
}

// Canonical distance of a tile's row to the centre, and both written out; the groups of a warp
// together, `write` says which of them has something to say.
__device__ __forceinline__ void write_answer(const AssignArgs& a, i64 problem, int row, int label,
                                             bool write) {
    const float* x = a.x + (problem * a.n + row) * a.dim;
    const float* c = a.centers + (problem * a.n_centers + label) * a.dim;
    const float distance =
        canonical([&](int d) { return c[d]; }, [&](int d) { return x[d]; }, a.dim, false, 0.0);
    if (write && lane_in_group() == 0) {
        a.labels[problem * a.n + row] = label;
        a.dists[problem * a.n + row] = distance;
    }
}

__device__ __forceinline__ BestTwo own_best(const TileMemory& memory, int r) {
    return BestTwo{memory.best_score[r][threadIdx.x], memory.second_score[r][threadIdx.x],
                   memory.best_center[r][threadIdx.x]};
}

ENTRY(assign)(const AssignArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    TileMemory& memory = *reinterpret_cast<TileMemory*>(bytes);
    const i64 problem = blockIdx.y;                // [0, B)
    const i64 first_row = (i64)blockIdx.x * TILE;  // [0, N)
    list_rows(
        a, a.x + problem * a.n * a.dim, a.origin + problem * a.dim,
        [&](int r) { return first_row + r < a.n ? (int)first_row + r : -1; }, memory);
    for (int r = 0; r < 8; r++) {
        memory.best_score[r][threadIdx.x] = positive_infinity();
        memory.second_score[r][threadIdx.x] = positive_infinity();
        memory.best_center[r][threadIdx.x] = 0;
    }
    for_each_score(a, problem, memory, reinterpret_cast<u32*>(bytes + TILE_BYTES),
                   [&](int r, const Scores& scores) {
                       BestTwo two = own_best(memory, r);
#pragma unroll
                       for (int j = 0; j < 8; j++) {
                           two.take(scores.of[j], scores.center(j));
                       }
                       memory.best_score[r][threadIdx.x] = two.best;
                       memory.second_score[r][threadIdx.x] = two.second;
                       memory.best_center[r][threadIdx.x] = two.label;
                   });
    for (int r = 0; r < 8; r++) {
        BestTwo two = own_best(memory, r);
        for (int lanes = 1; lanes < 4; lanes *= 2) {  // four lanes share a row
            const float best = __shfl_xor_sync(ALL_LANES, two.best, lanes);
            const float second = __shfl_xor_sync(ALL_LANES, two.second, lanes);
            const int label = __shfl_xor_sync(ALL_LANES, two.label, lanes);
            two.merge(best, second, label);
        }
        if (lane() % 4 == 0) {
            memory.of_warp[threadIdx.x / WARP][own_row(r)] = two;
        }
    }
    __syncthreads();  // the warps' best two are there
    if (threadIdx.x < TILE && memory.row[threadIdx.x] >= 0) {
        BestTwo two = memory.of_warp[0][threadIdx.x];
        for (int warp = 1; warp < WARPS; warp++) {
            const BestTwo other = memory.of_warp[warp][threadIdx.x];
            two.merge(other.best, other.second, other.label);
        }
        const i64 at = problem * a.n + memory.row[threadIdx.x];
        const double error = a.error[problem * a.n_centers + two.label];
        const double ceiling = (double)two.best + error + memory.own[threadIdx.x];
        memory.best[threadIdx.x] = two;
        if (!(two.second > ceiling)) {  // also where there is a NaN
            memory.row[threadIdx.x] = -1;
            a.unsure[problem * a.n + atomicAdd(&a.n_unsure[problem], 1)] =
                (int)(at - problem * a.n);
            a.dists[at] = rounded_up(ceiling);
        }
    }
    __syncthreads();  // the rows that are sure are known
    for (int r = threadIdx.x / GROUP; r < TILE; r += BLOCK / GROUP) {
        const int row = memory.row[r];
        write_answer(a, problem, row < 0 ? 0 : row, row < 0 ? 0 : memory.best[r].label, row >= 0);
    }
}

ENTRY(assign_unsure)(const AssignArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    TileMemory& memory = *reinterpret_cast<TileMemory*>(bytes);
    const i64 problem = blockIdx.y;  // [0, B)
    const int n_unsure = a.n_unsure[problem];
    const int* unsure = a.unsure + problem * a.n;
    const float* x = a.x + problem * a.n * a.dim;
    const float* centers = a.centers + problem * a.n_centers * a.dim;
    for (int first = blockIdx.x * TILE; first < n_unsure; first += gridDim.x * TILE) {
        const int n_rows = n_unsure - first < TILE ? n_unsure - first : TILE;
        __syncthreads();  // nobody is at the last tile any more
        list_rows(
            a, x, a.origin + problem * a.dim,
            [&](int r) { return r < n_rows ? unsure[first + r] : -1; }, memory);
        if (threadIdx.x < TILE) {
            const int r = threadIdx.x;
            memory.nearest[r] = ~0ull;
            memory.least[r] = ~0u;
            memory.highest[r] =
                r < n_rows ? a.dists[problem * a.n + unsure[first + r]] : -1.0 / 0.0;
        }
        if (threadIdx.x == 0) {
            memory.n_pairs = 0;
        }
        for_each_score(a, problem, memory, reinterpret_cast<u32*>(bytes + TILE_BYTES),
                       [&](int r, const Scores& scores) {
                           const double highest = memory.highest[own_row(r)];
#pragma unroll
                           for (int j = 0; j < 8; j++) {
                               const bool there =
                                   memory.row[own_row(r)] >= 0 && scores.center(j) < a.n_centers;
                               if ((double)scores.of[j] <= highest && there) {
                                   const int place = atomicAdd(&memory.n_pairs, 1);
                                   if (place < PAIRS) {
                                       memory.pairs[place] =
                                           make_int2(own_row(r), scores.center(j));
                                   }
                               }
                           }
                       });
        __syncthreads();  // the pairs are listed
        if (memory.n_pairs <= PAIRS) {
            settle_pairs(x, memory.row, centers, a.dim, memory.pairs, memory.n_pairs,
                         memory.nearest);
        } else {
            settle_rows(x, memory.row, n_rows, centers, a.dim, a.n_centers, memory.least,
                        memory.nearest);
        }
        __syncthreads();  // the rows are settled
        for (int r = threadIdx.x / GROUP; r < TILE; r += BLOCK / GROUP) {
            const int row = memory.row[r];
            const int label = (int)(u32)memory.nearest[r];
            write_answer(a, problem, row < 0 ? 0 : row, row < 0 || label < 0 ? 0 : label, row >= 0);
        }
    }
}
