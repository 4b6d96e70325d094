// The k smallest of a stream, by (distance, id), kept by one block in shared memory.
//
// `capacity` places hold the best so far, as many again what came since. A candidate that does not
// beat the k-th is dropped at once; when the second half is full, all are sorted and the better
// half stays. Any order of arrival gives the same answer, since (distance, id) is a total order.
//
// Cost: one comparison a candidate; a bitonic sort of 2 * capacity entries for every `capacity`
// candidates that pass.
// Source: buffered selection as in Johnson, Douze, Jegou, "Billion-scale similarity search with
// GPUs", 2017; Batcher's bitonic sorter, 1968.
#pragma once
#include "common.cuh"

constexpr i64 NO_ID = 0x7fffffffffffffffll;
constexpr u32 NO_KEY = 0xffffffffu;

// Unsigned integers that ascend as floats do; -0 counts as 0, NaN comes after +inf.
__device__ __forceinline__ u32 key_of(float x) {
    const u32 bits = __float_as_uint(__fadd_rn(x, 0.0f));
    if (x != x) {
        return NO_KEY;
    }
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float float_of(u32 key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ __forceinline__ bool before(u32 key, i64 id, u32 other_key, i64 other_id) {
    return key < other_key || (key == other_key && id < other_id);
}

struct Selection {
    i64* ids;      // (2 * capacity,)
    u32* keys;     // (2 * capacity,)
    int* arrived;  // (1,) entries in the second half
    int capacity;  // a power of two, at least k and at least what make_room is asked for
    int k;

    // `shared` holds 24 * capacity bytes and is a multiple of 8.
    __device__ void begin(void* shared, int* counter, int capacity_, int k_) {
        ids = reinterpret_cast<i64*>(shared);
        capacity = capacity_;
        keys = reinterpret_cast<u32*>(ids + 2 * capacity);
        arrived = counter;
        k = k_;
        for (int i = threadIdx.x; i < 2 * capacity; i += BLOCK) {
            keys[i] = NO_KEY;
            ids[i] = NO_ID;
        }
        if (threadIdx.x == 0) {
            *arrived = 0;
        }
        __syncthreads();  // the entries and the counter are set
    }

    // The whole block: make sure that `n` <= capacity more candidates fit.
    __device__ void make_room(int n) {
        __syncthreads();  // pushes of the last round are counted
        const bool full = *arrived + n > capacity;
        __syncthreads();  // everyone has read the counter
        if (full) {
            sort();
        }
    }

    // Any threads, between two calls of make_room.
    __device__ void push(float distance, i64 id) {
        const u32 key = key_of(distance);
        if (key == NO_KEY || !before(key, id, keys[k - 1], ids[k - 1])) {
            return;
        }
        const int place = capacity + atomicAdd(arrived, 1);
        keys[place] = key;
        ids[place] = id;
    }

    // Upper bound of the k-th distance so far; +inf while there are fewer than k.
    __device__ float bound() const {
        return keys[k - 1] == NO_KEY ? positive_infinity() : float_of(keys[k - 1]);
    }

    // The whole block: sort everything, forget what is beyond the first half.
    __device__ void sort() {
        const int n = 2 * capacity;
        for (int size = 2; size <= n; size *= 2) {
            for (int stride = size / 2; stride > 0; stride /= 2) {
                for (int i = threadIdx.x; i < n / 2; i += BLOCK) {
                    const int low = 2 * i - (i & (stride - 1));  // i with a zero at bit `stride`
                    order(low, low + stride, (low & size) == 0);
                }
                __syncthreads();  // the next stride reads what this one moved
            }
        }
        for (int i = capacity + threadIdx.x; i < n; i += BLOCK) {
            keys[i] = NO_KEY;
            ids[i] = NO_ID;
        }
        if (threadIdx.x == 0) {
            *arrived = 0;
        }
        __syncthreads();  // the second half is empty
    }

    __device__ void order(int low, int high, bool ascending) {
        if (before(keys[high], ids[high], keys[low], ids[low]) != ascending) {
            return;
        }
        const u32 key = keys[low];
        const i64 id = ids[low];
        keys[low] = keys[high];
        ids[low] = ids[high];
        keys[high] = key;
        ids[high] = id;
    }

    // The whole block: write the k best, padded with (+inf, -1).
    __device__ void finish(float* dists, i64* names) {
        __syncthreads();  // the last pushes
        sort();
        for (int i = threadIdx.x; i < k; i += BLOCK) {
            const bool has = keys[i] != NO_KEY;
            dists[i] = has ? float_of(keys[i]) : positive_infinity();
            names[i] = has ? ids[i] : -1;
        }
    }
};

// The whole block: key of the k-th smallest of n keys in shared memory, NO_KEY where n < k.
//
// Eight bits at a time from the top: count the keys that begin with the digits found so far, find
// the digit in which the k-th lies. `histogram` (256,) and `found` (2,) are shared.
__device__ __forceinline__ u32 kth_smallest(const u32* keys, int n, int k, int* histogram,
                                            u32* found) {
    if (n < k) {
        return NO_KEY;
    }
    if (threadIdx.x == 0) {
        found[0] = 0;  // the digits so far
        found[1] = k;  // how many of the keys with these digits are still to be counted
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += BLOCK) {
            histogram[i] = 0;
        }
        __syncthreads();  // the histogram is clear, the digits are known
        const u32 digits = found[0];
        const u32 mask = shift == 24 ? 0u : ALL_LANES << (shift + 8);
        for (int i = threadIdx.x; i < n; i += BLOCK) {
            if ((keys[i] & mask) == digits) {
                atomicAdd(&histogram[keys[i] >> shift & 255], 1);
            }
        }
        __syncthreads();           // all are counted
        if (threadIdx.x < WARP) {  // in which of them the k-th lies: a lane looks at eight
            int digit = 8 * threadIdx.x, left = found[1], own = 0;
            for (int i = 0; i < 8; i++) {
                own += histogram[digit + i];
            }
            int sum = own;  // of the lanes up to this
            for (int lanes = 1; lanes < WARP; lanes *= 2) {
                const int before = __shfl_up_sync(ALL_LANES, sum, lanes);
                sum += threadIdx.x >= lanes ? before : 0;
            }
            __syncwarp();  // every lane has read how many are left
            left -= sum - own;
            if (0 < left && left <= own) {  // in one lane
                while (left > histogram[digit]) {
                    left -= histogram[digit++];
                }
                found[0] = digits | (u32)digit << shift;
                found[1] = left;
            }
        }
        __syncthreads();  // the digit is found, the histogram has been read
    }
    const u32 key = found[0];
    __syncthreads();  // everyone has it
    return key;
}
