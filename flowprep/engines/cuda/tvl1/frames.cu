// ---- Kernels of frames: a thread block has PIXELS pixels (blockIdx.x) of a frame (blockIdx.y) -------------

// The pixel of this thread: the number of its frame or pair, and its place.
struct Place {
    int number, at, y, x;
    bool inside;
};

__device__ __forceinline__ Place place(int height, int width) {
    Place p;
    p.number = blockIdx.y;
    p.at = blockIdx.x * PIXELS + threadIdx.x;
    p.y = p.at / width;
    p.x = p.at - p.y * width;
    p.inside = p.at < height * width;
    return p;
}

// Converts bytes to floats.
KERNEL(widen, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const long long area = (long long)r.height * r.width;
    r.out.part(i.number, area)[i.at] = r.bytes.part(i.number, area)[i.at];
}

// Filters along columns. taps[k] is the weight of the pixels at k to each side; the border is mirrored.
KERNEL(filter_down, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    float sum = r.taps[0] * in[i.at];
    for (int k = 1; k <= r.reach; ++k)
        sum += r.taps[k] * (in[mirrored(i.y - k, r.height) * r.width + i.x] +
                            in[mirrored(i.y + k, r.height) * r.width + i.x]);
    r.out.part(i.number, in.size)[i.at] = sum;
}

// Filters along rows.
KERNEL(filter_along, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const int row = i.at - i.x;
    float sum = r.taps[0] * in[i.at];
    for (int k = 1; k <= r.reach; ++k)
        sum += r.taps[k] * (in[row + mirrored(i.x - k, r.width)] + in[row + mirrored(i.x + k, r.width)]);
    r.out.part(i.number, in.size)[i.at] = sum;
}

// One iteration of the structure's dual variable.
KERNEL(structure_step, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> image = r.in.part(i.number, (long long)r.height * r.width);
    const Span<float2> p = r.p_in.part(i.number, image.size);
    const float s = structured(r, image, p, i.y, i.x);
    const float sx = i.x + 1 < r.width ? structured(r, image, p, i.y, i.x + 1) - s : 0.0f;
    const float sy = i.y + 1 < r.height ? structured(r, image, p, i.y + 1, i.x) - s : 0.0f;
    const float2 before = r.fresh ? make_float2(0.0f, 0.0f) : p[i.at];
    r.p_out.part(i.number, image.size)[i.at] = projected(before.x, before.y, sx, sy, r.taut, r.taut);
}

// Subtracts `share` of the structure from the image.
KERNEL(remove_structure, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> image = r.in.part(i.number, (long long)r.height * r.width);
    const float s = structured(r, image, r.p_in.part(i.number, image.size), i.y, i.x);
    r.out.part(i.number, image.size)[i.at] = image[i.at] - r.share * s;
}

// Makes the next coarser level, by bilinear resizing.
KERNEL(shrink, FrameArguments) {
    const Place i = place(r.new_height, r.new_width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const int left = r.columns[i.x], right = min(left + 1, r.width - 1);
    const int upper = r.rows[i.y] * r.width, lower = min(r.rows[i.y] + 1, r.height - 1) * r.width;
    const float along = r.column_weights[i.x], down = r.row_weights[i.y];
    r.out.part(i.number, (long long)r.new_height * r.new_width)[i.at] = mix(
        mix(in[upper + left], in[upper + right], along), mix(in[lower + left], in[lower + right], along), down);
}

#if EDGE
// Computes tau / (theta g) from the weight g of the regulariser. It is small at edges of the image.
KERNEL(weigh_edges, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const float2 gradient = centred_gradient(in, r.height, r.width, i.y, i.x);
    const float norm = sqrtf(fmaf(gradient.x, gradient.x, gradient.y * gradient.y));
    float weight = fmaxf(1.0f - r.edge * norm, 0.0f);
#pragma unroll
    for (int k = 0; k < 5; ++k) weight *= weight;  // to the 32nd
    r.out.part(i.number, in.size)[i.at] = r.taut / fmaxf(weight, r.edge_least);
}
#endif

// Stores an image and its gradient side by side, so that a cubic warp reads them together.
KERNEL(make_texels, FrameArguments) {
    const Place i = place(r.height, r.width);
    if (!i.inside) return;
    const Span<float> in = r.in.part(i.number, (long long)r.height * r.width);
    const float2 gradient = centred_gradient(in, r.height, r.width, i.y, i.x);
    r.texels.part(i.number, in.size)[i.at] = make_float4(in[i.at], gradient.x, gradient.y, 0.0f);
}
