// ---- Kernels of pairs: blockIdx.y is the pair -------------------------------------------------------------

__device__ __forceinline__ Span<float2> flow_of(const LevelArguments& r, int half, int pair) {
    return r.u.part((long long)half * r.count + pair, r.plane);
}

__device__ __forceinline__ Span<float4> duals_of(const LevelArguments& r, int half, int pair) {
    return r.p.part((long long)half * r.count + pair, r.plane);
}

// Returns, to all threads of a block, whether their block is the last one of the pair. All other blocks have
// then read the pair's state, and their writes are visible.
__device__ __forceinline__ bool last_of_pair(PairState& pair) {
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

// Sets the flow and the dual variables of the coarsest level to 0.
KERNEL(begin, LevelArguments) {
    const Place i = place(r.height, r.width);
    if (i.at == 0) {
        const PairState fresh = {0, 0, RUNNING, 0, 0};
        r.pairs[i.number] = fresh;
    }
    if (!i.inside) return;
    flow_of(r, 0, i.number)[i.at] = make_float2(0.0f, 0.0f);
    duals_of(r, 0, i.number)[i.at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// Resizes the flow to the next finer level, bilinearly. KEEP_DUAL does the same with the dual variables. Others
// begin with 0.
KERNEL(grow, LevelArguments) {
    const Place i = place(r.height, r.width);
    PairState& pair = r.pairs[i.number];
    if (i.inside) {
        const Span<float2> in = flow_of(r, pair.u_at, i.number);
        const int left = r.columns[i.x], right = min(left + 1, r.coarse_width - 1);
        const int upper = r.rows[i.y] * r.coarse_width;
        const int lower = min(r.rows[i.y] + 1, r.coarse_height - 1) * r.coarse_width;
        const float along = r.column_weights[i.x], down = r.row_weights[i.y];
        const float2 a = in[upper + left], b = in[upper + right], c = in[lower + left], d = in[lower + right];
        float2 u =
            make_float2(r.zoom * mix(mix(a.x, b.x, along), mix(c.x, d.x, along), down),
                        r.zoom * mix(mix(a.y, b.y, along), mix(c.y, d.y, along), down));
#if STILL
        const Span<byte> tiles = tiles_of(r, r.tiles, i.number);
        if (!works(r, tiles, i.y, i.x)) u = make_float2(0.0f, 0.0f);
#endif
        flow_of(r, 1 - pair.u_at, i.number)[i.at] = u;
#if KEEP_DUAL
        const Span<float4> duals = duals_of(r, pair.p_at, i.number);
        const float4 e = duals[upper + left], f = duals[upper + right];
        const float4 g = duals[lower + left], h = duals[lower + right];
        float4 p = make_float4(mix(mix(e.x, f.x, along), mix(g.x, h.x, along), down),
                               mix(mix(e.y, f.y, along), mix(g.y, h.y, along), down),
                               mix(mix(e.z, f.z, along), mix(g.z, h.z, along), down),
                               mix(mix(e.w, f.w, along), mix(g.w, h.w, along), down));
        if (i.x == r.width - 1) p.x = p.z = 0.0f;  // no gradient across the border
        if (i.y == r.height - 1) p.y = p.w = 0.0f;
#if STILL  // the dual step needs the next row, so its tiles lie one row higher
        if (!works(r, tiles, i.y + 1, i.x)) p = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#endif
        duals_of(r, 1 - pair.p_at, i.number)[i.at] = p;
#else
        duals_of(r, pair.p_at, i.number)[i.at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#endif
    }
    if (last_of_pair(pair) && threadIdx.x == 0) {
        pair.u_at = 1 - pair.u_at;
        if (KEEP_DUAL) pair.p_at = 1 - pair.p_at;
        pair.arrived = 0;
    }
}

// Computes the constants of all pixels from the warped second image.
KERNEL(warp, LevelArguments) {
    const Place i = place(r.height, r.width);
    if (i.at == 0) r.pairs[i.number].stopped = RUNNING;
    if (!i.inside) return;
#if STILL
    if (!works(r, tiles_of(r, r.tiles, i.number), i.y, i.x)) {
        r.constants.part(i.number, r.plane)[i.at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#if OCCLUSION
        r.mismatch.part(i.number, r.plane)[i.at] = 0.0f;  // still tiles agree but for noise
#endif
        return;
    }
#endif
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
#if OCCLUSION
    r.mismatch.part(i.number, r.plane)[i.at] = warped.x - i0[i.at];
#endif
    r.constants.part(i.number, r.plane)[i.at] = linearised(warped, u, i0[i.at], MASK && outside);
}

// Copies the flow of the finest level to the output.
KERNEL(finish, LevelArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const long long area = (long long)r.height * r.width;
    const float2 u = flow_of(r, r.pairs[i.number].u_at, i.number)[i.at];
    r.flow.part(2 * i.number, area)[i.at] = u.x;
    r.flow.part(2 * i.number + 1, area)[i.at] = u.y;
}
