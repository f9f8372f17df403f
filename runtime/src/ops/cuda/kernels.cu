// Kernels for what candle has none for, or only a chain of several. Formulas stand beside the Rust functions that
// launch these; arithmetic is in f32 whatever the storage type. Compiled by NVRTC, which finds no header on a user's
// machine, so none is included and bf16 is converted by its bits.
//
// A kernel's parameters: what it reads, what it writes, then sizes, then numbers. Every sum is taken in an order that
// only sizes decide, so a result is the same to the bit each time.

typedef unsigned int u32;
typedef unsigned long long u64;

// The upper half of an f32.
struct bf16 {
    unsigned short bits;
};

static __device__ __forceinline__ float get(const float* x, u64 k) { return x[k]; }

static __device__ __forceinline__ float get(const bf16* x, u64 k) { return __uint_as_float((u32)x[k].bits << 16); }

static __device__ __forceinline__ void put(float* x, u64 k, float value) { x[k] = value; }

// To the nearest, to even where two are as near; a NaN stays one, whatever its payload.
static __device__ __forceinline__ void put(bf16* x, u64 k, float value) {
    u32 bits = __float_as_uint(value);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    x[k].bits = nan ? 0x7fff : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// At most this many threads make a block, and a multiple of LANES.
#define MOST_THREADS 256
#define LANES 32

static __device__ __forceinline__ float negative_infinity() { return __uint_as_float(0xff800000u); }

// Of one value from each thread of the block the sum, which every thread gets. `lanes` is written only between the two
// barriers and read only after the second, so that calls can follow one another.
static __device__ float block_sum(float value) {
    __shared__ float values[MOST_THREADS];
    __shared__ float lanes[LANES];
    values[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < LANES) {
        float sum = 0.0f;
        for (u32 k = threadIdx.x; k < blockDim.x; k += LANES) sum += values[k];
        lanes[threadIdx.x] = sum;
    }
    __syncthreads();
    float total = 0.0f;
    for (u32 k = 0; k < LANES; k++) total += lanes[k];
    return total;
}

// The same with the largest.
static __device__ float block_max(float value) {
    __shared__ float values[MOST_THREADS];
    __shared__ float lanes[LANES];
    values[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < LANES) {
        float most = negative_infinity();
        for (u32 k = threadIdx.x; k < blockDim.x; k += LANES) most = fmaxf(most, values[k]);
        lanes[threadIdx.x] = most;
    }
    __syncthreads();
    float most = negative_infinity();
    for (u32 k = 0; k < LANES; k++) most = fmaxf(most, lanes[k]);
    return most;
}

// ---- norms: one block a row ----

// What is subtracted from a row (0 but for LayerNorm), and what the rest is multiplied by.
struct Statistics {
    float mean;
    float r;
};

template <typename T>
static __device__ Statistics statistics(const T* x, u64 start, u32 width, bool centred, float epsilon) {
    float mean = 0.0f;
    if (centred) {
        float sum = 0.0f;
        for (u32 k = threadIdx.x; k < width; k += blockDim.x) sum += get(x, start + k);
        mean = block_sum(sum) / (float)width;
    }
    float square = 0.0f;
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        float rest = get(x, start + k) - mean;
        square += rest * rest;
    }
    return {mean, 1.0f / sqrtf(block_sum(square) / (float)width + epsilon)};
}

template <typename T>
static __device__ void norm_forward(
    const T* x, const float* gain, const float* bias, T* y, u64 width, u64 centred, u64 biased, float epsilon) {
    u64 start = (u64)blockIdx.x * width;
    Statistics row = statistics(x, start, width, centred, epsilon);
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        float unit = (get(x, start + k) - row.mean) * row.r;
        put(y, start + k, unit * gain[k] + (biased ? bias[k] : 0.0f));
    }
}

template <typename T>
static __device__ void norm_backward(
    const T* dy, const T* x, const float* gain, T* dx, u64 width, u64 centred, float epsilon) {
    u64 start = (u64)blockIdx.x * width;
    Statistics row = statistics(x, start, width, centred, epsilon);
    float along = 0.0f, level = 0.0f;
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        float g = get(dy, start + k) * gain[k];
        along += g * ((get(x, start + k) - row.mean) * row.r);
        level += g;
    }
    along = block_sum(along) / (float)width;
    level = centred ? block_sum(level) / (float)width : 0.0f;
    for (u32 k = threadIdx.x; k < width; k += blockDim.x) {
        float unit = (get(x, start + k) - row.mean) * row.r;
        put(dx, start + k, row.r * (get(dy, start + k) * gain[k] - level - unit * along));
    }
}

// [rows, 2]: mean and r of each row.
template <typename T>
static __device__ void norm_statistics(const T* x, float* out, u64 width, u64 centred, float epsilon) {
    u64 row = blockIdx.x;
    Statistics found = statistics(x, row * width, width, centred, epsilon);
    if (threadIdx.x == 0) {
        out[2 * row] = found.mean;
        out[2 * row + 1] = found.r;
    }
}

// [chunks, 2, width]: over each chunk of rows, the sums of dy times the normalised input, and of dy. A thread takes a
// column, a block many columns of a chunk.
template <typename T>
static __device__ void norm_column_sums(
    const T* dy, const T* x, const float* rows_statistics, float* sums, u64 rows, u64 width, u64 chunk) {
    u64 column = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    u64 first = (u64)blockIdx.y * chunk;
    u64 last = first + chunk < rows ? first + chunk : rows;
    float weight = 0.0f, bias = 0.0f;
    for (u64 row = first; row < last; row++) {
        float slope = get(dy, row * width + column);
        float unit = (get(x, row * width + column) - rows_statistics[2 * row]) * rows_statistics[2 * row + 1];
        weight += slope * unit;
        bias += slope;
    }
    u64 start = 2 * (u64)blockIdx.y * width + column;
    sums[start] = weight;
    sums[start + width] = bias;
}

// The sum of the rows of [rows, width]: a thread takes a column.
static __device__ void sum_rows(const float* x, float* sums, u64 rows, u64 width) {
    u64 column = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (u64 row = 0; row < rows; row++) sum += x[row * width + column];
    sums[column] = sum;
}

// ---- rotary embedding: one block a row [heads, head_dim] ----

// A thread turns a pair of dimensions, or copies one of those that are kept.
template <typename T>
static __device__ void rotate(
    const T* x, const float* cosines, const float* sines, const u32* positions, T* y, u64 heads, u64 head_dim,
    u64 planes, float sign) {
    u64 row = (u64)blockIdx.x * heads * head_dim, angles = positions[blockIdx.x] * planes;
    u32 items = head_dim - planes;
    for (u32 k = threadIdx.x; k < (u32)heads * items; k += blockDim.x) {
        u32 item = k % items;
        u64 head = row + k / items * head_dim;
        if (item >= planes) {
            put(y, head + planes + item, get(x, head + planes + item));
            continue;
        }
        float cosine = cosines[angles + item], sine = sign * sines[angles + item];
        float low = get(x, head + item), high = get(x, head + planes + item);
        put(y, head + item, low * cosine - high * sine);
        put(y, head + planes + item, high * cosine + low * sine);
    }
}

// ---- activations: elementwise, ITEMS elements a thread so that loads overlap ----

#define ITEMS 4

struct Activated {
    float value;
    float slope;
};

static __device__ __forceinline__ Activated activate(float x, u64 kind) {
    if (kind == 0) {
        float s = 1.0f / (1.0f + expf(-x));
        return {x * s, s * (1.0f + x * (1.0f - s))};
    }
    if (kind == 1) {
        const float a = 0.7978846f, b = a * 0.044715f;
        float square = x * x;
        float s = 1.0f / (1.0f + expf(-2.0f * x * (a + b * square)));
        return {x * s, s + 2.0f * x * s * (1.0f - s) * (a + 3.0f * b * square)};
    }
    if (kind == 2) {
        float below = 0.5f * erfcf(-0.70710678f * x);
        return {x * below, below + x * 0.3989423f * expf(-0.5f * x * x)};
    }
    if (x <= 0.0f) return {0.0f, 0.0f};
    return {x, 1.0f};
}

// The k-th of a thread's elements; threads that stand together take elements that lie together.
static __device__ __forceinline__ u64 element(u32 k) {
    return ((u64)blockIdx.x * ITEMS + k) * blockDim.x + threadIdx.x;
}

struct Items {
    float of[ITEMS];
};

// A thread's elements, all loaded before any is used.
template <typename T>
static __device__ __forceinline__ Items load(const T* x, u64 count) {
    Items items;
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) items.of[k] = element(k) < count ? get(x, element(k)) : 0.0f;
    return items;
}

template <typename T>
static __device__ __forceinline__ void store(T* y, u64 count, const Items& items) {
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) {
        if (element(k) < count) put(y, element(k), items.of[k]);
    }
}

template <typename T>
static __device__ void activation_forward(const T* x, T* y, u64 count, u64 kind) {
    Items xs = load(x, count);
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) xs.of[k] = activate(xs.of[k], kind).value;
    store(y, count, xs);
}

template <typename T>
static __device__ void activation_backward(const T* dy, const T* x, T* dx, u64 count, u64 kind) {
    Items slopes = load(dy, count), xs = load(x, count);
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) slopes.of[k] *= activate(xs.of[k], kind).slope;
    store(dx, count, slopes);
}

template <typename T>
static __device__ void gated_forward(const T* gate, const T* up, T* y, u64 count, u64 kind) {
    Items gates = load(gate, count), ups = load(up, count);
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) ups.of[k] *= activate(gates.of[k], kind).value;
    store(y, count, ups);
}

template <typename T>
static __device__ void gated_backward(
    const T* dy, const T* gate, const T* up, T* dgate, T* dup, u64 count, u64 kind) {
    Items slopes = load(dy, count), gates = load(gate, count), ups = load(up, count);
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) {
        Activated activated = activate(gates.of[k], kind);
        gates.of[k] = slopes.of[k] * ups.of[k] * activated.slope;
        ups.of[k] = slopes.of[k] * activated.value;
    }
    store(dgate, count, gates);
    store(dup, count, ups);
}

// ---- attention: one block a row of scores [rows, heads, queries, keys] ----

// What the query of this block's row sees.
struct Seen {
    const float* positions;
    float query;
    float window;

    __device__ __forceinline__ bool operator()(u32 key) const {
        return positions[key] <= query && (window == 0.0f || positions[key] > query - window);
    }
};

static __device__ __forceinline__ Seen seen_by(
    const float* query_positions, const float* key_positions, u64 heads, u64 queries, u64 keys, float window) {
    u64 row = blockIdx.x / (heads * queries), query = blockIdx.x % queries;
    return {key_positions + row * keys, query_positions[row * queries + query], window};
}

// Largest of a row's scaled scores, and one over the sum of the others' exponentials relative to it; 0 where nothing is
// seen, as by a padded query.
struct Softmax {
    float most;
    float factor;
};

template <typename T>
static __device__ Softmax softmax(const T* scores, u64 start, u32 keys, float scale, Seen seen) {
    float most = negative_infinity();
    for (u32 k = threadIdx.x; k < keys; k += blockDim.x) {
        if (seen(k)) most = fmaxf(most, scale * get(scores, start + k));
    }
    most = block_max(most);
    float sum = 0.0f;
    for (u32 k = threadIdx.x; k < keys; k += blockDim.x) {
        if (seen(k)) sum += expf(scale * get(scores, start + k) - most);
    }
    sum = block_sum(sum);
    return {most, sum == 0.0f ? 0.0f : 1.0f / sum};
}

template <typename T>
static __device__ void softmax_forward(
    const T* scores, const float* query_positions, const float* key_positions, T* p, u64 heads, u64 queries, u64 keys,
    float scale, float window) {
    u64 start = (u64)blockIdx.x * keys;
    Seen seen = seen_by(query_positions, key_positions, heads, queries, keys, window);
    Softmax row = softmax(scores, start, keys, scale, seen);
    for (u32 k = threadIdx.x; k < keys; k += blockDim.x) {
        put(p, start + k, seen(k) ? expf(scale * get(scores, start + k) - row.most) * row.factor : 0.0f);
    }
}

// The probabilities again from the scores, and the gradient of the scores from that of the probabilities.
template <typename T>
static __device__ void softmax_backward(
    const T* scores, const T* dp, const float* query_positions, const float* key_positions, T* p, T* ds, u64 heads,
    u64 queries, u64 keys, float scale, float window) {
    u64 start = (u64)blockIdx.x * keys;
    Seen seen = seen_by(query_positions, key_positions, heads, queries, keys, window);
    Softmax row = softmax(scores, start, keys, scale, seen);
    float along = 0.0f;
    for (u32 k = threadIdx.x; k < keys; k += blockDim.x) {
        if (!seen(k)) continue;
        along += expf(scale * get(scores, start + k) - row.most) * row.factor * get(dp, start + k);
    }
    along = block_sum(along);
    for (u32 k = threadIdx.x; k < keys; k += blockDim.x) {
        float share = seen(k) ? expf(scale * get(scores, start + k) - row.most) * row.factor : 0.0f;
        put(p, start + k, share);
        put(ds, start + k, seen(k) ? scale * share * (get(dp, start + k) - along) : 0.0f);
    }
}

// ---- AdamW, in place ----

static __device__ void adamw(
    const float* gradient, float* parameter, float* first, float* second, u64 count, float clip, float decay,
    float size, float correction, float beta_1, float rest_1, float beta_2, float rest_2, float epsilon) {
    Items slopes = load(gradient, count), means = load(first, count), squares = load(second, count);
    Items values = load(parameter, count);
#pragma unroll
    for (u32 k = 0; k < ITEMS; k++) {
        float slope = slopes.of[k] * clip;
        means.of[k] = beta_1 * means.of[k] + rest_1 * slope;
        squares.of[k] = beta_2 * squares.of[k] + rest_2 * slope * slope;
        float root = sqrtf(squares.of[k]) * correction + epsilon;
        values.of[k] = values.of[k] * decay - size * means.of[k] / root;
    }
    store(first, count, means);
    store(second, count, squares);
    store(parameter, count, values);
}

// ---- the names by which they are launched: with the storage type behind ----

// What is read is not written under another name.
template <typename T>
using in = const T* __restrict__;
template <typename T>
using out = T* __restrict__;

#define NAMED(name, type, parameters, arguments) \
    extern "C" __global__ void name##_##type parameters { name arguments; }

#define KERNELS(T, type) \
    NAMED(norm_forward, type, \
          (in<T> x, in<float> gain, in<float> bias, out<T> y, u64 width, u64 centred, u64 biased, float epsilon), \
          (x, gain, bias, y, width, centred, biased, epsilon)) \
    NAMED(norm_backward, type, \
          (in<T> dy, in<T> x, in<float> gain, out<T> dx, u64 width, u64 centred, float epsilon), \
          (dy, x, gain, dx, width, centred, epsilon)) \
    NAMED(norm_statistics, type, \
          (in<T> x, out<float> found, u64 width, u64 centred, float epsilon), \
          (x, found, width, centred, epsilon)) \
    NAMED(norm_column_sums, type, \
          (in<T> dy, in<T> x, in<float> found, out<float> sums, u64 rows, u64 width, u64 chunk), \
          (dy, x, found, sums, rows, width, chunk)) \
    NAMED(rotate, type, \
          (in<T> x, in<float> cosines, in<float> sines, in<u32> positions, out<T> y, u64 heads, u64 head_dim, \
           u64 planes, float sign), \
          (x, cosines, sines, positions, y, heads, head_dim, planes, sign)) \
    NAMED(activation_forward, type, (in<T> x, out<T> y, u64 count, u64 kind), (x, y, count, kind)) \
    NAMED(activation_backward, type, (in<T> dy, in<T> x, out<T> dx, u64 count, u64 kind), (dy, x, dx, count, kind)) \
    NAMED(gated_forward, type, (in<T> gate, in<T> up, out<T> y, u64 count, u64 kind), (gate, up, y, count, kind)) \
    NAMED(gated_backward, type, \
          (in<T> dy, in<T> gate, in<T> up, out<T> dgate, out<T> dup, u64 count, u64 kind), \
          (dy, gate, up, dgate, dup, count, kind)) \
    NAMED(softmax_forward, type, \
          (in<T> scores, in<float> query_positions, in<float> key_positions, out<T> p, u64 heads, u64 queries, \
           u64 keys, float scale, float window), \
          (scores, query_positions, key_positions, p, heads, queries, keys, scale, window)) \
    NAMED(softmax_backward, type, \
          (in<T> scores, in<T> dp, in<float> query_positions, in<float> key_positions, out<T> p, out<T> ds, u64 heads, \
           u64 queries, u64 keys, float scale, float window), \
          (scores, dp, query_positions, key_positions, p, ds, heads, queries, keys, scale, window))

KERNELS(float, f32)
KERNELS(bf16, bf16)

NAMED(sum_rows, f32, (in<float> x, out<float> sums, u64 rows, u64 width), (x, sums, rows, width))
NAMED(adamw, f32,
      (in<float> gradient, out<float> parameter, out<float> first, out<float> second, u64 count, float clip,
       float decay, float size, float correction, float beta_1, float rest_1, float beta_2, float rest_2, float epsilon),
      (gradient, parameter, first, second, count, clip, decay, size, correction, beta_1, rest_1, beta_2, rest_2,
       epsilon))
