// CUDA's keywords and built-in variables.
#pragma once
#include "emu_core.h"

#define __global__ __attribute__((noinline))  // inlined into its caller it would not be checked
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)  // read from the text, see entries.py
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

// Blocks run one after another, so shared memory is a static variable. The symbol table tells
// where these lie: kernels have no other variables that are static in a function.
#define __shared__ static
#define EXTERN_SHARED(Type, name) Type* name = reinterpret_cast<Type*>(emu::dynamic_shared())

#define threadIdx (emu::thread_index())
#define blockIdx (emu::block_index())
#define blockDim (emu::block_size())
#define gridDim (emu::grid_size())
#define warpSize 32

typedef __SIZE_TYPE__ size_t;
