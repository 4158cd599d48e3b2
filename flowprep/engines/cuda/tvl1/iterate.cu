// ---- The iterations ---------------------------------------------------------------------------------------

// Most of the time is spent here. A thread block has a strip of columns, one per thread, and moves down the
// rows. It does STAGES iterations on its way. Stage k works two rows after stage k - 1, and reads from registers
// the values that stage k - 1 computed two rows ago. It reads the last row of the neighbouring columns from
// shared memory. So there is one barrier per row, and a row is read and written once for STAGES iterations. Only
// the columns at the inner edges of a strip, STAGES on each side, are computed twice.

// Number of rows of constants in shared memory: a power of 2, at least 2 STAGES.
#define RING (STAGES <= 2 ? 4 : STAGES <= 4 ? 8 : STAGES <= 8 ? 16 : 32)

// The shared memory of a thread: the constants of its column, and the values that its neighbours read. The
// unused element puts neighbours in different banks.
struct Column {
    float4 rows[RING];
    float4 unused;
};
struct Seen {
    float2 u[2][STAGES];  // of each stage, after this row and after the last one
    float2 p[2][STAGES];  // (p11, p21) before each stage, for this row and for the last one
    float2 unused;
};

// tau / (theta g) of the pixels: of a whole level, and the last RING rows of a strip in shared memory.
struct Edges {
#if EDGE
    Span<float> level, ring;
#endif
};

// The registers of a thread: for each stage, after a row.
struct Stages {
    float2 u[STAGES];         // new u of the stage's row
    float2 u_above[STAGES];   // new u of the row above
    float4 p[STAGES];         // new p of the row above
    float4 p_before[STAGES];  // p of the stage's row before its iteration
    float4 p_in;              // input of the first stage
    float2 u_in;
#if STOPPING
    float update[STAGES];     // sums of squared updates
#endif
#if TILED
    unsigned held;            // bit n: the solver does not work on the pixel n rows above the first stage's row
#endif
#if SETTLE
    float tile_update;        // sum of squared updates of the last iteration, in this column of a tile
#endif
};

// The rows and columns of a thread block.
struct Strip {
    int first_row, end_row;  // the rows that it reads
    int own_row, own_end;    // the rows that it writes
    int x;                   // this thread's column
    bool reads, owns;        // whether the column is in the image; whether this strip writes it
    int right;               // the thread of the right column; this thread at the border of the image
#if TILED
    Span<byte> working;      // the tiles in which the solver works; empty for all
#endif
};

#if TILED
// 1 if the solver does not work on a pixel of this thread's column.
__device__ __forceinline__ unsigned holds(const LevelArguments& r, const Strip& strip, int row) {
    return strip.reads && strip.working.size && !works(r, strip.working, row, strip.x);
}
#endif

// Moves all stages down by one row; `step` counts the rows. CHECKED is for rows where a stage is at the top or
// bottom of the image, and for sweeps of fewer than STAGES iterations.
template <bool CHECKED>
__device__ __forceinline__ void descend(const LevelArguments& r, const Strip& strip, int iterations, int step,
                                        int now, Column& column, const Span<Seen>& seen,
                                        const Span<float2>& u_in, const Span<float4>& p_in,
                                        const Span<float4>& constants, const Edges& edges,
                                        const Span<float2>& u_out, const Span<float4>& p_out, Stages& s) {
    const int me = threadIdx.x, before = 1 - now;
#if SETTLE
    const long long tiles = (r.height + TILE_HEIGHT - 1) / TILE_HEIGHT;
    const Span<float> updates = r.tile_updates.part(blockIdx.y, tiles * r.width);
#endif
    Seen& own = seen[me];
    // The next input of the first stage is loaded while the stages work.
    const int coming = strip.first_row + step + 1;
    const bool exists = strip.reads && coming < strip.end_row;
    const int at = coming * r.width + strip.x;
    float2 u_coming = make_float2(0.0f, 0.0f);
    float4 p_coming = make_float4(0.0f, 0.0f, 0.0f, 0.0f), c_coming = p_coming;
    if (exists) {
        u_coming = u_in[at];
        p_coming = p_in[at];
        c_coming = constants[at];
    }
#if EDGE
    const float edge_coming = exists ? edges.level[at] : 0.0f;
#endif
#pragma unroll
    for (int k = STAGES - 1; k >= 0; --k) {
        const int row = strip.first_row + step - 2 * k;
        float lt = r.lt, theta = r.theta, taut = r.taut;
        if (CHECKED && k >= iterations) lt = theta = taut = 0.0f;
        if (CHECKED && row <= strip.first_row) taut = 0.0f;  // p above the image stays 0
#if TILED  // the primal step is that of this row, and the dual step that of the row above
        if (s.held >> 2 * k & 1) lt = theta = taut = 0.0f;
#endif
#if EDGE  // the dual step is that of the row above
        float tautg = edges.ring[((step - 2 * k - 1) & (RING - 1)) * blockDim.x + me];
        if ((CHECKED || TILED) && taut == 0.0f) tautg = 0.0f;
#else
        const float tautg = taut;
#endif

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
#if SETTLE
        if (k == iterations - 1 && strip.owns && row >= strip.own_row && row < strip.own_end) {
            const float dx = u_new.x - u.x, dy = u_new.y - u.y;
            if (row % TILE_HEIGHT == 0) s.tile_update = 0.0f;  // a band has whole tiles
            s.tile_update = fmaf(dx, dx, fmaf(dy, dy, s.tile_update));
            if (row % TILE_HEIGHT == TILE_HEIGHT - 1 || row == r.height - 1)
                updates[row / TILE_HEIGHT * r.width + strip.x] = s.tile_update;
        }
#endif
        const float2 below = CHECKED && row >= r.height ? s.u[k] : u_new;  // no gradient across the border
        const float2 right = seen[strip.right].u[before][k];
        const float4 p_new = dual(s.p_before[k], s.u[k], right, below, taut, tautg, r.huber);
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
#if TILED
    s.held = s.held << 1 | holds(r, strip, coming);
#endif
    s.u_in = u_coming;
    s.p_in = p_coming;
    own.p[now][0] = make_float2(p_coming.x, p_coming.z);
    column.rows[(step + 1) & (RING - 1)] = c_coming;
#if EDGE
    edges.ring[((step + 1) & (RING - 1)) * blockDim.x + me] = edge_coming;
#endif
    __syncthreads();
}

KERNEL_BOUNDED(iterate, LevelArguments) {
    const int number = blockIdx.y;
    PairState& pair = r.pairs[number];
    const int iterations = pair.redo ? pair.redo : r.iterations;
    if (pair.stopped != RUNNING || iterations == 0) return;
    DYNAMIC_SHARED(memory, blockDim.x * (sizeof(Column) + sizeof(Seen) + EDGE * RING * sizeof(float)));
    const Span<Column> columns = {(Column*)memory, blockDim.x};
    const Span<Seen> seen = {(Seen*)(columns.data + blockDim.x), blockDim.x};
    Edges edges;
#if EDGE
    edges.level = r.edges.part(r.first[number], (long long)r.height * r.width);
    edges.ring.data = (float*)(seen.data + blockDim.x);
    edges.ring.size = RING * blockDim.x;
#endif

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

    // Everything above the first row is 0.
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
#if EDGE
    for (int k = 0; k < RING; ++k) edges.ring[k * blockDim.x + threadIdx.x] = 0.0f;
#endif
#if TILED
    strip.working = r.working.size ? tiles_of(r, r.working, number) : r.working;
    s.held = holds(r, strip, strip.first_row);
#endif
#if SETTLE
    s.tile_update = 0.0f;
#endif
    const int at = strip.first_row * r.width + strip.x;
    s.u_in = strip.reads ? u_in[at] : zero2;
    s.p_in = strip.reads ? p_in[at] : zero4;
    column.rows[0] = strip.reads ? constants[at] : zero4;
#if EDGE
    edges.ring[threadIdx.x] = strip.reads ? edges.level[at] : 0.0f;
#endif
    own.p[1][0] = make_float2(s.p_in.x, s.p_in.z);
    __syncthreads();

#define DESCEND(checked, step, now) \
    descend<checked>(r, strip, iterations, step, now, column, seen, u_in, p_in, constants, edges, u_out, p_out, s)
    const int steps = strip.end_row - strip.first_row + 2 * STAGES - 1;
    for (int step = 0; step < steps; step += 2) {
        const bool inside = step >= 2 * STAGES - 1 && strip.first_row + step + 1 < r.height;
        if (iterations == STAGES && inside) {
            DESCEND(false, step, 0);
            DESCEND(false, step + 1, 1);
        } else {
            DESCEND(true, step, 0);
            DESCEND(true, step + 1, 1);
        }
    }

#if STOPPING
    // First the sums of the threads, then those of the thread blocks, always in the same order.
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
        // The first iteration in which the stopping test holds. Later ones are undone.
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
