// ---- The medians. In tiles in which the solver does not work, the flow stays 0 -----------------------------

#if WEIGHTED
// The weighted median of N values, by bisection: less than half of the weight is above it.
template <int N>
BOTH float median_of(const float* values, const float* weights) {
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
    float largest = low;  // of the values that are not above the interval
    bool any = false;
#pragma unroll
    for (int n = 0; n < N; ++n) {
        if (values[n] <= high && (!any || values[n] > largest)) {
            largest = values[n];
            any = true;
        }
    }
    return largest;
}

KERNEL(weighted_median, LevelArguments) {
    const Place i = place(r.height, r.width);
    PairState& pair = r.pairs[i.number];
    if (pair.stopped < r.block) return;
    bool filters = i.inside;
#if STILL
    if (i.inside && !works(r, tiles_of(r, r.tiles, i.number), i.y, i.x)) {
        filters = false;
        flow_of(r, 1 - pair.u_at, i.number)[i.at] = make_float2(0.0f, 0.0f);
    }
#endif
    if (filters) {
        const Span<float> i0 = r.images.part(r.first[i.number], (long long)r.height * r.width);
        const Span<float2> in = flow_of(r, pair.u_at, i.number);
        float weights[WEIGHTED * WEIGHTED], u1[WEIGHTED * WEIGHTED], u2[WEIGHTED * WEIGHTED];
        const float middle = i0[i.at];
#if OCCLUSION
        const Span<float> mismatch = r.mismatch.part(i.number, r.plane);
#endif
#pragma unroll
        for (int n = 0; n < WEIGHTED * WEIGHTED; ++n) {
            const int at = clamped(i.y + (n / WEIGHTED - WEIGHTED / 2) * STRIDE, r.height) * r.width +
                           clamped(i.x + (n % WEIGHTED - WEIGHTED / 2) * STRIDE, r.width);
            weights[n] = similarity(i0[at] - middle, r.fade);
#if OCCLUSION
            weights[n] *= fmaxf(similarity(mismatch[at], r.occlusion_fade), LEAST_VISIBLE);
#endif
            u1[n] = in[at].x;
            u2[n] = in[at].y;
        }
        flow_of(r, 1 - pair.u_at, i.number)[i.at] = make_float2(
            median_of<WEIGHTED * WEIGHTED>(u1, weights), median_of<WEIGHTED * WEIGHTED>(u2, weights));
    }
    if (last_of_pair(pair) && threadIdx.x == 0) {
        pair.u_at = 1 - pair.u_at;
        pair.arrived = 0;
    }
}
#endif

#if PLAIN
BOTH void order(float2& a, float2& b) {
    const float2 low = make_float2(fminf(a.x, b.x), fminf(a.y, b.y));
    b = make_float2(fmaxf(a.x, b.x), fmaxf(a.y, b.y));
    a = low;
}

// A thread block has MEDIAN_THREADS columns and MEDIAN_ROWS rows.
//
// Sorts each column once, and selects the median of a pixel from the sorted columns around it.
KERNEL(median, LevelArguments) {
    const int pair_number = blockIdx.y, reach = PLAIN / 2;
    PairState& pair = r.pairs[pair_number];
    if (pair.stopped < r.block) return;
    __shared__ float2 sorted[PLAIN][MEDIAN_THREADS + PLAIN - 1];
    const Span<float2> in = flow_of(r, pair.u_at, pair_number);
    const Span<float2> out = flow_of(r, 1 - pair.u_at, pair_number);
#if STILL
    const Span<byte> tiles = tiles_of(r, r.tiles, pair_number);
#endif
    const int across = (r.width + MEDIAN_THREADS - 1) / MEDIAN_THREADS;
    const int x0 = (blockIdx.x % across) * MEDIAN_THREADS, y0 = (blockIdx.x / across) * MEDIAN_ROWS;
    for (int y = y0; y < min(y0 + MEDIAN_ROWS, r.height); ++y) {
        for (int column = threadIdx.x; column < MEDIAN_THREADS + PLAIN - 1; column += MEDIAN_THREADS) {
            const int x = clamped(x0 + column - reach, r.width);
            float2 v[PLAIN];
#pragma unroll
            for (int k = 0; k < PLAIN; ++k) v[k] = in[clamped(y + k - reach, r.height) * r.width + x];
#define ORDER(i, j) order(v[i], v[j]);
            SORT
#pragma unroll
            for (int k = 0; k < PLAIN; ++k) sorted[k][column] = v[k];
        }
        __syncthreads();
        if (x0 + threadIdx.x < r.width) {
            float2 v[PLAIN * PLAIN];
#pragma unroll
            for (int n = 0; n < PLAIN * PLAIN; ++n) v[n] = sorted[n / PLAIN][threadIdx.x + n % PLAIN];
            SELECT
#if STILL
            if (!works(r, tiles, y, x0 + threadIdx.x)) v[MIDDLE] = make_float2(0.0f, 0.0f);
#endif
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
