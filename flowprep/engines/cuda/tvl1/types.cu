// TV-L1 on a GPU: the algorithm of reference.py, with its symbols, for a batch of pairs.
//
// kernels.py joins the files of this folder to one source: types, the steps of a single pixel, kernels of
// frames, kernels of pairs. A kernel has one argument, a struct. The fields of a struct must be the same here
// and in kernels.py.
//
// Every sum has a fixed order, and the arithmetic of a pixel does not depend on the place of a strip. So
// results do not depend on the batch.
//
// kernels.py writes compile-time options before this text:
//   STAGES, THREADS, BLOCKS   iterations of a sweep, most threads of a block, fewest blocks of a multiprocessor
//   STOPPING, SPLINE, MASK, COUPLED, HUBER, EDGE, KEEP_DUAL, STILL, SETTLE   0 or 1: settings that change code
//   PLAIN, WEIGHTED           side of the plain median and of the weighted one; 0 for none
//   STRIDE, OCCLUSION         of the weighted median: distance of its pixels; 0 or 1
//   SORT, SELECT, MIDDLE      networks of a plain median, and the place of the result: see networks.py
//   BOUNDS                    1 checks every index
// and constants: PIXELS, MEDIAN_THREADS, MEDIAN_ROWS, LONGEST_TAPS, CUBIC_A, TINY_GRADIENT, LEAST_VISIBLE, and
// those of tiles.py.

#ifndef KERNEL  // the tests define other macros, to run kernels on the host
#define KERNEL(name, Arguments) extern "C" __global__ void name(const Arguments r)
#define KERNEL_BOUNDED(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) name(const Arguments r)
#define DYNAMIC_SHARED(name, bytes) extern __shared__ float4 name[]
#define OUT_OF_BOUNDS(index, size)                                                                     \
    (printf("index %lld of %lld in block (%d, %d) thread %d\n", index, size, blockIdx.x, blockIdx.y,  \
            threadIdx.x),                                                                              \
     __trap())
#endif

#define BOTH __host__ __device__ __forceinline__

typedef unsigned char byte;

#define TILED (STILL || SETTLE)
#define RUNNING 0x7fffffff  // PairState::stopped of a pair whose iterations continue
#define HALVINGS 10         // of the interval that contains a weighted median

// An array and its length. All indexing uses it.
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
    // Part `number` of an array that consists of parts of `length` elements.
    BOTH Span part(long long number, long long length) const {
#if BOUNDS
        if (number < 0 || (number + 1) * length > size) OUT_OF_BOUNDS((number + 1) * length, size);
#endif
        Span part = {data + number * length, length};
        return part;
    }
};

// ---- Arguments of the kernels -----------------------------------------------------------------------------

// The state of the solver for one pair.
struct PairState {
    int u_at, p_at;  // the valid half of u, and of p: 0 or 1
    int stopped;     // the block of iterations in which the stopping test held, or RUNNING
    int redo;        // the iteration in which it held, if later ones must be undone; otherwise 0
    int arrived;     // thread blocks that have finished the pair in this launch
};

// The argument of the kernels of frames. Planes are (frames, height, width).
struct FrameArguments {
    Span<byte> bytes;
    Span<float> in;
    Span<float> out;
    Span<float4> texels;                // I1, dI1/dx, dI1/dy, 0
    Span<float2> p_in, p_out;           // the structure's dual variable
    Span<int> columns, rows;            // of a smaller level: the left or upper pixel of each sample ...
    Span<float> column_weights, row_weights;  // ... and the weight of the other pixel
    int height, width;
    int new_height, new_width;
    int reach;
    int fresh;  // 1 in the first iteration: the structure's dual variable is 0
    float taut, theta, share;
    float edge, edge_least;  // steepness of the regulariser's weight (edge / 32), and the least weight
    float taps[LONGEST_TAPS + 1];
};

// The argument of the kernels of pairs, for one pyramid level. A plane of a pair has `plane` elements at every
// level.
struct LevelArguments {
    Span<float> images;        // (frames, height, width)
    Span<float> samples;       // coefficients of a spline (frames, height, width)
    Span<float4> texels;       // or texels (frames, height, width)
    Span<int> first, second;   // frames of each pair
    Span<float2> u;            // (2, pairs, plane)
    Span<float4> p;            // (2, pairs, plane): p11, p12, p21, p22
    Span<float4> constants;    // (pairs, plane): dI1/dx, dI1/dy, rho without its part in u, -1 / |grad|^2
    Span<PairState> pairs;
    Span<float> edges;         // (frames, height, width): tau / (theta g), g the weight of the regulariser
    Span<float> updates;       // (pairs, tiles, STAGES): sums of squared updates
    Span<float> mismatch;      // (pairs, plane): warped second image less the first one, for OCCLUSION
    Span<byte> tiles;          // (pairs, tile rows, tile columns): not 0 where something may move, for STILL
    Span<byte> fine_tiles;     // `tiles` of the finest level
    Span<byte> working;        // like `tiles`: not 0 where the next iterations work; empty for everywhere
    Span<byte> restless;       // like `tiles`: not 0 where the last update was large, for SETTLE
    Span<float> tile_updates;  // (pairs, tile rows, width): sums of squared updates in a column of a tile
    Span<float> flow;          // (pairs, 2, height, width)
    Span<int> columns, rows;   // of the next finer level, as in FrameArguments
    Span<float> column_weights, row_weights;
    long long plane;
    int count;                 // pairs
    int height, width;
    int coarse_height, coarse_width;
    int fine_height, fine_width;  // of the finest level
    int strip, strips;         // columns of a strip, number of strips
    int band, bands;           // rows of a band, number of bands
    int iterations;            // of this sweep
    int block;                 // number of the block of iterations
    float taut, lt, theta;     // tau / theta, lambda theta, theta
    float stop;                // sum of squared updates at which iterations stop
    float zoom;                // factor of the flow of the next coarser level
    float blend;
    float huber;
    float fade;                // of the weighted median: 1 / (8 grey^2)
    float occlusion_fade;      // the same, for the mismatch
    float still;               // grey levels
    float settle;              // mean squared update above which a tile is restless
};
