// Entries: a kernel is called with the bytes of its parameters, laid out as the driver lays them.
#pragma once
#include "emu_core.h"

namespace emu {

constexpr long round_up(long offset, long alignment) {
    return (offset + alignment - 1) / alignment * alignment;
}

// The offset behind the last of the parameters `Type...` when the first may start at `offset`.
constexpr long end_of_parameters(long offset) { return offset; }
template <class First, class... Rest>
constexpr long end_of_parameters(long offset, First*, Rest*... rest) {
    return end_of_parameters(round_up(offset, alignof(First)) + sizeof(First), rest...);
}

template <unsigned N, class First, class... Rest>
struct Nth : Nth<N - 1, Rest...> {};
template <class First, class... Rest>
struct Nth<0, First, Rest...> {
    using type = First;
};

// Reads one parameter after another; with the last one in hand, calls.
template <class... Parameters, class... Read>
EMU_UNCHECKED void call_with(void (*kernel)(Parameters...), const unsigned char* bytes, long offset,
                             Read... read) {
    if constexpr (sizeof...(Read) == sizeof...(Parameters)) {
        kernel(read...);
    } else {
        using Next = typename Nth<sizeof...(Read), Parameters...>::type;
        long start = round_up(offset, alignof(Next));
        Next next;
        __builtin_memcpy(&next, bytes + start, sizeof(Next));
        call_with(kernel, bytes, start + sizeof(Next), read..., next);
    }
}

template <auto kernel>
struct Entry;

template <class... Parameters, void (*kernel)(Parameters...)>
struct Entry<kernel> {
    static constexpr long argument_bytes =
        end_of_parameters(0, static_cast<Parameters*>(nullptr)...);

    EMU_UNCHECKED static void call(const void* argument) {
        call_with(kernel, static_cast<const unsigned char*>(argument), 0);
    }
};

// __launch_bounds__(threads, blocks per multiprocessor): only the first concerns a launch.
constexpr long max_threads() { return 1024; }
template <class... Rest>
constexpr long max_threads(long threads, Rest...) {
    return threads;
}

}  // namespace emu

#define EMU_TEXT_OF_EXPANDED(name) #name
#define EMU_TEXT_OF(name) EMU_TEXT_OF_EXPANDED(name)
#define EMU_ENTRY(kernel, ...)                                                           \
    {EMU_TEXT_OF(kernel), &emu::Entry<kernel>::call, emu::Entry<kernel>::argument_bytes, \
     emu::max_threads(__VA_ARGS__)}
