// The runtime is compiled as one file: the compiler then sees through the calls between its parts.
#include "async_copy.cpp"
#include "context.cpp"
#include "faults.cpp"
#include "launch.cpp"
#include "scheduler.cpp"
#include "warp.cpp"
#ifdef EMU_CHECKED
#include "checker.cpp"
#include "hooks.cpp"
#include "regions.cpp"
#endif
