// Memory a kernel may touch, and what the checker remembers of each byte of it.
#pragma once
#include <string>

#include "runtime.h"

namespace emu {

// The last reads or the last writes of a byte. What was ordered before the latest one is left out:
// what is ordered after the latest is ordered after those too.
//
// One word, put together in a register: the next access reads it whole, and soon.
struct Trace {
    uint64_t bits;

    // void when older than the launch (shared memory: than the block)
    uint32_t time() const { return static_cast<uint32_t>(bits); }
    // a thread, or one of the groups below
    uint16_t actor() const { return static_cast<uint16_t>(bits >> 32); }
    // all were atomic or volatile
    bool deliberate() const { return bits >> 48 & 1; }
    // some were made by an earlier block of the launch
    bool earlier_block() const { return bits >> 49 & 1; }
    // a cp.async will write there
    bool in_flight() const { return bits >> 50 & 1; }
    void set_in_flight(bool is) {
        bits = (bits & ~(uint64_t{1} << 50)) | static_cast<uint64_t>(is) << 50;
    }
};

inline Trace trace_of(uint32_t time, uint16_t actor, bool deliberate, bool earlier_block) {
    return {time | static_cast<uint64_t>(actor) << 32 | static_cast<uint64_t>(deliberate) << 48 |
            static_cast<uint64_t>(earlier_block) << 49};
}

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
