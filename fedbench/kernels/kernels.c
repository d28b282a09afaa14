/* Training and evaluation of the built-in models, with the same bits on every processor.
 *
 * A model is a chain of 5x5 convolutions, each with 2x2 max-pooling and ReLU, then of dense layers with ReLU between
 * them, then log-softmax with cross-entropy. Images are (C, H, W, N): the batch of N is innermost, so a row of an image
 * is a run of W*N floats, a shift by one pixel is a shift by N floats, and vectors are full whatever the number of
 * channels.
 *
 * Why bits are equal: each output is one chain of fused multiply-adds in a fixed order, whatever the width of the
 * vectors. Where a sum is split, it is split into 16 lanes by definition, which are added in a fixed tree. Nothing else
 * than +, -, *, / and fma is used, each rounded as IEEE 754 says (compiled with -ffp-contract=off). What is no number
 * leaves as the same one.
 */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VL = 16, ROWS = 12, VECS = 2, GRAD_ROWS = 5 };  /* 32 registers of 16 floats */
#elif defined(__AVX2__)
enum { VL = 8, ROWS = 6, VECS = 2, GRAD_ROWS = 2 };    /* 16 registers of 8 floats */
#else
enum { VL = 4, ROWS = 6, VECS = 4, GRAD_ROWS = 4 };    /* 32 registers of 4 floats */
#endif
enum { LANES = 16, SIDE = 5, TAPS = SIDE * SIDE, MAX_LAYERS = 8, SKIP = 32, DEAD = 4, WIDTH = VL * VECS };

typedef float vec __attribute__((vector_size(4 * VL)));
typedef float vec_anywhere __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * VL)));
typedef uint8_t bytes __attribute__((vector_size(VL)));
typedef uint8_t bytes_anywhere __attribute__((vector_size(VL), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
#define EXPORT __attribute__((visibility("default")))

INLINE vec load(const float *p) { return *(const vec_anywhere *)p; }
INLINE void store(float *p, vec v) { *(vec_anywhere *)p = v; }
INLINE vec splat(float x) {
    vec v;
    UNROLL for (int i = 0; i < VL; i++) v[i] = x;
    return v;
}
INLINE vec fma_(vec a, vec b, vec c) { return __builtin_elementwise_fma(a, b, c); }
INLINE vec choose(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
INLINE long round_up(long n, long to) { return (n + to - 1) / to * to; }
INLINE long least(long a, long b) { return a < b ? a : b; }

/* Processors differ in the sign and the payload of what is no number. */
INLINE float same_nan(float x) { return x == x ? x : __builtin_nanf(""); }

/* The first `count` floats of a vector. */
INLINE void store_head(float *p, vec v, long count) {
    if (count >= VL) store(p, v);
    else memcpy(p, &v, 4 * count);
}

/* ---- Products: C[m][x] = init + sum over taps of a[tap][m] * b[tap + x], the taps in three nested loops ---- */

typedef struct { long n, a, b; } Loop;  /* the number of steps; the strides of a and b */
enum Init { ZERO, OF_ROW, OF_COLUMN, OF_SUM };

INLINE void tile(const int rows, const int vecs, const Loop loops[3], const float *a, long a_row, const float *b,
                 float *c, long c_row, long columns, enum Init kind, const float *init) {
    vec sum[ROWS][VECS];
    UNROLL for (int m = 0; m < rows; m++) UNROLL for (int v = 0; v < vecs; v++)
        sum[m][v] = kind == ZERO ? (vec){} : kind == OF_ROW ? splat(init[m])
                  : load(kind == OF_COLUMN ? init + v * VL : c + m * c_row + v * VL);
    for (long i = 0; i < loops[0].n; i++)
        for (long j = 0; j < loops[1].n; j++) {
            const float *pa = a + i * loops[0].a + j * loops[1].a, *pb = b + i * loops[0].b + j * loops[1].b;
            for (long k = 0; k < loops[2].n; k++, pa += loops[2].a, pb += loops[2].b) {
                vec x[VECS];
                UNROLL for (int v = 0; v < vecs; v++) x[v] = load(pb + v * VL);
                UNROLL for (int m = 0; m < rows; m++) {
                    vec w = splat(pa[m * a_row]);
                    UNROLL for (int v = 0; v < vecs; v++) sum[m][v] = fma_(w, x[v], sum[m][v]);
                }
            }
        }
    UNROLL for (int m = 0; m < rows; m++) UNROLL for (int v = 0; v < vecs; v++)
        if (v * VL < columns) store_head(c + m * c_row + v * VL, sum[m][v], columns - v * VL);
}

/* One tile of at most ROWS rows and WIDTH columns. */
static void tile_of(int rows, const Loop loops[3], const float *a, long a_row, const float *b, float *c, long c_row,
                    long columns, enum Init kind, const float *init) {
#define CASE(m) case m: \
    if (VL < 16 || columns > VL) tile(m, VECS, loops, a, a_row, b, c, c_row, columns, kind, init); \
    else tile(m, 1, loops, a, a_row, b, c, c_row, columns, kind, init); \
    break;
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
#undef CASE
}

/* C (M, N) = A (M, K) B (K, N), in tiles. B's rows may be read up to WIDTH floats beyond their end. */
typedef struct { const float *p; long row, column; } Matrix;

static void product(long M, long N, long K, Matrix A, const float *B, long b_row, float *C, long c_row, enum Init kind,
                    const float *init) {
    Loop loops[3] = {{1, 0, 0}, {1, 0, 0}, {K, A.column, b_row}};
    long parts = (M + ROWS - 1) / ROWS;
    for (long part = 0; part < parts; part++) {
        long m = M * part / parts, rows = M * (part + 1) / parts - m;
        for (long n = 0; n < N; n += WIDTH)
            tile_of(rows, loops, A.p + m * A.row, A.row, B + n, C + m * c_row + n, c_row, N - n, kind,
                    kind == OF_COLUMN ? init + n : kind == OF_ROW ? init + m : 0);
    }
}

/* ---- The model ---- */

typedef struct {
    long in, out, height, width;  /* of the padded input; channels */
    long rows, columns;           /* of the convolution's output */
    long pad_next;                /* the padding of what follows */
    long weights, bias;           /* where they are in the packed parameters: (in, 5, 5, out); (out) */
} Conv;

typedef struct { long in, out, padded; long weights, bias; } Dense;  /* weights (in, padded) */

typedef struct {
    long num_convs, num_dense, channels, height, width;
    Conv conv[MAX_LAYERS];
    Dense dense[MAX_LAYERS];
    long num_parameters, num_packed, num_classes;
} Model;

/* From channels, height, width, number of convolutions, (channels, padding) of each, number of dense layers, units. */
static Model model_of(const int64_t *shape) {
    Model m = {.channels = shape[0], .height = shape[1], .width = shape[2], .num_convs = shape[3]};
    const int64_t *next = shape + 4;
    long channels = m.channels, height = m.height, width = m.width;
    for (int i = 0; i < m.num_convs; i++, next += 2) {
        long out = next[0], pad = next[1];
        Conv *c = m.conv + i;
        *c = (Conv){.in = channels, .out = out, .height = height + 2 * pad, .width = width + 2 * pad};
        c->rows = c->height - SIDE + 1, c->columns = c->width - SIDE + 1;
        c->weights = m.num_packed, c->bias = c->weights + round_up(channels * TAPS * out, LANES);
        m.num_packed = c->bias + round_up(out, LANES);
        m.num_parameters += channels * TAPS * out + out;
        if (i) m.conv[i - 1].pad_next = pad;
        channels = out, height = c->rows / 2, width = c->columns / 2;
    }
    m.num_dense = *next++;
    long in = channels * height * width;
    for (int i = 0; i < m.num_dense; i++) {
        long out = *next++, padded = round_up(out, LANES);
        m.dense[i] = (Dense){in, out, padded, m.num_packed, m.num_packed + in * padded};
        m.num_packed += (in + 1) * padded;
        m.num_parameters += (in + 1) * out;
        in = m.num_classes = out;
    }
    return m;
}

/* Between a vector of parameters in PyTorch's order, a convolution's weights as (out, 5, 5, in), and packed ones. */
static void pack(const Model *m, const float *from, float *to) {
    memset(to, 0, 4 * m->num_packed);
    for (const Conv *c = m->conv; c < m->conv + m->num_convs; c++) {
        for (long o = 0; o < c->out; o++) for (long t = 0; t < TAPS; t++) for (long i = 0; i < c->in; i++)
            to[c->weights + (i * TAPS + t) * c->out + o] = *from++;
        memcpy(to + c->bias, from, 4 * c->out), from += c->out;
    }
    for (const Dense *d = m->dense; d < m->dense + m->num_dense; d++) {
        for (long first = 0; first < d->in; first += LANES)
            for (long o = 0; o < d->out; o++)
                for (long i = first; i < least(first + LANES, d->in); i++)
                    to[d->weights + i * d->padded + o] = from[o * d->in + i];
        from += d->in * d->out;
        memcpy(to + d->bias, from, 4 * d->out), from += d->out;
    }
}

static void unpack(const Model *m, const float *from, float *to) {
    for (const Conv *c = m->conv; c < m->conv + m->num_convs; c++) {
        for (long o = 0; o < c->out; o++) for (long t = 0; t < TAPS; t++) for (long i = 0; i < c->in; i++)
            *to++ = same_nan(from[c->weights + (i * TAPS + t) * c->out + o]);
        for (long o = 0; o < c->out; o++) *to++ = same_nan(from[c->bias + o]);
    }
    for (const Dense *d = m->dense; d < m->dense + m->num_dense; d++) {
        for (long first = 0; first < d->in; first += LANES)
            for (long o = 0; o < d->out; o++)
                for (long i = first; i < least(first + LANES, d->in); i++)
                    to[o * d->in + i] = same_nan(from[d->weights + i * d->padded + o]);
        to += d->in * d->out;
        for (long o = 0; o < d->out; o++) *to++ = same_nan(from[d->bias + o]);
    }
}

/* ---- Memory: what a batch needs, carved from one block ---- */

typedef struct {
    float *weights, *start, *added;              /* packed parameters, those of the start, and what is added to gradients */
    float *gradient;                             /* packed */
    float *input[MAX_LAYERS];                    /* of each convolution (in, height, width, N) */
    uint8_t *taken[MAX_LAYERS];                  /* which of the four a pooling took (out, rows / 2, columns / 2, N) */
    float *rows;                                 /* (out, 2, columns * N) of a convolution */
    float *slopes;                               /* the gradient of a convolution's output, its rows between zeros */
    float *lanes;                                /* (out, in, 5, 5, 16) sums */
    float *turned;                               /* a convolution's weights (out, 5, 5, in) */
    float *values[MAX_LAYERS + 1];               /* of the dense layers: the input, then (N, padded) of each */
    float *slope[2], *across;                    /* their gradients (N, padded), and (padded, N) */
    float *pooled;                               /* the gradient of a convolution's pooled output */
} Memory;

static void *carve(char *block, long *used, long floats) {
    void *found = block ? block + *used : 0;
    *used += round_up(4 * floats + 4 * WIDTH + 64, 64);  /* WIDTH floats may be read beyond the end */
    return found;
}

/* Carve the block, or only count its bytes if there is none. */
static long memory_of(const Model *m, long N, char *block, Memory *to) {
    long used = 0, padded = round_up(N, LANES), rows = 0, slopes = 0, lanes = 0, turned = 0, pooled = 0, widest = 0;
    to->weights = carve(block, &used, m->num_packed);
    to->start = carve(block, &used, m->num_packed);
    to->added = carve(block, &used, m->num_packed);
    to->gradient = carve(block, &used, m->num_packed);
#define RAISE(name, to) do { long value = (to); if (value > name) name = value; } while (0)
    for (int i = 0; i < m->num_convs; i++) {
        const Conv *c = m->conv + i;
        long outputs = c->out * (c->rows / 2) * (c->columns / 2);
        to->input[i] = carve(block, &used, c->in * c->height * c->width * N);
        to->taken[i] = carve(block, &used, outputs * N / 4 + VL);
        RAISE(rows, c->out * 2 * c->columns * N);
        RAISE(slopes, c->out * c->rows * ((c->columns + 2 * SIDE) * N + 2 * LANES));
        RAISE(lanes, c->out * c->in * TAPS * LANES);
        RAISE(turned, c->out * c->in * TAPS);
        RAISE(pooled, outputs * N);
    }
    to->rows = carve(block, &used, rows);
    to->slopes = carve(block, &used, slopes);
    to->lanes = carve(block, &used, lanes);
    to->turned = carve(block, &used, turned);
    to->pooled = carve(block, &used, pooled);
    to->values[0] = carve(block, &used, m->dense[0].in * N);
    for (int i = 0; i < m->num_dense; i++) {
        to->values[i + 1] = carve(block, &used, m->dense[i].padded * N);
        RAISE(widest, m->dense[i].padded);
    }
    for (int i = 0; i < 2; i++) to->slope[i] = carve(block, &used, widest * padded);
    to->across = carve(block, &used, widest * padded);
#undef RAISE
    return used;
}

/* ---- Convolutions ---- */

/* The maximum of each 2x2 block, ReLU, and which of the four it was, DEAD if it is not positive. */
static void pool(const Conv *c, long N, long y, const float *rows, float *out, uint8_t *taken) {
    long columns = c->columns / 2, pad = c->pad_next, width = columns + 2 * pad, height = c->rows / 2 + 2 * pad;
    for (long o = 0; o < c->out; o++)
        for (long x = 0; x < columns; x++) {
            const float *upper = rows + (o * 2 * c->columns + 2 * x) * N, *lower = upper + c->columns * N;
            float *to = out + ((o * height + y + pad) * width + x + pad) * N;
            uint8_t *took = taken + ((o * (c->rows / 2) + y) * columns + x) * N;
            for (long n = 0; n < N; n += VL) {
                long count = (columns - x) * N - n;  /* what is beyond this block is written again by the next ones */
                vec most = load(upper + n);
                ivec which = {};
#define TAKE(p, number) { vec v = load(p); ivec more = (v > most) | (v != v); \
                          most = choose(more, v, most); which = (more & number) | (~more & which); }
                TAKE(upper + N + n, 1) TAKE(lower + n, 2) TAKE(lower + N + n, 3)
#undef TAKE
                ivec dead = most <= 0;
                store_head(to + n, choose(dead, (vec){}, most), count);
                bytes b = __builtin_convertvector((dead & DEAD) | (~dead & which), bytes);
                if (count >= VL) *(bytes_anywhere *)(took + n) = b;
                else memcpy(took + n, &b, count);
            }
        }
}

static void conv_forward(const Conv *c, long N, const float *weights, const float *input, float *rows, float *out,
                         uint8_t *taken) {
    long plane = c->height * c->width * N, row = c->width * N, length = c->columns * N;
    Loop loops[3] = {{c->in, TAPS * c->out, plane}, {SIDE, SIDE * c->out, row}, {SIDE, c->out, N}};
    long parts = (c->out + ROWS - 1) / ROWS;
    for (long y = 0; y + 1 < c->rows; y += 2) {
        for (long part = 0; part < parts; part++) {
            long o = c->out * part / parts, count = c->out * (part + 1) / parts - o;
            for (long half = 0; half < 2; half++)
                for (long x = 0; x < length; x += WIDTH)
                    tile_of(count, loops, weights + c->weights + o, 1, input + (y + half) * row + x,
                            rows + (o * 2 + half) * length + x, 2 * length, length - x, OF_ROW, weights + c->bias + o);
        }
        pool(c, N, y / 2, rows, out, taken);
    }
}

INLINE float sum_of(const float lanes[LANES]) {
    float s[LANES];
    memcpy(s, lanes, sizeof s);
    for (int half = LANES / 2; half; half /= 2) for (int l = 0; l < half; l++) s[l] += s[l + half];
    return s[0];
}

/* Where the gradient of a convolution's output is: rows of `length` floats between `margin` zeros. */
typedef struct { float *p; long margin, row, plane; } Slopes;

/* Rows y and y + 1 of the gradient, from that of the pooled output; and its sums over the examples, by lanes. */
static void unpool(const Conv *c, long N, long y, const float *pooled, const uint8_t *taken, Slopes s, long at) {
    long columns = c->columns / 2;
    for (long o = 0; o < c->out; o++)
        for (long half = 0; half < 2; half++) {
            float *row = s.p + o * s.plane + (at + half) * s.row;
            for (long x = 0; x < columns; x++) {
                long from = ((o * (c->rows / 2) + y / 2) * columns + x) * N;
                for (long side = 0; side < 2; side++)
                    for (long n = 0; n < N; n += VL) {
                        ivec which = __builtin_convertvector(*(const bytes_anywhere *)(taken + from + n), ivec);
                        vec slope = choose(which == (int32_t)(2 * half + side), load(pooled + from + n), (vec){});
                        store_head(row + (2 * x + side) * N + n, slope, (2 * columns - 2 * x - side) * N - n);
                    }
            }
        }
}

/* Add to the lanes of each weight's gradient: sum over rows and positions of slope * input. */
INLINE void weight_lanes(const int outs, long N, long num_rows, long length, const float *slopes, long slope_plane,
                         long slope_row, const float *input, long input_row, float *lanes, long lanes_out) {
    for (int group = 0; group < LANES; group += VL) {
        vec sum[GRAD_ROWS][SIDE];
        UNROLL for (int o = 0; o < outs; o++) UNROLL for (int k = 0; k < SIDE; k++)
            sum[o][k] = load(lanes + o * lanes_out + k * LANES + group);
        for (long y = 0; y < num_rows; y++) {
            const float *s = slopes + y * slope_row + group, *x = input + y * input_row + group;
            for (long p = 0; p < length; p += LANES) {
                vec slope[GRAD_ROWS];
                UNROLL for (int o = 0; o < outs; o++) slope[o] = load(s + o * slope_plane + p);
                UNROLL for (int k = 0; k < SIDE; k++) {
                    vec value = load(x + k * N + p);
                    UNROLL for (int o = 0; o < outs; o++) sum[o][k] = fma_(slope[o], value, sum[o][k]);
                }
            }
        }
        UNROLL for (int o = 0; o < outs; o++) UNROLL for (int k = 0; k < SIDE; k++)
            store(lanes + o * lanes_out + k * LANES + group, sum[o][k]);
    }
}

static void conv_weight_gradient(const Conv *c, long N, long first, long num_rows, Slopes s, const float *input,
                                 float *lanes) {
    long plane = c->height * c->width * N, row = c->width * N, parts = (c->out + GRAD_ROWS - 1) / GRAD_ROWS;
    for (long part = 0; part < parts; part++) {
        long o = c->out * part / parts, outs = c->out * (part + 1) / parts - o;
        for (long i = 0; i < c->in; i++)
            for (long k = 0; k < SIDE; k++) {
                const float *x = input + i * plane + (first + k) * row, *slopes = s.p + o * s.plane;
                float *to = lanes + ((o * c->in + i) * TAPS + k * SIDE) * LANES;
#define CASE(m) case m: weight_lanes(m, N, num_rows, c->columns * N, slopes, s.plane, s.row, x, row, to, \
                                     c->in * TAPS * LANES); break;
                switch (outs) {
                    CASE(1) CASE(2)
#if !defined(__AVX2__) || defined(__AVX512F__)
                    CASE(3) CASE(4)
#endif
#if defined(__AVX512F__)
                    CASE(5)
#endif
                }
#undef CASE
            }
    }
}

/* The gradient of a convolution's input, without its padding: (in, rows, columns, N). Taps that only meet the zeros
 * around the slopes of SKIP columns are left out. */
static void conv_input_gradient(const Conv *c, long N, long pad, const float *turned, Slopes s, float *out) {
    long height = c->height - 2 * pad, width = c->width - 2 * pad, length = width * N;
    long parts = (c->in + ROWS - 1) / ROWS;
    for (long y = 0; y < height; y++) {
        long low = y + pad - c->rows + 1, high = y + pad;  /* of the kernel's row */
        if (low < 0) low = 0;
        if (high > SIDE - 1) high = SIDE - 1;
        for (long x = 0; x < length; x += WIDTH) {
            long block = x / SKIP * SKIP + pad * N, left = 0, right = SIDE - 1;
            while (left < right && block >= (left + c->columns) * N) left++;
            while (right > left && block + SKIP <= right * N) right--;
            Loop loops[3] = {{c->out, TAPS * c->in, s.plane}, {high - low + 1, SIDE * c->in, -s.row},
                             {right - left + 1, c->in, -N}};
            for (long part = 0; part < parts; part++) {
                long i = c->in * part / parts, count = c->in * (part + 1) / parts - i;
                tile_of(count, loops, turned + (low * SIDE + left) * c->in + i, 1,
                        s.p + (y + pad - low) * s.row + x + (pad - left) * N, out + (i * height + y) * length + x,
                        height * length, length - x, ZERO, 0);
            }
        }
    }
}

/* ---- Cross-entropy ---- */

/* e^x, within 2 units in the last place, for x <= 0. */
static float exp_(float x) {
    if (x != x) return x;
    if (x < -104.0f) return 0.0f;
    float n = __builtin_fmaf(x, 1.44269504f, 12582912.0f) - 12582912.0f;  /* the integer nearest to x / ln 2 */
    float r = __builtin_fmaf(n, -0.693145752f, x);
    r = __builtin_fmaf(n, -1.42860677e-6f, r);
    float p = 1.98756912e-4f;
    p = __builtin_fmaf(p, r, 1.39819994e-3f);
    p = __builtin_fmaf(p, r, 8.33345205e-3f);
    p = __builtin_fmaf(p, r, 4.16657962e-2f);
    p = __builtin_fmaf(p, r, 1.66666657e-1f);
    p = __builtin_fmaf(p, r, 0.5f);
    p = __builtin_fmaf(p, r * r, r) + 1.0f;
    int32_t whole = (int32_t)n, half = whole / 2;  /* in two steps, for results below the smallest normal number */
    union { int32_t i; float f; } one = {(half + 127) << 23}, other = {(whole - half + 127) << 23};
    return p * one.f * other.f;
}

/* The natural logarithm of a finite x >= 1, within 1 unit in the last place. */
static float log_(float x) {
    if (x != x) return x;
    union { float f; int32_t i; } bits = {x};
    int32_t exponent = (bits.i >> 23) - 127;
    bits.i = (bits.i & 0x7fffff) | 0x3f800000;
    double m = bits.f;  /* in [1, 2) */
    if (m > 1.4142135623730951) m *= 0.5, exponent++;
    double z = (m - 1.0) / (m + 1.0), square = z * z, s = 1.0 / 13;
    for (int k = 11; k > 0; k -= 2) s = __builtin_fma(s, square, 1.0 / k);
    return (float)__builtin_fma((double)exponent, 0.69314718055994531, 2.0 * z * s);
}

/* The cross-entropy of C logits; what they become is their gradient, divided by `batch`. */
static float cross_entropy(float *logits, long C, long label, float batch) {
    float most = logits[0], sum = 0.0f, chosen = logits[label];
    for (long j = 1; j < C; j++) if (logits[j] > most) most = logits[j];
    for (long j = 0; j < C; j++) sum += logits[j] = exp_(logits[j] - most);
    for (long j = 0; j < C; j++) logits[j] = (logits[j] / sum - (j == label)) / batch;
    return log_(sum) - (chosen - most);
}

/* ---- A batch ---- */

/* N examples, chosen by their indices if there are any. */
typedef struct { const float *images; const int64_t *labels, *index; long N; } Batch;

INLINE int64_t at(const Batch *b, long n) { return b->index ? b->index[n] : n; }

static void zero_border(const Conv *c, long pad, long N, float *plane) {
    long row = c->width * N, side = pad * N;
    for (long i = 0; pad && i < c->in; i++, plane += c->height * row) {
        memset(plane, 0, 4 * pad * row);
        for (long y = pad; y <= c->height - pad; y++) memset(plane + y * row - side, 0, 4 * 2 * side);
        memset(plane + (c->height - pad) * row, 0, 4 * pad * row);
    }
}

static void forward(const Model *m, const Batch *b, const Memory *mem) {
    long N = b->N, size = m->channels * m->height * m->width;
    if (m->num_convs) {
        const Conv *c = m->conv;
        long pad = (c->height - m->height) / 2;
        float *to = mem->input[0];
        for (long i = 0; i < m->channels; i++) for (long y = 0; y < m->height; y++) for (long x = 0; x < m->width; x++) {
            float *row = to + ((i * c->height + y + pad) * c->width + x + pad) * N;
            const float *from = b->images + (i * m->height + y) * m->width + x;
            for (long n = 0; n < N; n++) row[n] = from[at(b, n) * size];
        }
        zero_border(c, pad, N, to);
        for (int i = 0; i + 1 < m->num_convs; i++) zero_border(c + i + 1, c[i].pad_next, N, mem->input[i + 1]);
        for (int i = 0; i < m->num_convs; i++)  /* read beyond the end, and multiplied by zeros */
            memset(mem->input[i] + c[i].in * c[i].height * c[i].width * N, 0, 4 * LANES);
        for (int i = 0; i < m->num_convs; i++)
            conv_forward(m->conv + i, N, mem->weights, mem->input[i], mem->rows,
                         i + 1 < m->num_convs ? mem->input[i + 1] : mem->values[0], mem->taken[i]);
    } else {
        for (long n = 0; n < N; n++) memcpy(mem->values[0] + n * size, b->images + at(b, n) * size, 4 * size);
    }
    for (int i = 0; i < m->num_dense; i++) {
        const Dense *d = m->dense + i;
        Matrix X = i ? (Matrix){mem->values[i], m->dense[i - 1].padded, 1}
                 : m->num_convs ? (Matrix){mem->values[0], 1, N} : (Matrix){mem->values[0], size, 1};
        float *Y = mem->values[i + 1];
        product(N, d->padded, d->in, X, mem->weights + d->weights, d->padded, Y, d->padded, OF_COLUMN,
                mem->weights + d->bias);
        if (i + 1 < m->num_dense)
            for (long k = 0; k < N * d->padded; k += VL) {
                vec y = load(Y + k);
                store(Y + k, choose(y <= 0, (vec){}, y));
            }
    }
}

typedef struct { float rate, factor; int is_proximal, has_added; } Step;

/* w <- w - rate * (g + factor * (w - start) + added) for `length` of the packed parameters, a multiple of LANES. */
static void descend(const Memory *mem, const Step *s, long first, long length, const float *gradient) {
    for (long k = 0; k < length; k += VL) {
        vec w = load(mem->weights + first + k), g = load(gradient + k);
        if (s->is_proximal) g = fma_(splat(s->factor), w - load(mem->start + first + k), g);
        if (s->has_added) g += load(mem->added + first + k);
        store(mem->weights + first + k, fma_(splat(-s->rate), g, w));
    }
}

/* The gradient of a dense layer's weights and bias, from the slopes of its output (N, padded). */
static void dense_gradient(const Dense *d, long N, Matrix X, const float *slope, const Memory *mem, const Step *step,
                           int is_first) {
    enum Init kind = is_first ? ZERO : OF_SUM;
    for (long i = 0; i < d->in; i += ROWS) {
        long rows = least(ROWS, d->in - i);
        float *to = mem->gradient + d->weights + (step && is_first ? 0 : i * d->padded);  /* the same place stays in cache */
        product(rows, d->padded, N, (Matrix){X.p + i * X.row, X.row, X.column}, slope, d->padded, to, d->padded, kind, 0);
        if (step) descend(mem, step, d->weights + i * d->padded, rows * d->padded, to);
    }
    float *bias = mem->gradient + d->bias;
    for (long o = 0; o < d->padded; o += VL) {
        vec sum = is_first ? (vec){} : load(bias + o);
        for (long n = 0; n < N; n++) sum += load(slope + n * d->padded + o);
        store(bias + o, sum);
    }
    if (step) descend(mem, step, d->bias, d->padded, bias);
}

static void conv_backward(const Model *m, int layer, long N, const Memory *mem, const Step *step, int is_first) {
    const Conv *c = m->conv + layer;
    long count = c->out * c->in * TAPS, outputs = (c->rows / 2) * (c->columns / 2) * N;
    float *weights = mem->gradient + c->weights, *bias = mem->gradient + c->bias;
    for (long o = 0; o < c->out; o++) {
        float lanes[LANES] = {};
        const float *pooled = mem->pooled + o * outputs;
        const uint8_t *taken = mem->taken[layer] + o * outputs;
        long whole = outputs / LANES * LANES;
        for (long k = 0; k < whole; k += VL) {
            ivec dead = __builtin_convertvector(*(const bytes_anywhere *)(taken + k), ivec) == DEAD;
            store(lanes + k % LANES, load(lanes + k % LANES) + choose(dead, (vec){}, load(pooled + k)));
        }
        for (long k = whole; k < outputs; k++) lanes[k % LANES] += taken[k] == DEAD ? 0.0f : pooled[k];
        bias[o] = sum_of(lanes) + (is_first ? 0.0f : bias[o]);
    }
    memset(mem->lanes, 0, 4 * count * LANES);
    long margin = layer ? (SIDE - 1) * N : 0, length = c->columns * N, stored = layer ? c->rows : 2;
    Slopes s = {mem->slopes + margin, margin, round_up(length, LANES) + margin, 0};
    s.plane = stored * s.row;
    memset(mem->slopes, 0, 4 * (c->out * s.plane + margin));
    for (long y = 0; y + 1 < c->rows; y += 2) {
        unpool(c, N, y, mem->pooled, mem->taken[layer], s, layer ? y : 0);
        if (!layer) conv_weight_gradient(c, N, y, 2, s, mem->input[layer], mem->lanes);
    }
    if (layer) {
        conv_weight_gradient(c, N, 0, c->rows, s, mem->input[layer], mem->lanes);
        for (long o = 0; o < c->out; o++) for (long t = 0; t < TAPS; t++) for (long i = 0; i < c->in; i++)
            mem->turned[(o * TAPS + t) * c->in + i] = mem->weights[c->weights + (i * TAPS + t) * c->out + o];
        conv_input_gradient(c, N, m->conv[layer - 1].pad_next, mem->turned, s, mem->pooled);
    }
    for (long o = 0; o < c->out; o++) for (long k = 0; k < c->in * TAPS; k++) {
        float *to = weights + k * c->out + o;
        *to = sum_of(mem->lanes + (o * c->in * TAPS + k) * LANES) + (is_first ? 0.0f : *to);
    }
    if (step) {
        descend(mem, step, c->weights, round_up(count, LANES), weights);
        descend(mem, step, c->bias, round_up(c->out, LANES), bias);
    }
}

/* The sum of the losses. Adds to the gradient of their mean over `batch` examples, or takes the step if there is one. */
static double backward(const Model *m, const Batch *b, const Memory *mem, long batch, const Step *step, int is_first) {
    long N = b->N, padded_n = round_up(N, LANES);
    double loss = 0;
    const Dense *last = m->dense + m->num_dense - 1;
    float *slope = mem->values[m->num_dense];
    for (long n = 0; n < N; n++) {
        float *logits = slope + n * last->padded;
        loss += cross_entropy(logits, last->out, b->labels[at(b, n)], batch);
        for (long j = last->out; j < last->padded; j++) logits[j] = 0.0f;
    }
    for (int i = m->num_dense - 1; i >= 0; i--) {
        const Dense *d = m->dense + i;
        Matrix X = i ? (Matrix){mem->values[i], 1, m->dense[i - 1].padded}
                 : m->num_convs ? (Matrix){mem->values[0], N, 1} : (Matrix){mem->values[0], 1, d->in};
        float *below = 0;
        if (i || m->num_convs) {  /* the gradient of the layer's input: (in, N) */
            for (long n = 0; n < N; n++)
                for (long o = 0; o < d->out; o++) mem->across[o * padded_n + n] = slope[n * d->padded + o];
            below = i ? mem->slope[0] : mem->pooled;
            product(d->in, N, d->out, (Matrix){mem->weights + d->weights, d->padded, 1}, mem->across, padded_n, below,
                    i ? padded_n : N, ZERO, 0);
        }
        dense_gradient(d, N, X, slope, mem, step, is_first);
        if (i) {  /* through the ReLU, as (N, padded) */
            long padded = m->dense[i - 1].padded, out = m->dense[i - 1].out;
            slope = mem->slope[1];
            for (long n = 0; n < N; n++) {
                for (long o = 0; o < out; o++)
                    slope[n * padded + o] = mem->values[i][n * padded + o] <= 0 ? 0.0f : below[o * padded_n + n];
                for (long o = out; o < padded; o++) slope[n * padded + o] = 0.0f;
            }
        }
    }
    for (int i = m->num_convs - 1; i >= 0; i--) conv_backward(m, i, N, mem, step, is_first);
    return loss;
}

/* ---- What Python calls ---- */

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
EXPORT char source_digest[] = TEXT(SOURCE_DIGEST);  /* not constant, so it is at the end of the library: see build.py */

enum { CHUNK = 64, DENSE_CHUNK = 1024 };

/* How many examples go through the model at once: all of a batch that fits into the caches, else equal parts. */
static long most_at_once(const Model *m, long batch) { return least(batch, m->num_convs ? CHUNK : DENSE_CHUNK); }

static double batch_gradient(const Model *m, Batch b, const Memory *mem, const Step *step) {
    long most = most_at_once(m, b.N), parts = (b.N + most - 1) / most, size = (b.N + parts - 1) / parts;
    double loss = 0;
    for (long first = 0; first < b.N; first += size) {
        Batch part = {b.images, b.labels, b.index + first, least(size, b.N - first)};
        forward(m, &part, mem);
        loss += backward(m, &part, mem, b.N, first + size < b.N ? 0 : step, first == 0);
    }
    return loss;
}

/* The bytes of memory for batches of at most `batch` examples. */
EXPORT int64_t memory_bytes(const int64_t *shape, int64_t batch) {
    Model m = model_of(shape);
    Memory mem;
    return memory_of(&m, most_at_once(&m, batch), 0, &mem);
}

EXPORT int64_t num_parameters(const int64_t *shape) { return model_of(shape).num_parameters; }

/* ClientUpdate: SGD over `epochs * n` examples in the given order, in batches of at most `batch` of an epoch.
 * Returns the sum of the losses; stops early once `cancelled` is set. */
EXPORT double update(const int64_t *shape, char *block, float *parameters, const float *images, const int64_t *labels,
                     const int64_t *order, int64_t n, int64_t epochs, int64_t batch, float rate, float factor,
                     const float *start, const float *added, const volatile int32_t *cancelled) {
    Model m = model_of(shape);
    Memory mem;
    memory_of(&m, most_at_once(&m, batch), block, &mem);
    pack(&m, parameters, mem.weights);
    Step step = {rate, factor, start != 0, added != 0};
    if (start) pack(&m, start, mem.start);
    if (added) pack(&m, added, mem.added);
    double loss = 0;
    for (long epoch = 0; epoch < epochs; epoch++)
        for (long first = 0; first < n && !*cancelled; first += batch)
            loss += batch_gradient(&m, (Batch){images, labels, order + epoch * n + first, least(batch, n - first)},
                                   &mem, &step);
    unpack(&m, mem.weights, parameters);
    return loss;
}

/* The sum of the losses of a batch, and the gradient of their mean. */
EXPORT double gradient(const int64_t *shape, char *block, const float *parameters, const float *images,
                       const int64_t *labels, const int64_t *order, int64_t n, float *to) {
    Model m = model_of(shape);
    Memory mem;
    memory_of(&m, most_at_once(&m, n), block, &mem);
    pack(&m, parameters, mem.weights);
    double loss = batch_gradient(&m, (Batch){images, labels, order, n}, &mem, 0);
    unpack(&m, mem.gradient, to);
    return loss;
}

/* The sum of the losses of n examples; counts[label][predicted] goes up by each. */
EXPORT double evaluate(const int64_t *shape, char *block, const float *parameters, const float *images,
                       const int64_t *labels, int64_t n, int64_t *counts) {
    Model m = model_of(shape);
    Memory mem;
    long chunk = most_at_once(&m, n);
    memory_of(&m, chunk, block, &mem);
    pack(&m, parameters, mem.weights);
    double loss = 0;
    long size = m.channels * m.height * m.width, C = m.num_classes, padded = m.dense[m.num_dense - 1].padded;
    for (long first = 0; first < n; first += chunk) {
        Batch b = {images + first * size, labels + first, 0, least(chunk, n - first)};
        forward(&m, &b, &mem);
        for (long k = 0; k < b.N; k++) {
            float *logits = mem.values[m.num_dense] + k * padded;
            long best = 0;
            for (long j = 1; j < C; j++)
                if (logits[j] > logits[best] || (logits[j] != logits[j] && logits[best] == logits[best])) best = j;
            counts[b.labels[k] * C + best]++;
            loss += cross_entropy(logits, C, b.labels[k], 1.0f);
        }
    }
    return loss;
}

/* sum <- sum + share * values, in double precision. */
EXPORT void add_scaled(double *sum, const float *values, double share, int64_t n) {
    for (long k = 0; k < n; k++) {
        double next = __builtin_fma(share, (double)values[k], sum[k]);
        sum[k] = next == next ? next : __builtin_nan("");
    }
}

/* The sum of the squared differences, in LANES lanes; those that are equal count nothing, infinities too. */
EXPORT double squared_distance(const float *first, const float *second, int64_t n) {
    double lanes[LANES] = {};
    for (long k = 0; k < n; k++) {
        double difference = first[k] == second[k] ? 0.0 : (double)first[k] - (double)second[k];
        lanes[k % LANES] = __builtin_fma(difference, difference, lanes[k % LANES]);
    }
    for (int half = LANES / 2; half; half /= 2) for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
    return lanes[0];
}
