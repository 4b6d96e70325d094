// assign: nearest centre of every row, for a batch of independent problems in one launch.
//
//   labels[b, i] = argmin_c |x[b, i] - centers[b, c]|^2 canonical; ties -> smaller c
//
// Scores |c|^2 - 2 x.c (both about the mean of the centres) come from 64 x 64 tiles on tensor cores
// (TF32) and never reach memory: each thread keeps the best and the second best of its rows. Where
// the second lies further than both could err, the best is the answer. For the few other rows the
// tiles are made once more: the centres that may be the nearest, two or three a row, are compared by
// canonical distance. Where they are more than there is room for, all centres are looked at in
// float32, whose error is relative to the distance, and the nearest of them by canonical distance.
// Two small launches make the mean, the norms and their errors first.
//   assign_mean   one thread a (problem, component)
//   assign_norms  one group of 8 lanes a centre
//
// in      struct AssignArgs: x (B, N, D) f32, centers (B, C, D) f32
// out     labels (B, N) i32, dists (B, N) f32 canonical squared L2
// defines BLOCK 256
// grid    assign (ceil(N / 64), B); assign_mean one thread a (problem, component); assign_norms
//         eight threads a centre
// shared  static: two tiles of 64 x 36 words, 192 results, 1024 pairs
// budget  assign: regs <= 128, spills 0, blocks/SM >= 2
// budget  assign_mean: regs <= 40, spills 0, blocks/SM >= 6
// budget  assign_norms: regs <= 64, spills 0, blocks/SM >= 4
// cost    2 * B * N * C * D flop of TF32, twice for tiles with unsure rows
// source  own; the rounding bound after Higham, "Accuracy and Stability of Numerical Algorithms"
#include "best_two.cuh"
#include "canonical.cuh"
#include "common.cuh"
#include "tensor.cuh"

struct AssignArgs {
    const float* x;        // (n_problems, n, dim)
    const float* centers;  // (n_problems, n_centers, dim)
    float* mean;           // (n_problems, dim) scratch
    float* lower;          // (n_problems, n_centers) scratch: |c|^2 less its error
    float* error;          // (n_problems, n_centers) scratch: from the lower to the upper bound
    int* labels;           // (n_problems, n) out
    float* dists;          // (n_problems, n) out
    i64 n;                 // N
    int n_problems;        // B
    int n_centers;         // C
    int dim;               // D
};

ENTRY(assign_mean)(const AssignArgs a) {
    const i64 problem = global_thread() / a.dim;  // [0, B)
    const int d = (int)(global_thread() % a.dim);
    if (problem >= a.n_problems) {
        return;
    }
    const float* centers = a.centers + problem * a.n_centers * a.dim;
    double sum = 0.0;
    for (i64 c = 0; c < a.n_centers; c++) {
        sum += centers[c * a.dim + d];
    }
    a.mean[problem * a.dim + d] = (float)(sum / a.n_centers);
}

ENTRY(assign_norms)(const AssignArgs a) {
    const i64 center = global_thread() / GROUP;  // [0, B C)
    const bool inside = center < (i64)a.n_problems * a.n_centers;
    const i64 safe = inside ? center : 0;
    const float* mean = a.mean + safe / a.n_centers * a.dim;
    double square = 0.0;
    for (int d = lane_in_group(); d < a.dim; d += GROUP) {
        const double moved = __fsub_rn(a.centers[safe * a.dim + d], mean[d]);
        square += moved * moved;
    }
    for (int lanes = GROUP / 2; lanes > 0; lanes /= 2) {
        square += __shfl_xor_sync(ALL_LANES, square, lanes);
    }
    if (inside && lane_in_group() == 0) {
        // |x.c| <= (|x|^2 + |c|^2) / 2: this is the centre's half of the score's error, twice
        const double error = 2.0 * rounding(a.dim, square) + tensor_rounding(a.dim, square);
        a.lower[center] = (float)(square - error);
        a.error[center] = (float)(2.0 * error);
    }
}

constexpr int PAIRS = 1024;  // that a block has room for: 16 a row

// take(r, center, score) for the scores of this thread: r 0 for row tensor_left(0), 1 for
// tensor_left(2), centres ascending. The same bits every time.
template <class Take>
__device__ __forceinline__ void for_each_score(const AssignArgs& a, const MatrixRows& rows,
                                               const float* centers, const float* mean,
                                               const float* lower, TensorMemory& memory,
                                               const Take& take) {
    for (int first = 0; first < a.n_centers; first += TILE) {
        float product[4][4] = {};
        tensor_product(rows, MatrixRows(centers, mean, first, a.n_centers, a.dim), a.dim, memory,
                       product);
#pragma unroll
        for (int column = 0; column < 8; column++) {
            const int j = column / 2, odd = column % 2;
            const int center = first + tensor_right(j, odd);
            if (center < a.n_centers) {
                const float low = lower[center];
                take(0, center, fmaf(-2.0f, product[j][odd], low));
                take(1, center, fmaf(-2.0f, product[j][odd + 2], low));
            }
        }
    }
}

ENTRY(assign)(const AssignArgs a) {
    __shared__ TensorMemory memory;
    __shared__ BestTwo half[2][TILE];  // of either half of the centres' tiles
    __shared__ BestTwo found[TILE];
    __shared__ u64 nearest[TILE];
    __shared__ double highest[TILE];  // score that the nearest centre of an unsure row may have
    __shared__ int2 pairs[PAIRS];     // (row, centre) of unsure rows at or under it
    __shared__ int n_pairs;
    __shared__ u32 least[TILE];   // bits of the least float32 distance of an unsure row
    __shared__ int unsure[TILE];  // rows whose best two are too close to tell
    __shared__ int n_unsure;
    const i64 problem = blockIdx.y;                // [0, B)
    const i64 first_row = (i64)blockIdx.x * TILE;  // [0, N)
    const float* x = a.x + problem * a.n * a.dim;
    const float* centers = a.centers + problem * a.n_centers * a.dim;
    const float* mean = a.mean + problem * a.dim;
    const float* lower = a.lower + problem * a.n_centers;
    const float* error = a.error + problem * a.n_centers;
    const MatrixRows rows(x, mean, first_row, a.n, a.dim);

    BestTwo mine[2];  // of rows tensor_left(0) and tensor_left(2)
#pragma unroll
    for (int r = 0; r < 2; r++) {
        mine[r] = BestTwo{positive_infinity(), positive_infinity(), 0};
    }
    for_each_score(a, rows, centers, mean, lower, memory,
                   [&](int r, int center, float score) { mine[r].take(score, center); });
#pragma unroll
    for (int r = 0; r < 2; r++) {
        for (int lanes = 1; lanes < 4; lanes *= 2) {  // four lanes share a row
            const float best = __shfl_xor_sync(ALL_LANES, mine[r].best, lanes);
            const float second = __shfl_xor_sync(ALL_LANES, mine[r].second, lanes);
            const int label = __shfl_xor_sync(ALL_LANES, mine[r].label, lanes);
            mine[r].merge(best, second, label);
        }
        if (threadIdx.x % 4 == 0) {
            half[threadIdx.x / 128][tensor_left(2 * r)] = mine[r];
        }
    }
    if (threadIdx.x == 0) {
        n_unsure = 0;
        n_pairs = 0;
    }
    __syncthreads();  // both halves' best two are there
    if (threadIdx.x < TILE) {
        const BestTwo other = half[1][threadIdx.x];
        found[threadIdx.x] = half[0][threadIdx.x];
        highest[threadIdx.x] = -1.0 / 0.0;
        found[threadIdx.x].merge(other.best, other.second, other.label);
    }
    __syncthreads();  // the best two of every row are there

    for (int row = threadIdx.x / GROUP; row < TILE; row += BLOCK / GROUP) {
        double square = 0.0;  // |x|^2: the row's half of the error
        for (int d = lane_in_group(); d < a.dim && row < rows.n; d += GROUP) {
            const double moved = __fsub_rn(x[(first_row + row) * a.dim + d], mean[d]);
            square += moved * moved;
        }
        for (int lanes = GROUP / 2; lanes > 0; lanes /= 2) {
            square += __shfl_xor_sync(ALL_LANES, square, lanes);
        }
        if (row < rows.n && lane_in_group() == 0) {
            const BestTwo two = found[row];
            const double own = 4.0 * rounding(a.dim, square) + 2.0 * tensor_rounding(a.dim, square);
            const double ceiling = (double)two.best + error[two.label] + own;
            nearest[row] = ~0ull;
            least[row] = ~0u;
            if (!(two.second > ceiling)) {  // also where there is a NaN
                unsure[atomicAdd(&n_unsure, 1)] = row;
                highest[row] = ceiling;
            }
        }
    }
    __syncthreads();  // the unsure rows are listed

    const int group = threadIdx.x / GROUP;
    if (n_unsure > 0) {
        for_each_score(a, rows, centers, mean, lower, memory, [&](int r, int center, float score) {
            const int row = tensor_left(2 * r);
            if ((double)score <= highest[row]) {
                const int place = atomicAdd(&n_pairs, 1);
                if (place < PAIRS) {
                    pairs[place] = make_int2(row, center);
                }
            }
        });
        __syncthreads();  // the pairs are listed
        if (n_pairs <= PAIRS) {
            settle_pairs(x + first_row * a.dim, centers, a.dim, pairs, n_pairs, nearest);
        } else {
            settle_rows(x + first_row * a.dim, centers, a.dim, a.n_centers, unsure, n_unsure, least,
                        nearest);
        }
    }
    __syncthreads();  // the unsure rows are settled

    for (int first = 0; first < TILE; first += BLOCK / GROUP) {
        const int row = first + group;
        const int safe = row < rows.n ? row : 0;
        const u64 settled = nearest[safe];
        const int label = settled == ~0ull ? found[safe].label : (int)(u32)settled;
        const float* mine_x = x + (first_row + safe) * a.dim;
        const float* c = centers + (i64)label * a.dim;
        const float distance = canonical([&](int d) { return c[d]; },
                                         [&](int d) { return mine_x[d]; }, a.dim, false, 0.0);
        if (row < rows.n && lane_in_group() == 0) {
            a.labels[problem * a.n + first_row + row] = label;
            a.dists[problem * a.n + first_row + row] = distance;
        }
    }
}
