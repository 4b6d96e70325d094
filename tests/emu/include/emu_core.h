// What the runtime offers to the headers a kernel sees. Both sides include this file.
//
// No header on the kernel's side includes the C++ library: NVRTC has none, so a kernel that uses
// uint32_t, INFINITY or std:: must not compile here either.
#pragma once
#include "emu_vectors.h"

// For functions that touch memory on a kernel's behalf: they report their accesses themselves.
#define EMU_UNCHECKED __attribute__((no_sanitize("thread")))

// As the last parameters of an intrinsic: the place in the kernel's text that calls it.
#define EMU_HERE const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_SITE (emu::Site{emu_file, emu_line})

namespace emu {

struct Site {
    const char* file;
    int line;
};

// ---- who runs. A thread's answers never change, which `const` tells the compiler.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_size();
__attribute__((const)) dim3 grid_size();
__attribute__((const)) int lane_index();

// ---- scheduling
enum class Combine { Nothing, Count, And, Or };
int barrier(int predicate, Combine combine, Site site);
void fence(Site site);
void scheduling_point();
long long ticks();

// ---- warp operations; values travel as 64 bits
enum class Reduction { Add, MinSigned, MinUnsigned, MaxSigned, MaxUnsigned, And, Or, Xor };
void sync_warp(unsigned mask, Site site);
unsigned long long shuffle(unsigned mask, unsigned long long bits, int source_lane, Site site);
unsigned ballot(unsigned mask, bool predicate, Site site);
unsigned match_any(unsigned mask, unsigned long long bits, Site site);
unsigned reduce(unsigned mask, unsigned bits, Reduction reduction, Site site);

// ---- tensor cores: all 32 lanes together
void multiply_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                  const float (&c)[4], Site site);

// ---- memory
void* dynamic_shared();
void copy_async(void* shared, const void* global, unsigned source_bytes, Site site);
void copy_async_commit();
void copy_async_wait(int groups_left);

enum class Access { Read, Write, VolatileRead, VolatileWrite, Atomic, ReadOnly };
void check(const void* address, unsigned long bytes, Access access, Site site);

// In the fast build nothing is checked, and the call is not even made.
EMU_UNCHECKED inline void check_if_built(const void* address, unsigned long bytes, Access access,
                                         Site site) {
#ifdef EMU_CHECKED
    check(address, bytes, access, site);
#else
    (void)address, (void)bytes, (void)access, (void)site;
#endif
}

[[noreturn]] void fail_at(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));

// ---- entries: one row for each kernel of a text, with an empty row at the end
struct EntryRow {
    const char* name;
    void (*call)(const void* argument);
    long argument_bytes;
    long max_threads;
};

}  // namespace emu
