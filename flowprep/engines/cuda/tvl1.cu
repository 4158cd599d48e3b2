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

// ---- Steps of a pixel -------------------------------------------------------------------------------------

BOTH int clamped(int i, int size) { return i < 0 ? 0 : (i < size ? i : size - 1); }

// Beyond the border: mirrored, the border pixel not repeated.
BOTH int mirrored(int i, int size) {
    i = i < 0 ? -i : i;
    return i < size ? i : 2 * (size - 1) - i;
}

BOTH float mix(float a, float b, float weight) { return a * (1.0f - weight) + b * weight; }

// The primal step: u of the next iteration. `left` and `above` are (p11, p21) and (p12, p22) of those pixels.
BOTH float2 primal(float2 u, float4 p, float2 left, float2 above, float4 c, float lt, float theta) {
    const float rho = fmaf(c.x, u.x, fmaf(c.y, u.y, c.z));
    const float step = fminf(fmaxf(rho * c.w, -lt), lt);
    const float div1 = (p.x - left.x) + (p.y - above.x);
    const float div2 = (p.z - left.y) + (p.w - above.y);
    return make_float2(fmaf(theta, div1, fmaf(step, c.x, u.x)), fmaf(theta, div2, fmaf(step, c.y, u.y)));
}

// (p + taut grad) / (1 + taut |grad|), for both parts of one component.
BOTH float2 projected(float px, float py, float ux, float uy, float taut) {
    const float norm = sqrtf(fmaf(ux, ux, uy * uy));
    const float shrink = 1.0f / fmaf(taut, norm, 1.0f);
    return make_float2(fmaf(taut, ux, px) * shrink, fmaf(taut, uy, py) * shrink);
}

// The dual step: p of the next iteration, from the new u here, to the right and below.
BOTH float4 dual(float4 p, float2 u, float2 right, float2 below, float taut) {
    const float2 p1 = projected(p.x, p.y, right.x - u.x, below.x - u.x, taut);
    const float2 p2 = projected(p.z, p.w, right.y - u.y, below.y - u.y, taut);
    return make_float4(p1.x, p1.y, p2.x, p2.y);
}

struct Weights {
    float w[4];
};

// Cubic convolution (Keys 1981): weights of the pixels at -1, 0, 1, 2 for a sample at t in [0, 1).
BOTH Weights cubic_weights(float t) {
    const float a = CUBIC_A, r = 1.0f - t;
    Weights s;
    s.w[0] = a * t * r * r;
    s.w[1] = fmaf((a + 2.0f) * t - (a + 3.0f), t * t, 1.0f);
    s.w[3] = a * t * t * r;
    s.w[2] = 1.0f - s.w[0] - s.w[1] - s.w[3];
    return s;
}

// Cubic B-spline, for a sample at t in [0, 1] ...
BOTH Weights spline_weights(float t) {
    const float r = 1.0f - t, sixth = 1.0f / 6.0f, two_thirds = 2.0f / 3.0f;
    Weights s = {{r * r * r * sixth, two_thirds - t * t * (0.5f + 0.5f * r),
                  two_thirds - r * r * (0.5f + 0.5f * t), t * t * t * sixth}};
    return s;
}

// ... and the derivatives.
BOTH Weights spline_slopes(float t) {
    const float r = 1.0f - t;
    Weights s = {{-0.5f * r * r, t * (1.5f * t - 2.0f), r * (2.0f - 1.5f * r), 0.5f * t * t}};
    return s;
}

// I1 and its gradient (x, y) at (x, y), through cubic convolution; 0 outside.
BOTH float3 cubic_sample(const Span<float4>& texels, int height, int width, float x, float y) {
    const float column = floorf(x), row = floorf(y);
    const Weights along = cubic_weights(x - column), down = cubic_weights(y - row);
    // Four taps that all lie outside give 0 wherever they are.
    const int left = (int)fminf(fmaxf(column, -3.0f), width + 1.0f) - 1;
    const int top = (int)fminf(fmaxf(row, -3.0f), height + 1.0f) - 1;
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at_x = left + i, at_y = top + j;
            if (at_x < 0 || at_x >= width || at_y < 0 || at_y >= height) continue;
            const float4 texel = texels[at_y * width + at_x];
            const float weight = down.w[j] * along.w[i];
            sum.x = fmaf(weight, texel.x, sum.x);
            sum.y = fmaf(weight, texel.y, sum.y);
            sum.z = fmaf(weight, texel.z, sum.z);
        }
    }
    return sum;
}

// The same through a cubic B-spline of these coefficients; the border pixel outside.
BOTH float3 spline_sample(const Span<float>& coefficients, int height, int width, float x, float y) {
    x = fminf(fmaxf(x, 0.0f), width - 1.0f);
    y = fminf(fmaxf(y, 0.0f), height - 1.0f);
    const float column = floorf(x), row = floorf(y);
    const Weights along = spline_weights(x - column), along_slope = spline_slopes(x - column);
    const Weights down = spline_weights(y - row), down_slope = spline_slopes(y - row);
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int line = mirrored((int)row - 1 + j, height) * width;
        float value = 0.0f, slope = 0.0f;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float c = coefficients[line + mirrored((int)column - 1 + i, width)];
            value = fmaf(along.w[i], c, value);
            slope = fmaf(along_slope.w[i], c, slope);
        }
        sum.x = fmaf(down.w[j], value, sum.x);
        sum.y = fmaf(down.w[j], slope, sum.y);
        sum.z = fmaf(down_slope.w[j], value, sum.z);
    }
    return sum;
}

// Half of the difference of the two neighbours; beyond the border the border pixel repeats.
BOTH float2 centred_gradient(const Span<float>& image, int height, int width, int y, int x) {
    const float along =
        image[y * width + clamped(x + 1, width)] - image[y * width + clamped(x - 1, width)];
    const float down =
        image[clamped(y + 1, height) * width + x] - image[clamped(y - 1, height) * width + x];
    return make_float2(0.5f * along, 0.5f * down);
}

// What the iterations of a warp need of a pixel: the gradient, rho without u, and -1 / |grad|^2.
BOTH float4 linearised(float3 warped, float2 u, float i0, bool no_data) {
    const float ix = no_data ? 0.0f : warped.y, iy = no_data ? 0.0f : warped.z;
    const float square = ix * ix + iy * iy;
    const float rho = warped.x - ix * u.x - iy * u.y - i0;
    return make_float4(ix, iy, rho, square > TINY_GRADIENT ? -1.0f / square : 0.0f);
}

// The structure's value: image + theta div p.
BOTH float structured(const Frames& r, const Span<float>& image, const Span<float2>& p, int y, int x) {
    const int at = y * r.width + x;
    if (r.fresh) return image[at];
    const float2 here = p[at];
    const float left = x > 0 ? p[at - 1].x : 0.0f, above = y > 0 ? p[at - r.width].y : 0.0f;
    return fmaf(r.theta, (here.x - left) + (here.y - above), image[at]);
}


// How much a pixel counts in a weighted median, by its difference from the middle one: (1 - d^2 / 8)^4.
BOTH float likeness(float difference, float fade) {
    const float near = fmaxf(1.0f - difference * difference * fade, 0.0f);
    return (near * near) * (near * near);
}

// ---- Kernels of frames: a block of threads has PIXELS pixels (blockIdx.x) of a frame (blockIdx.y) ---------

// The pixel of this thread: its frame's or pair's number, and its place.
struct Place {
    int number, at, y, x;
    bool inside;
};

__device__ __forceinline__ Place place(int height, int width) {
    Place here;
    here.number = blockIdx.y;
    here.at = blockIdx.x * PIXELS + threadIdx.x;
    here.y = here.at / width;
    here.x = here.at - here.y * width;
    here.inside = here.at < height * width;
    return here;
}

KERNEL(widen, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const long long area = (long long)r.height * r.width;
    r.out.part(i.number, area)[i.at] = r.bytes.part(i.number, area)[i.at];
}

// Convolve with taps, the weights at 0, 1, ... to each side; the border is mirrored.
KERNEL(filter_down, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    float sum = r.taps[0] * in[i.at];
    for (int k = 1; k <= r.reach; ++k)
        sum += r.taps[k] * (in[mirrored(i.y - k, r.height) * r.width + i.x] +
                            in[mirrored(i.y + k, r.height) * r.width + i.x]);
    r.out.part(i.number, in.size)[i.at] = sum;
}

KERNEL(filter_along, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const int row = i.at - i.x;
    float sum = r.taps[0] * in[i.at];
    for (int k = 1; k <= r.reach; ++k)
        sum += r.taps[k] * (in[row + mirrored(i.x - k, r.width)] + in[row + mirrored(i.x + k, r.width)]);
    r.out.part(i.number, in.size)[i.at] = sum;
}

// An iteration of the structure: of its dual variable.
KERNEL(structure_step, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> image = r.in.part(i.number, (long long)r.height * r.width);
    const Span<float2> p = r.p_in.part(i.number, image.size);
    const float s = structured(r, image, p, i.y, i.x);
    const float sx = i.x + 1 < r.width ? structured(r, image, p, i.y, i.x + 1) - s : 0.0f;
    const float sy = i.y + 1 < r.height ? structured(r, image, p, i.y + 1, i.x) - s : 0.0f;
    const float2 before = r.fresh ? make_float2(0.0f, 0.0f) : p[i.at];
    r.p_out.part(i.number, image.size)[i.at] = projected(before.x, before.y, sx, sy, r.taut);
}

KERNEL(remove_structure, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> image = r.in.part(i.number, (long long)r.height * r.width);
    const float s = structured(r, image, r.p_in.part(i.number, image.size), i.y, i.x);
    r.out.part(i.number, image.size)[i.at] = image[i.at] - r.share * s;
}

// Bilinear, to a smaller level.
KERNEL(shrink, Frames) {
    const Place i = place(r.new_height, r.new_width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const int left = r.columns[i.x], right = min(left + 1, r.width - 1);
    const int upper = r.rows[i.y] * r.width, lower = min(r.rows[i.y] + 1, r.height - 1) * r.width;
    const float along = r.column_weights[i.x], down = r.row_weights[i.y];
    r.out.part(i.number, (long long)r.new_height * r.new_width)[i.at] = mix(
        mix(in[upper + left], in[upper + right], along), mix(in[lower + left], in[lower + right], along), down);
}

// Lay an image and its gradient side by side, so that a cubic warp reads them together.
KERNEL(make_texels, Frames) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const float2 gradient = centred_gradient(in, r.height, r.width, i.y, i.x);
    r.texels.part(i.number, in.size)[i.at] = make_float4(in[i.at], gradient.x, gradient.y, 0.0f);
}

// ---- Kernels of pairs: blockIdx.y is the pair -------------------------------------------------------------

__device__ __forceinline__ Span<float2> flow_of(const Level& r, int half, int pair) {
    return r.u.part((long long)half * r.count + pair, r.plane);
}

__device__ __forceinline__ Span<float4> duals_of(const Level& r, int half, int pair) {
    return r.p.part((long long)half * r.count + pair, r.plane);
}

// Whether this block of threads is the last one of the pair: then all others have read what they need of the
// pair's state, and what they wrote is there to be read. For all threads of the block.
__device__ __forceinline__ bool last_of_pair(Pair& pair) {
    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(&pair.arrived, 1) == (int)gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// Flow and dual variables start at 0, at the coarsest level.
KERNEL(begin, Level) {
    const Place i = place(r.height, r.width);
    if (i.at == 0) {
        const Pair fresh = {0, 0, RUNNING, 0, 0};
        r.pairs[i.number] = fresh;
    }
    if (!i.inside) return;
    flow_of(r, 0, i.number)[i.at] = make_float2(0.0f, 0.0f);
    duals_of(r, 0, i.number)[i.at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// To the next finer level: the flow is resized, bilinear, and the dual variables start at 0 again.
KERNEL(grow, Level) {
    const Place i = place(r.height, r.width);
    Pair& pair = r.pairs[i.number];
    if (i.inside) {
        const Span<float2> in = flow_of(r, pair.u_at, i.number);
        const int left = r.columns[i.x], right = min(left + 1, r.coarse_width - 1);
        const int upper = r.rows[i.y] * r.coarse_width;
        const int lower = min(r.rows[i.y] + 1, r.coarse_height - 1) * r.coarse_width;
        const float along = r.column_weights[i.x], down = r.row_weights[i.y];
        const float2 a = in[upper + left], b = in[upper + right], c = in[lower + left], d = in[lower + right];
        flow_of(r, 1 - pair.u_at, i.number)[i.at] =
            make_float2(r.zoom * mix(mix(a.x, b.x, along), mix(c.x, d.x, along), down),
                        r.zoom * mix(mix(a.y, b.y, along), mix(c.y, d.y, along), down));
        duals_of(r, pair.p_at, i.number)[i.at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    if (last_of_pair(pair) && threadIdx.x == 0) {
        pair.u_at = 1 - pair.u_at;
        pair.arrived = 0;
    }
}

KERNEL(warp, Level) {
    const Place i = place(r.height, r.width);
    if (i.at == 0) r.pairs[i.number].stopped = RUNNING;
    if (!i.inside) return;
    const long long area = (long long)r.height * r.width;
    const float2 u = flow_of(r, r.pairs[i.number].u_at, i.number)[i.at];
    const float x = i.x + u.x, y = i.y + u.y;
#if SPLINE
    float3 warped = spline_sample(r.samples.part(r.second[i.number], area), r.height, r.width, x, y);
#else
    float3 warped = cubic_sample(r.texels.part(r.second[i.number], area), r.height, r.width, x, y);
#endif
    const Span<float> i0 = r.images.part(r.first[i.number], area);
    if (r.blend > 0.0f) {
        const float2 gradient = centred_gradient(i0, r.height, r.width, i.y, i.x);
        warped.y = mix(warped.y, gradient.x, r.blend);
        warped.z = mix(warped.z, gradient.y, r.blend);
    }
    const bool outside = x < 0.0f || x > r.width - 1 || y < 0.0f || y > r.height - 1;
    r.constants.part(i.number, r.plane)[i.at] = linearised(warped, u, i0[i.at], MASK && outside);
}

KERNEL(finish, Level) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const long long area = (long long)r.height * r.width;
    const float2 u = flow_of(r, r.pairs[i.number].u_at, i.number)[i.at];
    r.flow.part(2 * i.number, area)[i.at] = u.x;
    r.flow.part(2 * i.number + 1, area)[i.at] = u.y;
}

// ---- The median -------------------------------------------------------------------------------------------

// Of a plain one, a block of threads has MEDIAN_THREADS columns and goes down MEDIAN_ROWS rows.

BOTH void order(float2& a, float2& b) {
    const float2 low = make_float2(fminf(a.x, b.x), fminf(a.y, b.y));
    b = make_float2(fmaxf(a.x, b.x), fmaxf(a.y, b.y));
    a = low;
}

#if WEIGHTED
// The largest of N values that is not above a number which less than half of the weight is above. That
// number is found by halving an interval.
template <int N>
BOTH float weighted_median(const float* values, const float* weights) {
    float low = values[0], high = values[0], half = 0.0f;
#pragma unroll
    for (int n = 0; n < N; ++n) {
        low = fminf(low, values[n]);
        high = fmaxf(high, values[n]);
        half += 0.5f * weights[n];
    }
    for (int k = 0; k < HALVINGS; ++k) {
        const float middle = 0.5f * (low + high);
        float above = 0.0f, more = 0.0f;
#pragma unroll
        for (int n = 0; n + 1 < N; n += 2) {
            above += values[n] > middle ? weights[n] : 0.0f;
            more += values[n + 1] > middle ? weights[n + 1] : 0.0f;
        }
        above += values[N - 1] > middle ? weights[N - 1] : 0.0f;
        if (above + more > half)
            low = middle;
        else
            high = middle;
    }
    float found = low;
    bool any = false;
#pragma unroll
    for (int n = 0; n < N; ++n) {
        if (values[n] <= high && (!any || values[n] > found)) {
            found = values[n];
            any = true;
        }
    }
    return found;
}

KERNEL(median, Level) {
    const Place i = place(r.height, r.width);
    Pair& pair = r.pairs[i.number];
    if (pair.stopped < r.block) return;
    if (i.inside) {
        const Span<float> i0 = r.images.part(r.first[i.number], (long long)r.height * r.width);
        const Span<float2> in = flow_of(r, pair.u_at, i.number);
        float weights[MEDIAN * MEDIAN], u1[MEDIAN * MEDIAN], u2[MEDIAN * MEDIAN];
        const float middle = i0[i.at];
#pragma unroll
        for (int n = 0; n < MEDIAN * MEDIAN; ++n) {
            const int at = clamped(i.y + n / MEDIAN - MEDIAN / 2, r.height) * r.width +
                           clamped(i.x + n % MEDIAN - MEDIAN / 2, r.width);
            weights[n] = likeness(i0[at] - middle, r.fade);
            u1[n] = in[at].x;
            u2[n] = in[at].y;
        }
        flow_of(r, 1 - pair.u_at, i.number)[i.at] = make_float2(
            weighted_median<MEDIAN * MEDIAN>(u1, weights), weighted_median<MEDIAN * MEDIAN>(u2, weights));
    }
    if (last_of_pair(pair) && threadIdx.x == 0) {
        pair.u_at = 1 - pair.u_at;
        pair.arrived = 0;
    }
}
#elif MEDIAN > 1
// Columns are sorted once each; a pixel's median is then selected from those around it.
KERNEL(median, Level) {
    const int pair_number = blockIdx.y, reach = MEDIAN / 2;
    Pair& pair = r.pairs[pair_number];
    if (pair.stopped < r.block) return;
    __shared__ float2 sorted[MEDIAN][MEDIAN_THREADS + MEDIAN - 1];
    const Span<float2> in = flow_of(r, pair.u_at, pair_number);
    const Span<float2> out = flow_of(r, 1 - pair.u_at, pair_number);
    const int across = (r.width + MEDIAN_THREADS - 1) / MEDIAN_THREADS;
    const int x0 = (blockIdx.x % across) * MEDIAN_THREADS, y0 = (blockIdx.x / across) * MEDIAN_ROWS;
    for (int y = y0; y < min(y0 + MEDIAN_ROWS, r.height); ++y) {
        for (int column = threadIdx.x; column < MEDIAN_THREADS + MEDIAN - 1; column += MEDIAN_THREADS) {
            const int x = clamped(x0 + column - reach, r.width);
            float2 v[MEDIAN];
#pragma unroll
            for (int k = 0; k < MEDIAN; ++k) v[k] = in[clamped(y + k - reach, r.height) * r.width + x];
#define ORDER(i, j) order(v[i], v[j]);
            SORT
#pragma unroll
            for (int k = 0; k < MEDIAN; ++k) sorted[k][column] = v[k];
        }
        __syncthreads();
        if (x0 + threadIdx.x < r.width) {
            float2 v[MEDIAN * MEDIAN];
#pragma unroll
            for (int n = 0; n < MEDIAN * MEDIAN; ++n) v[n] = sorted[n / MEDIAN][threadIdx.x + n % MEDIAN];
            SELECT
            out[y * r.width + x0 + threadIdx.x] = v[MIDDLE];
        }
        __syncthreads();
    }
    if (last_of_pair(pair) && threadIdx.x == 0) {
        pair.u_at = 1 - pair.u_at;
        pair.arrived = 0;
    }
}
#endif

// ---- The iterations ---------------------------------------------------------------------------------------

// Rows of constants that are kept: a power of 2, 2 STAGES or more.
#define RING (STAGES <= 2 ? 4 : STAGES <= 4 ? 8 : STAGES <= 8 ? 16 : 32)

// What a thread has in shared memory: its column's constants, by row, and what its neighbours read. The last
// element keeps neighbours in different banks.
struct Column {
    float4 rows[RING];
    float4 unused;
};
struct Seen {
    float2 u[2][STAGES];  // of each stage, after this row and the last
    float2 p[2][STAGES];  // (p11, p21) that each stage starts from, likewise
    float2 unused;
};

// What a thread has in registers: of each stage, after a row.
struct Stages {
    float2 u[STAGES];         // new u of the stage's row
    float2 u_above[STAGES];   // and of the row above
    float4 p[STAGES];         // new p of the row above
    float4 p_before[STAGES];  // p of the stage's row before its iteration
    float4 p_in;              // what the first stage starts from
    float2 u_in;
#if STOPPING
    float update[STAGES];     // sums of squared updates
#endif
};

// The rows and columns of a block of threads.
struct Strip {
    int first_row, end_row;  // rows that it reads
    int own_row, own_end;    // rows that it answers for
    int x;                   // this thread's column
    bool reads, owns;        // whether it is in the image; whether this strip answers for it
    int right;               // the thread whose u lies to the right, itself at the image's border
};

// All stages move down by a row, the `step`th. CHECKED is for where some stage is at the image's top or bottom,
// or does nothing since fewer than STAGES iterations are asked for.
template <bool CHECKED>
__device__ __forceinline__ void descend(const Level& r, const Strip& strip, int iterations, int step, int now,
                                        Column& column, const Span<Seen>& seen, const Span<float2>& u_in,
                                        const Span<float4>& p_in, const Span<float4>& constants,
                                        const Span<float2>& u_out, const Span<float4>& p_out, Stages& s) {
    const int me = threadIdx.x, before = 1 - now;
    Seen& own = seen[me];
    // What the first stage will start from next is on its way while the others work.
    const int coming = strip.first_row + step + 1;
    const bool there = strip.reads && coming < strip.end_row;
    const int at = coming * r.width + strip.x;
    float2 u_coming = make_float2(0.0f, 0.0f);
    float4 p_coming = make_float4(0.0f, 0.0f, 0.0f, 0.0f), c_coming = p_coming;
    if (there) {
        u_coming = u_in[at];
        p_coming = p_in[at];
        c_coming = constants[at];
    }
#pragma unroll
    for (int k = STAGES - 1; k >= 0; --k) {
        const int row = strip.first_row + step - 2 * k;
        float lt = r.lt, theta = r.theta, taut = r.taut;
        if (CHECKED && k >= iterations) lt = theta = taut = 0.0f;
        if (CHECKED && row <= strip.first_row) taut = 0.0f;  // p above the image stays 0

        const float2 u = k ? s.u_above[k ? k - 1 : 0] : s.u_in;
        const float4 p = k ? s.p[k ? k - 1 : 0] : s.p_in;
        const float2 left = me ? seen[me - 1].p[before][k] : make_float2(0.0f, 0.0f);
        const float2 above = make_float2(s.p_before[k].y, s.p_before[k].w);
        const float2 u_new = primal(u, p, left, above, column.rows[(step - 2 * k) & (RING - 1)], lt, theta);
#if STOPPING
        const float du1 = u_new.x - u.x, du2 = u_new.y - u.y;
        if (strip.owns && row >= strip.own_row && row < strip.own_end)
            s.update[k] = fmaf(du1, du1, fmaf(du2, du2, s.update[k]));
#endif
        const float2 below = CHECKED && row >= r.height ? s.u[k] : u_new;  // no gradient across the border
        const float4 p_new = dual(s.p_before[k], s.u[k], seen[strip.right].u[before][k], below, taut);
        s.u_above[k] = s.u[k];
        s.u[k] = u_new;
        s.p[k] = p_new;
        s.p_before[k] = p;
        own.u[now][k] = u_new;
        if (k + 1 < STAGES) own.p[now][k + 1] = make_float2(p_new.x, p_new.z);
    }
    const int done = strip.first_row + step - 2 * STAGES + 1;
    if (strip.owns && done >= strip.own_row && done < strip.own_end) {
        u_out[done * r.width + strip.x] = s.u_above[STAGES - 1];
        p_out[done * r.width + strip.x] = s.p[STAGES - 1];
    }
    s.u_in = u_coming;
    s.p_in = p_coming;
    own.p[now][0] = make_float2(p_coming.x, p_coming.z);
    column.rows[(step + 1) & (RING - 1)] = c_coming;
    __syncthreads();
}

KERNEL_BOUNDED(iterate, Level) {
    const int number = blockIdx.y;
    Pair& pair = r.pairs[number];
    const int iterations = pair.redo ? pair.redo : r.iterations;
    if (pair.stopped != RUNNING || iterations == 0) return;
    DYNAMIC_SHARED(memory, blockDim.x * (sizeof(Column) + sizeof(Seen)));
    const Span<Column> columns = {(Column*)memory, blockDim.x};
    const Span<Seen> seen = {(Seen*)(columns.data + blockDim.x), blockDim.x};

    const int row = blockIdx.x / r.strips;
    const int own_column = blockIdx.x % r.strips * r.strip, own_end = min(own_column + r.strip, r.width);
    const int first_column = max(own_column - STAGES, 0), end_column = min(own_end + STAGES, r.width);
    Strip strip;
    strip.own_row = row * r.band;
    strip.own_end = min(strip.own_row + r.band, r.height);
    strip.first_row = max(strip.own_row - STAGES, 0);
    strip.end_row = min(strip.own_end + STAGES, r.height);
    strip.x = first_column + threadIdx.x;
    strip.reads = strip.x < end_column;
    strip.owns = strip.x >= own_column && strip.x < own_end;
    strip.right = strip.x + 1 < end_column ? threadIdx.x + 1 : threadIdx.x;

    const Span<float2> u_in = flow_of(r, pair.u_at, number), u_out = flow_of(r, 1 - pair.u_at, number);
    const Span<float4> p_in = duals_of(r, pair.p_at, number), p_out = duals_of(r, 1 - pair.p_at, number);
    const Span<float4> constants = r.constants.part(number, r.plane);

    // Above the first row, all is 0.
    const float2 zero2 = make_float2(0.0f, 0.0f);
    const float4 zero4 = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    Stages s;
    Column& column = columns[threadIdx.x];
    Seen& own = seen[threadIdx.x];
#pragma unroll
    for (int k = 0; k < STAGES; ++k) {
        s.u[k] = s.u_above[k] = zero2;
        s.p[k] = s.p_before[k] = zero4;
        own.u[0][k] = own.u[1][k] = own.p[0][k] = own.p[1][k] = zero2;
#if STOPPING
        s.update[k] = 0.0f;
#endif
    }
    for (int k = 0; k < RING; ++k) column.rows[k] = zero4;
    const int at = strip.first_row * r.width + strip.x;
    s.u_in = strip.reads ? u_in[at] : zero2;
    s.p_in = strip.reads ? p_in[at] : zero4;
    column.rows[0] = strip.reads ? constants[at] : zero4;
    own.p[1][0] = make_float2(s.p_in.x, s.p_in.z);
    __syncthreads();

    const int steps = strip.end_row - strip.first_row + 2 * STAGES - 1;
    for (int step = 0; step < steps; step += 2) {
        const bool inside = step >= 2 * STAGES - 1 && strip.first_row + step + 1 < r.height;
        if (iterations == STAGES && inside) {
            descend<false>(r, strip, iterations, step, 0, column, seen, u_in, p_in, constants, u_out, p_out, s);
            descend<false>(
                r, strip, iterations, step + 1, 1, column, seen, u_in, p_in, constants, u_out, p_out, s);
        } else {
            descend<true>(r, strip, iterations, step, 0, column, seen, u_in, p_in, constants, u_out, p_out, s);
            descend<true>(
                r, strip, iterations, step + 1, 1, column, seen, u_in, p_in, constants, u_out, p_out, s);
        }
    }

#if STOPPING
    // The sums of the threads, then those of the blocks of threads: always in the same order.
    float* sums = (float*)memory;
#pragma unroll
    for (int k = 0; k < STAGES; ++k) sums[k * blockDim.x + threadIdx.x] = s.update[k];
    __syncthreads();
    const Span<float> updates = r.updates.part(number, (long long)gridDim.x * STAGES);
    if (threadIdx.x < STAGES) {
        float sum = 0.0f;
        for (int i = 0; i < blockDim.x; ++i) sum += sums[threadIdx.x * blockDim.x + i];
        updates[blockIdx.x * STAGES + threadIdx.x] = sum;
    }
#endif
    if (!last_of_pair(pair) || threadIdx.x) return;
    pair.arrived = 0;
#if STOPPING
    if (pair.redo) {
        pair.redo = 0;
        pair.stopped = r.block;
    } else {
        // The first iteration at which the stopping test holds; those after it did not happen.
        for (int k = 0; k < iterations; ++k) {
            double sum = 0.0;
            for (int i = 0; i < gridDim.x; ++i) sum += ((volatile float*)updates.data)[i * STAGES + k];
            if (sum > r.stop) continue;
            if (k + 1 < iterations) {
                pair.redo = k + 1;
                return;
            }
            pair.stopped = r.block;
            break;
        }
    }
#endif
    pair.u_at = 1 - pair.u_at;
    pair.p_at = 1 - pair.p_at;
}
