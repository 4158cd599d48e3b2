// ---- The tiles in which the solver works: see tiles.py ----------------------------------------------------

#if TILED
BOTH int tile_rows(int height) { return (height + TILE_HEIGHT - 1) / TILE_HEIGHT; }

BOTH int tile_columns(int width) { return (width + TILE_WIDTH - 1) / TILE_WIDTH; }

// The tiles of a pair at this level; `all` are those of all pairs.
__device__ __forceinline__ Span<byte> tiles_of(const LevelArguments& r, const Span<byte>& all, int pair) {
    return all.part(pair, (long long)tile_rows(r.height) * tile_columns(r.width));
}

// Whether the solver works on a pixel. Below the image, the last row counts.
__device__ __forceinline__ bool works(const LevelArguments& r, const Span<byte>& tiles, int y, int x) {
    return tiles[min(y, r.height - 1) / TILE_HEIGHT * tile_columns(r.width) + x / TILE_WIDTH] != 0;
}

// Whether a tile or one of its eight neighbours has a mark.
__device__ __forceinline__ bool touches(const Span<byte>& tiles, int rows, int columns, int row, int column,
                                        byte mark) {
    for (int j = max(row - 1, 0); j < min(row + 2, rows); ++j)
        for (int i = max(column - 1, 0); i < min(column + 2, columns); ++i)
            if (tiles[j * columns + i] == mark) return true;
    return false;
}
#endif

#if STILL
// Marks of tiles. The new ones were open before a step of growth.
#define FIXED 0
#define MOVING 1
#define OPEN 2
#define NEW_FIXED 3
#define NEW_MOVING 4

// The mark of a tile, from the sums of its g g', g d and d^2.
__device__ __forceinline__ byte judged(double xx, double xy, double yy, double xd, double yd, double energy,
                                       int pixels, double still) {
    xx += 1.0;
    yy += 1.0;
    const double explained = (yy * xd * xd - 2.0 * xy * xd * yd + xx * yd * yd) / (xx * yy - xy * xy);
    const double residue = (energy - explained) / pixels, least = (double)LEAST_NOISE * LEAST_NOISE;
    const double noise = residue > least ? residue : least;
    if (energy > still * still * pixels || explained > SIGNIFICANT * noise) return MOVING;
    const double weaker = 0.5 * (xx + yy - sqrt((xx - yy) * (xx - yy) + 4.0 * xy * xy));
    return weaker * VISIBLE_PX * VISIBLE_PX < SIGNIFICANT * noise ? OPEN : FIXED;
}

// Marks the tiles of the finest level by the statistical test. A thread has a tile.
KERNEL(judge_tiles, LevelArguments) {
    const Place tile = place(tile_rows(r.height), tile_columns(r.width));
    if (!tile.inside) return;
    const long long area = (long long)r.height * r.width;
    const Span<float> i0 = r.images.part(r.first[tile.number], area);
    const Span<float> i1 = r.images.part(r.second[tile.number], area);
    const int end_y = min((tile.y + 1) * TILE_HEIGHT, r.height);
    const int end_x = min((tile.x + 1) * TILE_WIDTH, r.width);
    float xx = 0.0f, xy = 0.0f, yy = 0.0f, xd = 0.0f, yd = 0.0f, energy = 0.0f;
    int pixels = 0;
    for (int y = tile.y * TILE_HEIGHT; y < end_y; ++y) {
        for (int x = tile.x * TILE_WIDTH; x < end_x; ++x) {
            const float2 g0 = centred_gradient(i0, r.height, r.width, y, x);
            const float2 g1 = centred_gradient(i1, r.height, r.width, y, x);
            const float gx = 0.5f * (g0.x + g1.x), gy = 0.5f * (g0.y + g1.y);
            const float d = i1[y * r.width + x] - i0[y * r.width + x];
            xx = fmaf(gx, gx, xx);
            xy = fmaf(gx, gy, xy);
            yy = fmaf(gy, gy, yy);
            xd = fmaf(gx, d, xd);
            yd = fmaf(gy, d, yd);
            energy = fmaf(d, d, energy);
            ++pixels;
        }
    }
    tiles_of(r, r.tiles, tile.number)[tile.at] = judged(xx, xy, yy, xd, yd, energy, pixels, r.still);
}

// Gives each open tile the mark of its nearest tile that is not open; MOVING if two are equally near. Open tiles
// that touch no others are fixed. A thread block has all tiles of a pair.
KERNEL(decide_open_tiles, LevelArguments) {
    __shared__ int more;
    const int rows = tile_rows(r.height), columns = tile_columns(r.width);
    const Span<byte> tiles = tiles_of(r, r.tiles, blockIdx.y);
    for (bool again = true; again;) {
        if (threadIdx.x == 0) more = 0;
        __syncthreads();
        // A tile that gets a new mark meanwhile is no longer open, and not yet moving or fixed for others.
        for (int at = threadIdx.x; at < rows * columns; at += blockDim.x) {
            if (tiles[at] != OPEN) continue;
            const int row = at / columns, column = at % columns;
            const bool moving = touches(tiles, rows, columns, row, column, MOVING);
            if (!moving && !touches(tiles, rows, columns, row, column, FIXED)) continue;
            tiles[at] = moving ? NEW_MOVING : NEW_FIXED;
            more = 1;
        }
        __syncthreads();
        again = more;
        for (int at = threadIdx.x; at < rows * columns; at += blockDim.x)
            if (tiles[at] >= NEW_FIXED) tiles[at] -= NEW_FIXED;
        __syncthreads();
    }
    for (int at = threadIdx.x; at < rows * columns; at += blockDim.x)
        if (tiles[at] == OPEN) tiles[at] = FIXED;
}

// The first tile and the one after the last of the finest level that a tile of a coarser level covers, along one
// axis. One pixel of the coarser level is added on both sides, as resizing reads it.
BOTH int2 tile_span(int tile, int size, int fine_size, int side) {
    const int first = max(tile * side - 1, 0) * fine_size / size;
    const int end = (min((tile + 1) * side + 1, size) * fine_size + size - 1) / size;
    return make_int2(first / side, (end + side - 1) / side);
}

// The tiles of a coarser level: those that cover a tile in which the finest level's solver works.
KERNEL(coarsen_tiles, LevelArguments) {
    const Place tile = place(tile_rows(r.height), tile_columns(r.width));
    if (!tile.inside) return;
    const int rows = tile_rows(r.fine_height), columns = tile_columns(r.fine_width);
    const Span<byte> fine = r.fine_tiles.part(tile.number, (long long)rows * columns);
    const int2 down = tile_span(tile.y, r.height, r.fine_height, TILE_HEIGHT);
    const int2 along = tile_span(tile.x, r.width, r.fine_width, TILE_WIDTH);
    byte moving = 0;
    for (int y = down.x; y < min(down.y, rows); ++y)
        for (int x = along.x; x < min(along.y, columns); ++x) moving |= fine[y * columns + x];
    tiles_of(r, r.tiles, tile.number)[tile.at] = moving;
}
#endif

#if SETTLE
// Leaves out the tiles whose last update was small, unless a neighbour's was not. A thread block has all tiles of
// a pair.
KERNEL(settle, LevelArguments) {
    const int rows = tile_rows(r.height), columns = tile_columns(r.width);
    const Span<float> updates = r.tile_updates.part(blockIdx.y, (long long)rows * r.width);
    const Span<byte> restless = tiles_of(r, r.restless, blockIdx.y);
    const Span<byte> working = tiles_of(r, r.working, blockIdx.y);
    for (int at = threadIdx.x; at < rows * columns; at += blockDim.x) {
        const int row = at / columns, x0 = at % columns * TILE_WIDTH, end = min(x0 + TILE_WIDTH, r.width);
        const int height = min(TILE_HEIGHT, r.height - row * TILE_HEIGHT);
        float sum = 0.0f;
        for (int x = x0; x < end; ++x) sum += updates[row * r.width + x];
        restless[at] = sum > r.settle * (height * (end - x0));
    }
    __syncthreads();
    for (int at = threadIdx.x; at < rows * columns; at += blockDim.x) {
        bool moves = true;
#if STILL
        moves = tiles_of(r, r.tiles, blockIdx.y)[at];
#endif
        working[at] = moves && touches(restless, rows, columns, at / columns, at % columns, 1);
    }
}
#endif
