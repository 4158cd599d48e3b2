// Enough of CUDA to run the kernels of engine cuda with a host compiler. The threads of a block are fibers that
// take turns and change at barriers. Blocks run one after the other.
//
// Faults that a GPU ignores, or shows at random, are errors here. `seed` shuffles the order of the threads
// between barriers, which shows a missing barrier. Shared memory starts as NaN, which shows values that are read
// before they are written. Indices are checked (BOUNDS). It is an error if only some threads of a block reach a
// barrier.

// The fortified longjmp reports a jump to another fiber as a fault.
#undef _FORTIFY_SOURCE

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#define __host__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define KERNEL(name, Arguments)                                                                   \
    static void name(const Arguments r);                                                          \
    static const host::Registered registered_##name(                                           \
        #name, sizeof(Arguments), [](const void* r) { name(*static_cast<const Arguments*>(r)); });   \
    static void name(const Arguments r)
#define KERNEL_BOUNDED(name, Arguments) KERNEL(name, Arguments)
#define DYNAMIC_SHARED(name, bytes) float4* name = host::dynamic_shared(bytes)
#define OUT_OF_BOUNDS(index, size)                                                             \
    host::fail("index %lld of %lld in block (%d, %d) thread %d", (long long)(index),           \
               (long long)(size), blockIdx.x, blockIdx.y, threadIdx.x)

struct float2 {
    float x, y;
};
struct float3 {
    float x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct int2 {
    int x, y;
};
struct dim {
    int x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::max;
using std::min;

static dim gridDim, blockDim, blockIdx, threadIdx;

namespace host {

using Call = void (*)(const void*);
struct Kernel {
    size_t bytes;
    Call call;
};
static std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
struct Registered {
    Registered(const char* name, size_t bytes, Call call) { kernels()[name] = {bytes, call}; }
};

struct Fiber {
    jmp_buf here;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool started = false;  // `here` is valid
    bool done = false;     // the thread has finished the kernel for this block
};
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static Fiber* running;
static std::string error;
static float4* shared_memory;
static size_t shared_bytes;
static Call call;
static const void* arguments;

static void fail(const char* format, ...) {
    char text[200];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (error.empty()) error = text;
    _longjmp(scheduler, 1);  // the fiber is abandoned
}

static float4* dynamic_shared(size_t bytes) {
    if (bytes > shared_bytes) fail("%zu bytes of shared memory, not %zu, are used", bytes, shared_bytes);
    return shared_memory;
}

// Fibers are made once and switched by longjmp. swapcontext would need two system calls.
static void pause() {
    if (!_setjmp(running->here)) _longjmp(scheduler, 1);
}

static void start() {
    for (;;) {
        call(arguments);
        running->done = true;
        pause();
    }
}

__attribute__((noinline)) static void resume(Fiber& fiber) {
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.here, 1);
    fiber.started = true;
    static ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, start, 0);
    setcontext(&context);
}

static void run_block(int threads, std::mt19937* random) {
    if ((int)fibers.size() < threads) fibers = std::vector<Fiber>(threads);
    std::vector<int> order(threads);
    for (int i = 0; i < threads; ++i) {
        order[i] = i;
        fibers[i].done = false;
    }
    for (int left = threads; left;) {
        if (random) std::shuffle(order.begin(), order.end(), *random);
        int ended = 0;
        for (int i : order) {
            if (fibers[i].done) continue;
            threadIdx = {i, 0};
            resume(fibers[i]);
            if (!error.empty()) return;
            ended += running->done;
        }
        if (ended && ended != left && error.empty()) {
            error = "some threads of a block ended while others wait at a barrier";
            return;
        }
        left -= ended;
    }
}

}  // namespace host

inline void __syncthreads() {
    const dim me = threadIdx;
    host::pause();
    threadIdx = me;
}
inline void __threadfence() {}
inline int atomicAdd(int* at, int value) {
    const int before = *at;
    *at += value;
    return before;
}

// Runs a kernel, and returns null or an error message. With seed 0, threads run in order.
extern "C" const char* run_kernel(const char* name, int grid_x, int grid_y, int threads, long shared,
                                  const void* arguments, long argument_bytes, unsigned seed) {
    using namespace host;
    error.clear();
    const auto entry = kernels().find(name);
    if (entry == kernels().end()) return "there is no such kernel";
    if ((size_t)argument_bytes != entry->second.bytes) return "its argument has another size";
    call = entry->second.call;
    host::arguments = arguments;
    std::vector<float4> memory(shared / sizeof(float4) + 1);
    shared_memory = memory.data();
    shared_bytes = shared;
    std::mt19937 random(seed);
    gridDim = {grid_x, grid_y};
    blockDim = {threads, 1};
    for (int y = 0; y < grid_y; ++y) {
        for (int x = 0; x < grid_x; ++x) {
            blockIdx = {x, y};
            std::fill(memory.begin(), memory.end(), float4{NAN, NAN, NAN, NAN});
            run_block(threads, seed ? &random : nullptr);
            if (!error.empty()) {
                fibers.clear();  // others still wait at a barrier of this block
                return error.c_str();
            }
        }
    }
    return nullptr;
}

// The size of a kernel's argument, or 0 if there is no such kernel.
extern "C" long argument_bytes(const char* name) {
    const auto entry = host::kernels().find(name);
    return entry == host::kernels().end() ? 0 : (long)entry->second.bytes;
}
