// Scores of a tile of rows with all centres, on tensor cores: fp16 products, fragments.cuh.
//
//   score(x, c) = |c|^2 - 2 x.c, both about a point near the centres; what it may err by is taken off
//
// Short rows (SPLIT) are packed three times into the depth of the product, as hi + lo halves:
//     { x hi | x hi | x lo } . { c hi | c lo | c hi } = x.c up to 2^-20, for they would be too near to
// each other for one half alone; and the depth of an mma is there in any case.
#pragma once
#include "best_two.cuh"
#include "canonical.cuh"
#include "fragments.cuh"

constexpr int PAIRS = 1024;  // (row, centre) that a block has room for: 16 a row
constexpr int TILE_BYTES =
    8 * BLOCK * 12 + TILE * (WARPS * 12 + 12 + 8 + 8 + 8 + 4 + 4 + 4 + 4) + PAIRS * 8 + 16;

struct AssignArgs {
    const float* x;        // (n_problems, n, dim)
    const float* centers;  // (n_problems, n_centers, dim)
    float* origin;         // (n_problems, dim) scratch: rows and centres are taken from it
    float* lower;          // (n_problems, n_centers) scratch: |c|^2 less its error
    float* error;          // (n_problems, n_centers) scratch: from the lower to the upper bound
    float* factor;   // (n_problems, n_centers) scratch: -2, and undoes the scale of the halves
    u32* halves;     // (n_problems, n_centers + 31, words) scratch: centres as scaled fp16
    int* unsure;     // (n_problems, n) scratch: rows whose best two are too close to tell
    int* n_unsure;   // (n_problems,) scratch
    int* labels;     // (n_problems, n) out
    float* dists;    // (n_problems, n) out
    i64 n;           // N
    int n_problems;  // B
    int n_centers;   // C
    int dim;         // D
    int words;       // of a row as fp16, padded to a multiple of 16 components
    int depth;       // components of a tile that are in shared memory at a time
};

// The tile's row that a thread has as its r-th, 0 .. 7.
__device__ __forceinline__ int own_row(int r) { return tile_row(r / 2, r % 2 * 2); }

// Of the tile's rows; behind it in dynamic shared memory the tile itself.
struct alignas(16) TileMemory {
    float best_score[8][BLOCK];    // of each thread's rows so far
    float second_score[8][BLOCK];  // they would not fit its registers beside the products
    int best_center[8][BLOCK];
    BestTwo of_warp[WARPS][TILE];
    BestTwo best[TILE];
    u64 nearest[TILE];     // of unsure rows, see `packed`
    double highest[TILE];  // score that the nearest centre of an unsure row may have
    double own[TILE];      // the row's part of the error
    float scale[TILE];     // of the row's halves: a power of two ...
    float unscaled[TILE];  // ... and its inverse
    u32 least[TILE];       // bits of the least float32 distance of an unsure row
    int row[TILE];         // its number, or -1
    int2 pairs[PAIRS];     // (row of the tile, centre) that may be the nearest
    int n_pairs;
};
static_assert(sizeof(TileMemory) == TILE_BYTES, "the launcher asks for as much");

// How many halves a row is packed into.
__device__ __forceinline__ int packed_dim(int dim) { return SPLIT ? 3 * dim : dim; }

// A vector's half of what 2 x.c may err by: 2 |x| |c| <= |x|^2 + |c|^2. Of a split vector each half
// loses 2^-22 at most; `limited` as in half_rounding.
__device__ __forceinline__ double score_error(int dim, double square) {
    const double limited = dim * 0x1p-97 * sqrt(square);
    const double relative = SPLIT ? (3 * dim + 8 + MARGIN) * (1.0 / (1 << 22)) : half_relative(dim);
    return 2.0 * rounding(dim, square) + square * relative + limited;
}

// Halves 2 i and 2 i + 1 of a packed vector, whose scaled components component(d) gives; `right`: of a
// centre, which is the right side of the product.
template <class Component>
__device__ __forceinline__ u32 packed_word(int i, int dim, bool right, const Component& component) {
    float both[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int at = 2 * i + j, third = SPLIT ? at / dim : 0, d = at - third * dim;
        both[j] = at < packed_dim(dim) ? component(d) : 0.0f;
        if (SPLIT && third == (right ? 1 : 2)) {
            both[j] = __fsub_rn(both[j], __half2float(__float2half_rn(both[j])));
        }
    }
    return two_halves(both[0], both[1]);
}

// The whole block: number, scale and error of the tile's rows. row_at(r) is the number of its row r,
// -1 for none.
template <class RowAt>
__device__ __forceinline__ void list_rows(const AssignArgs& a, const float* x, const float* origin,
                                          const RowAt& row_at, TileMemory& memory) {
    for (int r = threadIdx.x / GROUP; r < TILE; r += BLOCK / GROUP) {
        const int row = row_at(r);
        double square = 0.0;
        for (int d = lane_in_group(); d < a.dim && row >= 0; d += GROUP) {
            const double moved = __fsub_rn(x[(i64)row * a.dim + d], origin[d]);
            square += moved * moved;
        }
        for (int lanes = GROUP / 2; lanes > 0; lanes /= 2) {
            square += __shfl_xor_sync(ALL_LANES, square, lanes);
        }
        if (lane_in_group() == 0) {
            memory.row[r] = row;
            const int exponent = half_exponent(rounded_up(sqrt(square) * (1.0 + 1e-9)));
            memory.scale[r] = power_of_two(exponent);
            memory.unscaled[r] = power_of_two(-exponent);
            memory.own[r] = 2.0 * score_error(a.dim, square);
        }
    }
}

// The whole block: halves `first` .. of the packed rows into the tile, 16 lanes a row.
__device__ __forceinline__ void fill_tile(const AssignArgs& a, const float* x, const float* origin,
                                          const TileMemory& memory, int first, u32* tile,
                                          int pitch) {
    const int words = a.words - first / 2 < a.depth / 2 ? a.words - first / 2 : a.depth / 2;
    for (int r = threadIdx.x / 16; r < TILE; r += BLOCK / 16) {
        const int row = memory.row[r];
        const float scale = memory.scale[r];
        for (int i = threadIdx.x % 16; i < words; i += 16) {
            const auto component = [&](int d) {
                return row < 0 ? 0.0f : __fsub_rn(x[(i64)row * a.dim + d], origin[d]) * scale;
            };
            tile[r * pitch + i] = packed_word(first / 2 + i, a.dim, false, component);
        }
    }
}

// 32 centres of a warp, from the first of them on.
struct CenterRows {
    const u32* halves;
    int words;

    template <int N>
    __device__ void load(int row, int d, Words<N>& out) const {
        out = *reinterpret_cast<const Words<N>*>(halves + (i64)row * words + d / 2);
    }
};

// Scores of one of a thread's rows with the eight centres center(0) .. center(7), +inf beyond the last.
struct Scores {
    float of[8];
    int first;

    __device__ int center(int j) const { return first + warp_row(j / 2, j % 2); }
};

// The whole block: take(r, scores) for r 0 .. 7, the rows own_row(r) of the tile; centres ascend from
// call to call. The rows are listed; behind it the last part of the tile may still be read.
template <class Take>
__device__ __forceinline__ void for_each_score(const AssignArgs& a, i64 problem, TileMemory& memory,
                                               u32* tile, const Take& take) {
    const float* x = a.x + problem * a.n * a.dim;
    const float* origin = a.origin + problem * a.dim;
    const i64 centers = problem * a.n_centers;
    const int pitch = tile_pitch(a.depth), dim = packed_dim(a.dim);
    for (int start = 0; start < a.n_centers; start += WARPS * ROWS) {
        const int first = start + threadIdx.x / WARP * ROWS;
        const CenterRows rows{a.halves + (centers + first) * a.words, a.words};
        Product acc = {};
        for (int d = 0; d < dim; d += a.depth) {
            if (start == 0 || dim > a.depth) {
                __syncthreads();  // the rows are listed, the part before has been multiplied
                fill_tile(a, x, origin, memory, d, tile, pitch);
                __syncthreads();  // the part is there
            }
            if (first < a.n_centers) {
                multiply(tile, pitch, TILE / 16, rows, d, dim - d < a.depth ? dim - d : a.depth,
                         acc);
            }
        }
        Scores scores;
        scores.first = first;
        float lower[8], factor[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const bool inside = scores.center(j) < a.n_centers;
            lower[j] = inside ? a.lower[centers + scores.center(j)] : positive_infinity();
            factor[j] = inside ? a.factor[centers + scores.center(j)] : 0.0f;
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            const float unscaled = memory.unscaled[own_row(r)];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const float product = acc[r / 2][j / 2][r % 2 * 2 + j % 2] * unscaled;
                scores.of[j] = factor[j] == 0.0f ? lower[j] : fmaf(product, factor[j], lower[j]);
            }
            take(r, scores);
        }
    }
}
