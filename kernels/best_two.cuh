// The two best centres of a row by scores that err, and what decides where those cannot tell.
#pragma once
#include "canonical.cuh"
#include "select.cuh"

// The best and the second best score of a row so far, and the best's centre.
struct BestTwo {
    float best, second;
    int label;

    __device__ void take(float score, int center) {
        label = score < best ? center : label;
        second = fminf(second, fmaxf(best, score));
        best = fminf(best, score);
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

// Squared distance of two rows (dim,) in float32, by the 8 lanes of a group, each of which gets it. As
// a sum of squares of differences it errs by no more than (dim + 2) 2^-24 of itself, and underflow.
__device__ __forceinline__ float plain_distance(const float* x, const float* c, int dim) {
    float sum = 0.0f;
    for (int d = lane_in_group(); d < dim; d += GROUP) {
        const float difference = __fsub_rn(x[d], c[d]);
        sum = fmaf(difference, difference, sum);
    }
    for (int lanes = GROUP / 2; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(ALL_LANES, sum, lanes);
    }
    return sum;
}

// A plain distance that a centre may have and still be the nearest, the least plain one being `best`.
__device__ __forceinline__ float near_the_best(float best, int dim) {
    return (float)((double)best * (1.0 + 8.0 * (dim + 16) / (1 << 24)) + (dim + 16) * 0x1p-120);
}

// The nearest centres of a tile's rows by canonical distance, as `packed` into nearest[r] for row
// numbers[r]: what the groups of a block find of `n_pairs` (r, centre).
__device__ __forceinline__ void settle_pairs(const float* x, const int* numbers,
                                             const float* centers, int dim, const int2* pairs,
                                             int n_pairs, u64* nearest) {
    for (int first = 0; first < n_pairs; first += BLOCK / GROUP) {
        const int i = first + threadIdx.x / GROUP;
        const int2 pair = pairs[i < n_pairs ? i : first];
        const float* row = x + (i64)numbers[pair.x] * dim;
        const float* c = centers + (i64)pair.y * dim;
        const float distance =
            canonical([&](int d) { return c[d]; }, [&](int d) { return row[d]; }, dim, false, 0.0);
        if (lane_in_group() == 0) {
            atomicMin(&nearest[pair.x], packed(distance, pair.y));
        }
    }
}

// The same for rows with too many such centres: all are looked at in float32 first.
__device__ __forceinline__ void settle_rows(const float* x, const int* numbers, int n_rows,
                                            const float* centers, int dim, int n_centers,
                                            u32* least, u64* nearest) {
    const int group = threadIdx.x / GROUP;
    for (int i = 0; i < n_rows; i++) {
        const float* row = x + (i64)numbers[i] * dim;
        float best = positive_infinity();
        for (int first = 0; first < n_centers; first += BLOCK / GROUP) {
            const int center = first + group < n_centers ? first + group : n_centers - 1;
            best = fminf(best, plain_distance(row, centers + (i64)center * dim, dim));
        }
        if (lane_in_group() == 0) {
            atomicMin(&least[i], __float_as_uint(best));  // at least 0: bits are in order
        }
    }
    __syncthreads();  // the least distances of the unsure rows are there
    for (int i = 0; i < n_rows; i++) {
        const float* row = x + (i64)numbers[i] * dim;
        const float near = near_the_best(__uint_as_float(least[i]), dim);
        u64 best = ~0ull;
        for (int first = 0; first < n_centers; first += BLOCK / GROUP) {
            const int center = first + group < n_centers ? first + group : n_centers - 1;
            const float* c = centers + (i64)center * dim;
            const bool may_win = !(plain_distance(row, c, dim) > near);  // also where NaN
            if (!__any_sync(ALL_LANES, may_win)) {
                continue;
            }
            const float distance = canonical([&](int d) { return c[d]; },
                                             [&](int d) { return row[d]; }, dim, false, 0.0);
            const u64 both = packed(distance, center);
            best = may_win && both < best ? both : best;
        }
        if (lane_in_group() == 0) {
            atomicMin(&nearest[i], best);
        }
    }
}
