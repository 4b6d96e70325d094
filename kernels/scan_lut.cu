// scan_lut: the k nearest PQ rows of the probed lists, query by query, by look-up table.
//
//   score(q, v) = A(q, l) + N(v) - sum_m lut[q, m, code[v, m]]
//   (dists, ids)[q] = the k smallest by (canonical distance, id)
//
// The table is built once a query, not once a (query, list): all that depends on the list is in A
// and N. Bound, ceiling and canonical rescoring are those of walk.cuh, in one launch: selection is
// fused with the scan, no score is written to memory.
//
// in      struct ScanArgs in scan.cuh; lut (Q, pq_dim, pq_book_size) TABLE, of 2q or q
// out     dists (n_splits, Q, k) f32, names (n_splits, Q, k) i64, padded with (+inf, -1)
// defines BLOCK 256; TABLE float or __half; ROW u8 and CODEC 1
// grid    (Q, n_splits): a block walks every n_splits-th chunk of 128 rows of its query's lists
// shared  dynamic: the table if table_is_shared, then max(4 * (budget + 128), 24 * capacity) bytes,
//         at least BLOCK * 12
// budget  scan_lut: regs <= 128, spills 0, blocks/SM >= 1
// cost    pairs * list length * pq_dim look-ups
// source  Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", PAMI 2011
#include "common.cuh"
#include "ptx.cuh"
#include "scan.cuh"
#include "walk.cuh"

// Sum of the table's entries for one row's codes, by one group of lanes.
struct TableScore {
    const TABLE* table;  // (pq_dim, pq_book_size) shared or global
    const u8* codes;     // (n_rows, code_bytes)
    int pq_dim, pq_book_size, pq_bits, code_bytes;

    __device__ float operator()(i64 row) const {
        float sum = 0.0f;
        for (int m = lane_in_group(); m < pq_dim; m += GROUP) {
            sum +=
                to_float(table[m * pq_book_size + code_of(codes + row * code_bytes, m, pq_bits)]);
        }
        return group_sum(sum);
    }
};

// An fp16 entry x errs by 2^-11 |x|, or 2^-25 where it is subnormal; counted twice, to be safe.
__device__ __forceinline__ double table_slack(const TABLE* table, int pq_dim, int pq_book_size,
                                              double* partial) {
    if (sizeof(TABLE) == 4) {
        return 0.0;
    }
    double sum = 0.0;
    for (int m = threadIdx.x; m < pq_dim; m += BLOCK) {
        float largest = 0.0f;
        for (int j = 0; j < pq_book_size; j++) {
            largest = fmaxf(largest, fabsf(to_float(table[m * pq_book_size + j])));
        }
        sum += 2.0 * 4.8828125e-4 * largest + 5.9604644775390625e-8;
    }
    partial[threadIdx.x] = sum;
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        __syncthreads();  // the level above is written
        if (threadIdx.x < half) {
            partial[threadIdx.x] += partial[threadIdx.x + half];
        }
    }
    __syncthreads();  // the sum is there
    const double all = partial[0];
    __syncthreads();  // everyone has it
    return all;
}

// The whole block: copy `bytes`, a multiple of 16, into shared memory.
__device__ __forceinline__ void copy_to_shared(void* to, const void* from, i64 bytes) {
    for (i64 i = 16 * threadIdx.x; i < bytes; i += 16 * BLOCK) {
        cp_async_16(static_cast<char*>(to) + i, static_cast<const char*>(from) + i);
    }
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();  // the copies of all threads are there
}

ENTRY(scan_lut)(const ScanArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int histogram[256];
    __shared__ u32 found[2];
    __shared__ int arrived;
    const int query = blockIdx.x, split = blockIdx.y;
    const int entries = a.pq_dim * a.pq_book_size;
    const TABLE* table = a.lut + (i64)query * entries;
    unsigned char* rest = bytes;
    if (a.table_is_shared) {  // 16 bytes divide a table: a codebook has 16 entries at least
        copy_to_shared(bytes, table, (i64)entries * sizeof(TABLE));
        table = reinterpret_cast<const TABLE*>(bytes);
        rest += (i64)entries * sizeof(TABLE);
    }
    double* partial = reinterpret_cast<double*>(rest);
    const double slack = query_scale(a, query, partial).slack +
                         table_slack(table, a.pq_dim, a.pq_book_size, partial);
    const TableScore score{table, a.rows, a.pq_dim, a.pq_book_size, a.pq_bits, a.code_bytes};
    float bound =
        first_bound(a, query, split, 0.0f, score, reinterpret_cast<u32*>(rest), histogram, found);
    if (a.limit != nullptr) {
        bound = fminf(bound, a.limit[query]);
    }
    Selection best;
    best.begin(rest, &arrived, a.capacity, a.k);
    select_under(a, query, split, 0.0f, (double)bound + 2.0 * slack, slack, score, best);
    const i64 out = ((i64)split * a.n_queries + query) * a.k;
    best.finish(a.dists + out, a.names + out);
}
