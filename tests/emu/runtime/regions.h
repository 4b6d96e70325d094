// Memory a kernel may touch, and what the checker remembers of each byte of it.
#pragma once
#include <string>

#include "runtime.h"

namespace emu {

// The last reads or the last writes of a byte. What was ordered before the latest one is left out:
// what is ordered after the latest is ordered after those too.
struct Trace {
    uint32_t time;           // void when older than the launch (shared memory: than the block)
    uint16_t actor;          // a thread, or one of the groups below
    bool deliberate;         // all were atomic or volatile
    bool earlier_block : 1;  // some were made by an earlier block of the launch
    bool in_flight : 1;      // a cp.async will write there
};

// Traces of several threads that nothing orders.
constexpr uint16_t LANES_OF_WARP = 0x4000;  // plus the number of the warp
constexpr uint16_t SEVERAL_WARPS = 0x8000;

struct Cell {
    Trace write;
    Trace read;
};

struct Region {
    char* low;
    char* high;
    Cell* cells;  // one for each byte
    bool shared;
    long buffer;       // which of the request's, or -1
    const char* name;  // of a shared variable

    long offset_of(const void* address) const { return static_cast<const char*>(address) - low; }
};

void set_regions();
void release_large_cells();
Region* find_region(const void* address);
std::string describe(const Region& region);
[[noreturn]] void fail_outside(const void* address, unsigned long bytes, const char* verb);

// Constants and string literals of the library, which kernels may read.
bool is_constant(const void* address);

}  // namespace emu
