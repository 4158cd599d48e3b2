// ---- Steps of a pixel -------------------------------------------------------------------------------------

BOTH int clamped(int i, int size) { return i < 0 ? 0 : (i < size ? i : size - 1); }

// Mirrors an index at the border, without repeating the border pixel.
BOTH int mirrored(int i, int size) {
    i = i < 0 ? -i : i;
    return i < size ? i : 2 * (size - 1) - i;
}

BOTH float mix(float a, float b, float weight) { return a * (1.0f - weight) + b * weight; }

// The primal step: u of the next iteration. `left` is (p11, p21) of the left pixel, `above` is (p12, p22) of
// the pixel above.
BOTH float2 primal(float2 u, float4 p, float2 left, float2 above, float4 c, float lt, float theta) {
    const float rho = fmaf(c.x, u.x, fmaf(c.y, u.y, c.z));
    const float step = fminf(fmaxf(rho * c.w, -lt), lt);
    const float div1 = (p.x - left.x) + (p.y - above.x);
    const float div2 = (p.z - left.y) + (p.w - above.y);
    return make_float2(fmaf(theta, div1, fmaf(step, c.x, u.x)), fmaf(theta, div2, fmaf(step, c.y, u.y)));
}

// (p + taut grad) / (1 + taut / g |grad|), both parts for one component of u. `tautg` is taut / g.
BOTH float2 projected(float px, float py, float ux, float uy, float taut, float tautg) {
    const float norm = sqrtf(fmaf(ux, ux, uy * uy));
    const float shrink = 1.0f / fmaf(tautg, norm, 1.0f);
    return make_float2(fmaf(taut, ux, px) * shrink, fmaf(taut, uy, py) * shrink);
}

// The dual step: p of the next iteration, from the new u of this pixel, the right one and the lower one.
BOTH float4 dual(float4 p, float2 u, float2 right, float2 below, float taut, float tautg, float huber) {
#if COUPLED  // one norm for both components
    float4 g = make_float4(right.x - u.x, below.x - u.x, right.y - u.y, below.y - u.y);
#if HUBER
    g = make_float4(fmaf(-huber, p.x, g.x), fmaf(-huber, p.y, g.y), fmaf(-huber, p.z, g.z),
                    fmaf(-huber, p.w, g.w));
#endif
    const float norm = sqrtf(fmaf(g.x, g.x, fmaf(g.y, g.y, fmaf(g.z, g.z, g.w * g.w))));
    const float shrink = 1.0f / fmaf(tautg, norm, 1.0f);
    return make_float4(fmaf(taut, g.x, p.x) * shrink, fmaf(taut, g.y, p.y) * shrink,
                       fmaf(taut, g.z, p.z) * shrink, fmaf(taut, g.w, p.w) * shrink);
#else
    const float2 p1 = projected(p.x, p.y, right.x - u.x, below.x - u.x, taut, tautg);
    const float2 p2 = projected(p.z, p.w, right.y - u.y, below.y - u.y, taut, tautg);
    return make_float4(p1.x, p1.y, p2.x, p2.y);
#endif
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

// Cubic B-spline: weights of the coefficients at -1, 0, 1, 2 for a sample at t in [0, 1].
BOTH Weights spline_weights(float t) {
    const float r = 1.0f - t, sixth = 1.0f / 6.0f, two_thirds = 2.0f / 3.0f;
    Weights s = {{r * r * r * sixth, two_thirds - t * t * (0.5f + 0.5f * r),
                  two_thirds - r * r * (0.5f + 0.5f * t), t * t * t * sixth}};
    return s;
}

// The derivatives of spline_weights.
BOTH Weights spline_slopes(float t) {
    const float r = 1.0f - t;
    Weights s = {{-0.5f * r * r, t * (1.5f * t - 2.0f), r * (2.0f - 1.5f * r), 0.5f * t * t}};
    return s;
}

// I1 and its gradient at (x, y), by cubic convolution; 0 outside.
BOTH float3 cubic_sample(const Span<float4>& texels, int height, int width, float x, float y) {
    const float column = floorf(x), row = floorf(y);
    const Weights along = cubic_weights(x - column), down = cubic_weights(y - row);
    // Four taps outside give 0 wherever they are.
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

// I1 and its gradient at (x, y), by a cubic B-spline; the border pixel outside.
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

// Half differences of the two neighbours; the border pixel repeats beyond the border.
BOTH float2 centred_gradient(const Span<float>& image, int height, int width, int y, int x) {
    const float along =
        image[y * width + clamped(x + 1, width)] - image[y * width + clamped(x - 1, width)];
    const float down =
        image[clamped(y + 1, height) * width + x] - image[clamped(y - 1, height) * width + x];
    return make_float2(0.5f * along, 0.5f * down);
}

// The constants of a pixel for all iterations of a warp: see LevelArguments::constants.
BOTH float4 linearised(float3 warped, float2 u, float i0, bool no_data) {
    const float ix = no_data ? 0.0f : warped.y, iy = no_data ? 0.0f : warped.z;
    const float square = ix * ix + iy * iy;
    const float rho = warped.x - ix * u.x - iy * u.y - i0;
    return make_float4(ix, iy, rho, square > TINY_GRADIENT ? -1.0f / square : 0.0f);
}

// The structure at a pixel: image + theta div p.
BOTH float structured(const FrameArguments& r, const Span<float>& image, const Span<float2>& p, int y, int x) {
    const int at = y * r.width + x;
    if (r.fresh) return image[at];
    const float2 here = p[at];
    const float left = x > 0 ? p[at - 1].x : 0.0f, above = y > 0 ? p[at - r.width].y : 0.0f;
    return fmaf(r.theta, (here.x - left) + (here.y - above), image[at]);
}

// The weight of a pixel in a weighted median, from its difference to the central pixel: (1 - d^2 / 8)^4.
BOTH float similarity(float difference, float fade) {
    const float near = fmaxf(1.0f - difference * difference * fade, 0.0f);
    return (near * near) * (near * near);
}
