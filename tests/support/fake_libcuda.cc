// A libcuda.so.1 with fake GPUs: the functions that driver.py calls. Environment variables:
//   FAKE_CUDA_KERNELS   path of a library with the kernels, compiled by cuda_host.py
//   FAKE_CUDA_GPUS      number of GPUs; 1 by default
//   FAKE_CUDA_BROKEN    name of a kernel whose launches fail
//   FAKE_CUDA_LOST      number of a GPU on which all launches fail
//   FAKE_CUDA_LOG       a file: each process appends the numbers of its launches and graphs, and its GPU

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <string>
#include <vector>

typedef int R;  // CUresult
enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

static std::mutex guard;
static thread_local void* current;
static int launches, graph_launches;
static long used;

struct Node {
    std::string kernel;
    unsigned blocks, planes, threads, shared;
    std::vector<char> arguments;
};
struct Graph {
    std::vector<Node> nodes;
};
struct Stream {
    Graph* capturing = nullptr;
};
struct Module {
    void* library;
};
struct Function {
    Module* module;
    std::string name;
};

static int gpus() {
    const char* text = getenv("FAKE_CUDA_GPUS");
    return text ? atoi(text) : 1;
}

static R execute(const Module* module, const Node& n) {
    const char *broken = getenv("FAKE_CUDA_BROKEN"), *lost = getenv("FAKE_CUDA_LOST");
    if (broken && n.kernel == broken) return LAUNCH_FAILED;
    if (lost && (long)current == atoi(lost) + 1) return LAUNCH_FAILED;
    typedef const char* (*Run)(const char*, int, int, int, long, const void*, long, unsigned);
    const Run run = (Run)dlsym(module->library, "run_kernel");
    const std::lock_guard<std::mutex> lock(guard);  // the library has one set of fibers
    const char* failed =
        run(n.kernel.c_str(), n.blocks, n.planes, n.threads, n.shared, n.arguments.data(), n.arguments.size(), 0);
    if (failed) fprintf(stderr, "%s: %s\n", n.kernel.c_str(), failed);
    return failed ? LAUNCH_FAILED : OK;
}

static Module* only_module;

extern "C" {

R cuInit(unsigned) { return gpus() ? OK : NO_DEVICE; }
R cuDriverGetVersion(int* version) { return *version = 13000, OK; }
R cuDeviceGetCount(int* count) { return *count = gpus(), OK; }
R cuDeviceGet(int* device, int number) { return *device = number, number < gpus() ? OK : INVALID; }
R cuDeviceGetName(char* name, int length, int device) {
    return snprintf(name, length, "Fake GPU %d", device), OK;
}
R cuDeviceTotalMem(size_t* bytes, int) { return *bytes = 1ul << 32, OK; }
R cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 13: return *value = 1500000, OK;  // CLOCK_RATE
        case 16: return *value = 4, OK;        // MULTIPROCESSOR_COUNT
        case 75: return *value = 9, OK;        // COMPUTE_CAPABILITY_MAJOR
        case 76: return *value = 0, OK;        // COMPUTE_CAPABILITY_MINOR
        case 97: return *value = 232448, OK;   // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    }
    return INVALID;
}
R cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)(long)(device + 1), OK; }
R cuDevicePrimaryCtxReset(int) { return OK; }
R cuCtxSetCurrent(void* context) { return current = context, OK; }
R cuMemGetInfo(size_t* free, size_t* total) { return *free = *total = 1ul << 30, OK; }
R cuMemAlloc(void** address, size_t size) {
    if (!current) return INVALID;
    if (size > 1ul << 30) return OUT_OF_MEMORY;
    return *address = aligned_alloc(256, (size + 255) / 256 * 256), OK;
}
R cuMemFree(void* address) { return free(address), OK; }
R cuMemHostAlloc(void** address, size_t size, unsigned) { return *address = malloc(size), OK; }
R cuMemFreeHost(void* address) { return free(address), OK; }

R cuModuleLoadData(Module** module, const char* image) {
    if (memcmp(image, "\x7f" "ELF", 4)) return INVALID;
    void* library = dlopen(getenv("FAKE_CUDA_KERNELS"), RTLD_NOW | RTLD_LOCAL);
    if (!library) return INVALID;
    return *module = only_module = new Module{library}, OK;
}
R cuModuleGetFunction(Function** function, Module* module, const char* name) {
    return *function = new Function{module, name}, OK;
}
R cuFuncSetAttribute(Function*, int attribute, int value) {
    return (attribute == 8 && value <= 232448) || (attribute == 9 && value == 100) ? OK : INVALID;
}

R cuStreamCreate(Stream** stream, unsigned flags) { return *stream = new Stream, flags == 1 ? OK : INVALID; }
R cuMemcpyHtoDAsync(void* to, const void* from, size_t size, Stream*) { return memcpy(to, from, size), OK; }
R cuMemcpyDtoHAsync(void* to, const void* from, size_t size, Stream*) { return memcpy(to, from, size), OK; }
R cuEventCreate(void** event, unsigned) { return *event = malloc(1), OK; }
R cuEventRecord(void* event, Stream*) { return event ? OK : INVALID; }
R cuEventSynchronize(void* event) { return event ? OK : INVALID; }
R cuEventElapsedTime(float* ms, void* a, void* b) { return *ms = 1, a && b ? OK : INVALID; }
R cuEventDestroy(void* event) { return free(event), OK; }

R cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                 unsigned shared, Stream* stream, void** values, void** extra) {
    typedef long (*Bytes)(const char*);
    const long size = ((Bytes)dlsym(f->module->library, "argument_bytes"))(f->name.c_str());
    if (!size || gz != 1 || by != 1 || bz != 1 || extra || !current) return INVALID;
    const char* arguments = (const char*)values[0];
    const Node node = {f->name, gx, gy, bx, shared, std::vector<char>(arguments, arguments + size)};
    if (stream->capturing) return stream->capturing->nodes.push_back(node), OK;
    ++launches;
    used = (long)current - 1;
    return execute(f->module, node);
}
R cuStreamBeginCapture(Stream* stream, int) { return stream->capturing = new Graph, OK; }
R cuStreamEndCapture(Stream* stream, Graph** graph) {
    return *graph = stream->capturing, stream->capturing = nullptr, OK;
}
R cuGraphInstantiateWithFlags(Graph** ready, Graph* graph, unsigned long long) {
    return *ready = new Graph(*graph), OK;
}
R cuGraphDestroy(Graph* graph) { return delete graph, OK; }
R cuGraphExecDestroy(Graph* graph) { return delete graph, OK; }
R cuGraphLaunch(Graph* graph, Stream*) {
    ++graph_launches;
    for (const Node& node : graph->nodes)
        if (R failed = execute(only_module, node)) return failed;
    return OK;
}
R cuGetErrorName(R error, const char** name) { return *name = error ? "CUDA_ERROR" : "CUDA_SUCCESS", OK; }

R cuGetProcAddress_v2(const char* name, void** found, int, unsigned long long, int* status) {
    static void* self = nullptr;
    if (!self) {
        Dl_info info;
        dladdr((void*)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW);
    }
    *found = dlsym(self, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? OK : NOT_FOUND;
}
R cuGetProcAddress(const char* name, void** found, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, found, version, flags, nullptr);
}

__attribute__((destructor)) static void report() {
    const char* path = getenv("FAKE_CUDA_LOG");
    FILE* file = path ? fopen(path, "a") : nullptr;
    if (!file || !launches) return;
    fprintf(file, "GPU %ld: %d launches, %d graphs\n", used, launches, graph_launches);
    fclose(file);
}

}  // extern "C"
