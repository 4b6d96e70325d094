// What the parts of the runtime share. Each library has its own copy of all of this state.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu_core.h"

namespace emu {

#ifdef EMU_CHECKED
constexpr bool CHECKED = true;
#else
constexpr bool CHECKED = false;
#endif

constexpr unsigned MAX_THREADS = 1024;  // of a block
constexpr unsigned LANES = 32;
constexpr size_t STACK_BYTES = 128 * 1024;  // of a CUDA thread, with one guard page at its low end

// ---- CUDA threads
enum class State : uint8_t { Ready, Waiting, Done };

struct PendingCopy {
    void* target;
    const void* source;
    unsigned source_bytes;
    int group;
    Site site;
};

struct Fiber {
    void* stack_pointer;
    char* stack_low;
    uint3 index;
    unsigned thread, warp, lane;
    State state;
    const char* waits_in;
    Site waits_at;
    uint32_t warp_sync;      // time of the last __syncwarp
    unsigned points_passed;  // scheduling points passed since it last gave way
    int copy_group;
    std::vector<PendingCopy> copies;
};

extern Fiber* current;
extern Fiber host;  // the thread that called emu_launch
extern Fiber fibers[MAX_THREADS];

// ---- a launch; mirrored by library.py
struct BufferSpan {
    char* address;
    long bytes;
};

struct LaunchRequest {
    void (*call)(const void* argument);
    const void* argument;
    unsigned grid[3];
    unsigned block[3];
    long shared_bytes;
    long schedule;
    long seed;
    long time_limit;
    char* stacks;
    const BufferSpan* buffers;
    long buffer_count;
};

enum Schedule { IN_ORDER, REVERSE, RANDOM };

extern const LaunchRequest* request;
extern uint3 block;  // the block that runs
extern unsigned block_threads;
extern char* dynamic_memory;

struct SharedVariable {
    char* address;
    long bytes;
    const char* name;
};
extern std::vector<SharedVariable> shared_variables;

// ---- time: moves on at every block start, barrier, __syncwarp and fence, and never goes back, so
// that what an earlier launch left in the checker's memory is told by its age.
extern uint32_t now;
extern uint32_t launch_start;
extern uint32_t block_start;
extern uint32_t last_barrier;

// ---- random numbers of the schedule
void seed_random(uint64_t seed);
uint32_t random_number();

// ---- scheduler.cpp
void make_ready(Fiber* fiber);
void give_way();
void wait_in(const char* what, Site site);
void run_block(unsigned long number);
[[noreturn]] void leave_kernel();

// ---- launch.cpp
void poison_shared();

// ---- context.cpp
void prepare_stack(Fiber& fiber, char* stack, void (*body)());
void switch_to(Fiber* next);

// ---- warp.cpp
void start_warps();
void leave_warp(Fiber& fiber);

// ---- async_copy.cpp
void forbid_pending_copies(const Fiber& fiber);

// ---- faults.cpp
extern bool failed;

// Where the kernel is: the code address of an instrumented access, or the site of an intrinsic.
struct Whereabouts {
    const void* code;
    Site site;
};
extern Whereabouts whereabouts;

inline void arrive_at(Site site) { whereabouts = {nullptr, site}; }
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
void report_deadlock();
void clear_fault();
void catch_signals(long time_limit);
void release_signals();

// ---- checker.cpp, in the checked build only
void begin_checked_launch();
void begin_checked_block();
void end_checked_launch();
void check_access(const void* address, unsigned long bytes, Access access);
void check_copy_issued(void* target, const void* source, unsigned source_bytes);
void check_copy_done(void* target, const void* source, unsigned source_bytes);
void note_fence();

}  // namespace emu
