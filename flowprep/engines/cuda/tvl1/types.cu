// TV-L1 on a GPU: the algorithm of reference.py, with its names, for a batch of pairs at a time.
//
// First the steps of a single pixel, then the kernels. A kernel gets all that it needs in one record, which
// cuda.py fills: its fields there and here must stay alike.
//
// The kernel `iterate` is where the time goes. A block of threads has a strip of columns, one each, and moves
// down the rows. It does STAGES iterations on its way: stage k works two rows behind stage k - 1, takes what
// that one left in registers two rows ago, and sees its neighbours' last row in shared memory. So there is one
// barrier a row, a row is read and written once for STAGES iterations, and only the columns at the inner edges
// of a strip, STAGES on each side, are computed twice.
//
// Every sum is made in a fixed order, and no pixel's arithmetic depends on where a strip begins: results do not
// depend on the batch.
//
// cuda.py puts compile-time options before all this:
//   STAGES, THREADS, BLOCKS   iterations a sweep, columns a strip at most, blocks a multiprocessor at least
//   STOPPING, SPLINE, MASK    0 or 1: settings that change code
//   MEDIAN, WEIGHTED          side of the median; 0 or 1
//   SORT, SELECT, MIDDLE      networks of a plain median, and where the last one leaves it: see networks.py
//   BOUNDS                    1 checks every index
// and constants: PIXELS, MEDIAN_THREADS, MEDIAN_ROWS, LONGEST_TAPS, CUBIC_A, TINY_GRADIENT.

#ifndef KERNEL  // tests that run kernels on the host define their own
#define KERNEL(name, Record) extern "C" __global__ void name(const Record r)
#define KERNEL_BOUNDED(name, Record) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) name(const Record r)
#define DYNAMIC_SHARED(name, bytes) extern __shared__ float4 name[]
#define OUT_OF_BOUNDS(index, size)                                                                     \
    (printf("index %lld of %lld in block (%d, %d) thread %d\n", index, size, blockIdx.x, blockIdx.y,  \
            threadIdx.x),                                                                              \
     __trap())
#endif

#define BOTH __host__ __device__ __forceinline__

typedef unsigned char byte;

#define RUNNING 0x7fffffff  // Pair::stopped of a pair whose iterations go on
#define HALVINGS 10         // of the interval in which a weighted median is sought

// An array and its length. All indexing goes through here.
template <class T>
struct Span {
    T* data;
    long long size;

    BOTH T& operator[](long long i) const {
#if BOUNDS
        if (i < 0 || i >= size) OUT_OF_BOUNDS(i, size);
#endif
        return data[i];
    }
    // The part of `length` elements, the `number`th of its kind.
    BOTH Span part(long long number, long long length) const {
#if BOUNDS
        if (number < 0 || (number + 1) * length > size) OUT_OF_BOUNDS((number + 1) * length, size);
#endif
        Span found = {data + number * length, length};
        return found;
    }
};

// ---- Records ----------------------------------------------------------------------------------------------

// Where the solver stands with a pair.
struct Pair {
    int u_at, p_at;  // which of the two halves of u and of p are valid
    int stopped;     // the block of iterations in which the stopping test held, or RUNNING
    int redo;        // iterations after which it held, if those after them must be taken back; else 0
    int arrived;     // blocks of threads that are done with the pair in this launch
};

// Frames on their way to a pyramid. Planes are (frames, height, width).
struct Frames {
    Span<byte> bytes;
    Span<float> in;
    Span<float> out;
    Span<float4> texels;                // I1, dI1/dx, dI1/dy, 0
    Span<float2> p_in, p_out;           // the structure's dual variable
    Span<int> columns, rows;            // of a smaller level: the pixel before each sample ...
    Span<float> column_weights, row_weights;  // ... and the weight of the next one
    int height, width;
    int new_height, new_width;
    int reach;
    int fresh;  // the structure's dual variable is still 0
    float taut, theta, share;
    float taps[LONGEST_TAPS + 1];
};

// A pyramid level of a batch of pairs. Planes of pairs are `plane` long, whatever the level.
struct Level {
    Span<float> images;        // (frames, height, width)
    Span<float> samples;       // a spline's coefficients, likewise
    Span<float4> texels;       // or texels, likewise
    Span<int> first, second;   // frames of each pair
    Span<float2> u;            // (2, pairs, plane)
    Span<float4> p;            // (2, pairs, plane): p11, p12, p21, p22
    Span<float4> constants;    // (pairs, plane): dI1/dx, dI1/dy, rho without u, -1 / |grad|^2
    Span<Pair> pairs;
    Span<float> updates;       // (pairs, tiles, STAGES): sums of squared updates
    Span<float> flow;          // (pairs, 2, height, width)
    Span<int> columns, rows;   // of the next finer level, as in Frames
    Span<float> column_weights, row_weights;
    long long plane;
    int count;                 // pairs
    int height, width;
    int coarse_height, coarse_width;
    int strip, strips;         // columns that a block of threads answers for; how many such
    int band, bands;           // rows, likewise
    int iterations;            // of this sweep
    int block;                 // number of the block of iterations
    float taut, lt, theta;     // tau / theta, lambda theta, theta
    float stop;                // sum of squared updates at which iterations stop
    float zoom;                // of the flow from a coarser level
    float blend;
    float fade;                // of the weighted median: 1 / (8 grey^2)
};
