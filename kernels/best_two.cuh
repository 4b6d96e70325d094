// The two best centres of a row by scores that err, and what decides where those cannot tell.
#pragma once
#include "canonical.cuh"
#include "select.cuh"

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
