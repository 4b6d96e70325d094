// A launch, from the request to the last block. These are the functions library.py calls.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

#define EMU_EXPORT extern "C" __attribute__((visibility("default")))

namespace emu {

const LaunchRequest* request;
unsigned block_threads;
char* dynamic_memory;
static size_t dynamic_capacity;

std::vector<SharedVariable> shared_variables;

// ---- what a kernel asks about itself
uint3 thread_index() { return current->index; }

uint3 block_index() { return block; }

dim3 block_size() { return {request->block[0], request->block[1], request->block[2]}; }

dim3 grid_size() { return {request->grid[0], request->grid[1], request->grid[2]}; }

int lane_index() { return static_cast<int>(current->lane); }

void* dynamic_shared() { return dynamic_memory; }

// ---- shared memory
constexpr size_t DYNAMIC_ALIGNMENT = 1024;

static void make_dynamic_memory(size_t bytes) {
    if (bytes <= dynamic_capacity) {
        return;
    }
    std::free(dynamic_memory);
    dynamic_capacity = (bytes + DYNAMIC_ALIGNMENT - 1) / DYNAMIC_ALIGNMENT * DYNAMIC_ALIGNMENT;
    dynamic_memory = static_cast<char*>(aligned_alloc(DYNAMIC_ALIGNMENT, dynamic_capacity));
}

// NaN and -1: what no thread has written shows.
void poison_shared() {
    constexpr int POISON = 0xFF;
    for (const SharedVariable& variable : shared_variables) {
        std::memset(variable.address, POISON, static_cast<size_t>(variable.bytes));
    }
    if (request->shared_bytes > 0) {
        std::memset(dynamic_memory, POISON, static_cast<size_t>(request->shared_bytes));
    }
}

// ---- blocks
static std::vector<uint32_t> order_of_blocks(uint32_t count) {
    std::vector<uint32_t> order(count);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    if (request->schedule == REVERSE) {
        std::reverse(order.begin(), order.end());
    }
    for (uint32_t i = count; request->schedule == RANDOM && i > 1; i--) {
        std::swap(order[i - 1], order[random_number() % i]);
    }
    return order;
}

static void run_blocks() {
    const unsigned* grid = request->grid;
    for (uint32_t number : order_of_blocks(grid[0] * grid[1] * grid[2])) {
        run_block(number);
        if (failed) {
            return;
        }
    }
}

}  // namespace emu

EMU_EXPORT void emu_add_shared_variable(char* address, long bytes, const char* name) {
    emu::shared_variables.push_back({address, bytes, strdup(name)});
}

// Stacks for all threads of a block, each above a page that may not be touched. One set serves all
// libraries of a process, since they run one at a time.
EMU_EXPORT char* emu_make_stacks() {
    constexpr size_t PAGE = 4096;
    size_t bytes = emu::STACK_BYTES * emu::MAX_THREADS;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return nullptr;
    }
    char* stacks = static_cast<char*>(memory);
    for (unsigned i = 0; i < emu::MAX_THREADS; i++) {
        mprotect(stacks + emu::STACK_BYTES * i, PAGE, PROT_NONE);
    }
    return stacks;
}

// Returns whether the launch failed; emu_fault tells how.
EMU_EXPORT int emu_launch(const emu::LaunchRequest* request) {
    using namespace emu;
    emu::request = request;
    block_threads = request->block[0] * request->block[1] * request->block[2];
    clear_fault();
    seed_random(static_cast<uint64_t>(request->seed));
    make_dynamic_memory(static_cast<size_t>(request->shared_bytes));
    if constexpr (CHECKED) {
        begin_checked_launch();
    }
    launch_start = ++now;
    current = &host;
    catch_signals(request->time_limit);
    run_blocks();
    release_signals();
    if constexpr (CHECKED) {
        end_checked_launch();
    }
    std::fflush(stdout);
    return failed ? 1 : 0;
}
