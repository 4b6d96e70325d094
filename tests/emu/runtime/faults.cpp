// What goes wrong in a kernel ends the launch with a report; the process lives on.
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <ctime>

#include "runtime.h"

namespace emu {

// Mirrored by library.py, which turns the code addresses into lines.
struct FaultReport {
    char text[4096];
    const void* code;       // where it happened, when not null
    const void* last_code;  // the last checked access before it
    Site last_site;         // or the last intrinsic
};

bool failed;
Whereabouts whereabouts;
static FaultReport report;
static size_t report_length;

static void append_list(const char* format, va_list values) {
    size_t room = sizeof report.text - report_length;
    int length = vsnprintf(report.text + report_length, room, format, values);
    report_length += static_cast<size_t>(length) < room ? static_cast<size_t>(length) : room - 1;
}

__attribute__((format(printf, 1, 2))) static void append(const char* format, ...) {
    va_list values;
    va_start(values, format);
    append_list(format, values);
    va_end(values);
}

static void append_thread() {
    append("block (%u,%u,%u) thread (%u,%u,%u): ", block.x, block.y, block.z, current->index.x,
           current->index.y, current->index.z);
}

void clear_fault() {
    failed = false;
    report_length = 0;
    report = FaultReport{};
    whereabouts = Whereabouts{};
}

[[noreturn]] static void end_launch() {
    report.last_code = whereabouts.code;
    report.last_site = whereabouts.site;
    failed = true;
    leave_kernel();
}

[[noreturn]] static void fail_with(const char* format, va_list values) {
    append_thread();
    append_list(format, values);
    end_launch();
}

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    fail_with(format, values);
}

void fail_at(Site site, const char* format, ...) {
    arrive_at(site);
    va_list values;
    va_start(values, format);
    fail_with(format, values);
}

// ---- deadlock: who waits where
static bool waits_like(const Fiber& a, const Fiber& b) {
    return a.state == b.state && a.waits_in == b.waits_in && a.waits_at.line == b.waits_at.line;
}

void report_deadlock() {
    constexpr int MOST_SHOWN = 8;
    int shown = 0;
    failed = true;
    append("block (%u,%u,%u): deadlock", block.x, block.y, block.z);
    for (unsigned i = 0; i < block_threads && shown < MOST_SHOWN; i++) {
        const Fiber& fiber = fibers[i];
        bool as_before = i > 0 && waits_like(fibers[i - 1], fiber);
        if (fiber.state != State::Waiting || as_before) {
            continue;
        }
        append("%s from thread %u on they wait in %s at %s:%d", shown ? ";" : ":", i,
               fiber.waits_in, fiber.waits_at.file, fiber.waits_at.line);
        shown++;
    }
}

// ---- signals: bad addresses, stack overflow, division by zero, the time limit
static const int TIME_LIMIT_SIGNAL = SIGVTALRM;  // SIGALRM may belong to the test runner
static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, TIME_LIMIT_SIGNAL};
constexpr size_t SIGNAL_COUNT = sizeof SIGNALS / sizeof SIGNALS[0];
static struct sigaction former_actions[SIGNAL_COUNT];
static stack_t former_stack;
static char signal_stack[64 * 1024];
static pthread_t launching_thread;
static timer_t timer;

static bool is_in_guard_page(const void* address) {
    const char* low = request->stacks;
    const char* byte = static_cast<const char*>(address);
    return byte >= low && byte < low + STACK_BYTES * block_threads;
}

static void append_signal(int signal, const siginfo_t* info) {
    if (signal == TIME_LIMIT_SIGNAL) {
        append("time limit of %ld s reached, an endless loop?", request->time_limit);
    } else if (signal == SIGFPE) {
        append("division by zero");
    } else if (signal != SIGILL && is_in_guard_page(info->si_addr)) {
        append("stack overflow");
    } else {
        append("%s at address %p", signal == SIGILL ? "illegal instruction" : "memory fault",
               info->si_addr);
    }
}

static void on_signal(int signal, siginfo_t* info, void* context) {
    bool in_kernel = pthread_equal(pthread_self(), launching_thread) && current != &host;
    if (!in_kernel) {
        if (signal != TIME_LIMIT_SIGNAL) {
            std::signal(signal, SIG_DFL);  // not ours: it strikes again, and ends the process
        }
        return;
    }
    const auto* registers = static_cast<const ucontext_t*>(context);
    report.code = reinterpret_cast<const void*>(registers->uc_mcontext.gregs[REG_RIP]);
    append_thread();
    append_signal(signal, info);
    end_launch();
}

// Counts this thread's own time, and signals this thread, whichever it is.
static void start_timer(long seconds) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = TIME_LIMIT_SIGNAL;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    itimerspec limit{};
    limit.it_value.tv_sec = seconds;
    limit.it_interval.tv_sec = 1;  // the first may strike between two blocks, where it is ignored
    timer_settime(timer, 0, &limit, nullptr);
}

void catch_signals(long time_limit) {
    launching_thread = pthread_self();
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &former_stack);
    struct sigaction action{};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        sigaction(SIGNALS[i], &action, &former_actions[i]);
    }
    start_timer(time_limit);
}

void release_signals() {
    timer_delete(timer);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        sigaction(SIGNALS[i], &former_actions[i], nullptr);
    }
    sigaltstack(&former_stack, nullptr);
}

}  // namespace emu

extern "C" __attribute__((visibility("default"))) const emu::FaultReport* emu_fault() {
    return &emu::report;
}
