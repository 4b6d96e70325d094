// assign: nearest centre of every row, for a batch of independent problems in one launch.
//
//   labels[b, i] = argmin_c |x[b, i] - centers[b, c]|^2 canonical; ties -> smaller c
//
// Scores |c|^2 - 2 x.c (both about the mean of the centres) come from 64 x 64 tiles and never reach
// memory: each thread keeps the best and the second best of its rows. Where the second lies further
// than both could err, the best is the answer; the few other rows are compared with all centres by
// canonical distance. Two small launches make the mean, the norms and their errors first.
//   assign_mean   one thread a (problem, component)
//   assign_norms  one group of 8 lanes a centre
//
// in      struct AssignArgs: x (B, N, D) f32, centers (B, C, D) f32
// out     labels (B, N) i32, dists (B, N) f32 canonical squared L2
// defines BLOCK 256
// grid    assign (ceil(N / 64), B); assign_mean one thread a (problem, component); assign_norms
//         eight threads a centre
// shared  static: two tiles of 16 x 68 floats, 64 results
// budget  assign: regs <= 128, spills 0, blocks/SM >= 2
// budget  assign_mean: regs <= 40, spills 0, blocks/SM >= 6
// budget  assign_norms: regs <= 64, spills 0, blocks/SM >= 4
// cost    2 * B * N * C * D flop; unsure rows C * D each in float64
// source  own; the rounding bound after Higham, "Accuracy and Stability of Numerical Algorithms"
#include "canonical.cuh"
#include "common.cuh"
#include "select.cuh"
#include "tile.cuh"

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
        const double error = 2.0 * rounding(a.dim, square);
        a.lower[center] = (float)(square - error);
        a.error[center] = (float)(2.0 * error);
    }
}

// The best and the second best score of a row so far, and the best's centre.
struct BestTwo {
    float best, second;
    int label;

    __device__ void take(float score, int center) {
        if (score < best) {
            second = best;
            best = score;
            label = center;
        } else if (score < second) {
            second = score;
        }
    }

    __device__ void merge(float other_best, float other_second, int other_label) {
        if (other_best < best || (other_best == best && other_label < label)) {
            second = fminf(best, other_second);
            best = other_best;
            label = other_label;
        } else {
            second = fminf(second, other_best);
        }
    }
};

// (distance, centre) as one integer: the smaller is the nearer, ties go to the smaller centre.
__device__ __forceinline__ u64 packed(float distance, int center) {
    return (u64)key_of(distance) << 32 | (u32)center;
}

ENTRY(assign)(const AssignArgs a) {
    __shared__ TileMemory memory;
    __shared__ BestTwo found[TILE];
    __shared__ u64 nearest[TILE];
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

    BestTwo mine[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        mine[i] = BestTwo{positive_infinity(), positive_infinity(), 0};
    }
    for (int first = 0; first < a.n_centers; first += TILE) {
        float product[4][4] = {};
        tile_product(rows, MatrixRows(centers, mean, first, a.n_centers, a.dim), a.dim, memory,
                     Multiply{}, product);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int center = first + 4 * tile_x() + j;
            if (center < a.n_centers) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    mine[i].take(fmaf(-2.0f, product[i][j], lower[center]), center);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {  // the 16 threads of a row are half a warp
        for (int lanes = 8; lanes > 0; lanes /= 2) {
            const float best = __shfl_xor_sync(ALL_LANES, mine[i].best, lanes);
            const float second = __shfl_xor_sync(ALL_LANES, mine[i].second, lanes);
            const int label = __shfl_xor_sync(ALL_LANES, mine[i].label, lanes);
            mine[i].merge(best, second, label);
        }
        if (tile_x() == 0) {
            found[4 * tile_y() + i] = mine[i];
        }
    }
    if (threadIdx.x == 0) {
        n_unsure = 0;
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
            const double ceiling =
                (double)two.best + error[two.label] + 4.0 * rounding(a.dim, square);
            nearest[row] = ~0ull;
            if (!(two.second > ceiling)) {  // also where there is a NaN
                unsure[atomicAdd(&n_unsure, 1)] = row;
            }
        }
    }
    __syncthreads();  // the unsure rows are listed

    const int group = threadIdx.x / GROUP;
    for (int i = 0; i < n_unsure; i++) {
        const int row = unsure[i];
        const float* mine_x = x + (first_row + row) * a.dim;
        u64 best = ~0ull;
        for (int first = 0; first < a.n_centers; first += BLOCK / GROUP) {
            const int center = first + group < a.n_centers ? first + group : a.n_centers - 1;
            const float* c = centers + (i64)center * a.dim;
            const float distance = canonical([&](int d) { return c[d]; },
                                             [&](int d) { return mine_x[d]; }, a.dim, false, 0.0);
            const u64 both = packed(distance, center);
            best = both < best ? both : best;
        }
        if (lane_in_group() == 0) {
            atomicMin(&nearest[row], best);
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
