// Exact top-k of each row of scores: ascending positions, ties to the smaller position. One launch.
//
// A cluster of 1 to 16 blocks has a row, and its threads' registers hold all of it: scores are read once.
//   1. A sample of the row says between which scores the k-th best very likely lies.
//   2. A histogram of equal steps there, all blocks' added up through each other's shared memory: the k-th best's bin.
//   3. That bin's scores (usually a few) of all blocks: the k-th best itself, and how many equal to it are taken. Where
//      there are too many, or the sample misled, a radix select over the whole row finds it.
//   4. Each block writes its positions, at a place that follows from the counts of the blocks before it.
#include "topk_select.cuh"

struct TopKArgs {
    const float* scores;  // [rows, stride]
    const int* lengths;   // [rows]
    int* out;             // [rows, k]
    long long stride;
    int k;
};

namespace {

constexpr int NONE = -1;

// Four counts of at most 128 in a word: adding words adds them all.
__device__ int count_of(unsigned word, int v) { return word >> 8 * (v % 4) & 0xff; }

__device__ unsigned up_to_this_lane(unsigned word) {
    for (int step = 1; step < 32; step *= 2) {
        const unsigned other = __shfl_up_sync(FULL, word, step);
        if (thread_index() % 32 >= step) word += other;
    }
    return word;
}

template <int V>
__device__ void write_positions(Shared& shared, const Scores<V>& scores, Threshold threshold, int* out) {
    constexpr int WORDS = (V + 3) / 4;
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    unsigned own_above[WORDS] = {}, own_equal[WORDS] = {}, above_to[WORDS], equal_to[WORDS];
#pragma unroll
    for (int v = 0; v < V; v++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            own_above[v / 4] += static_cast<unsigned>(scores.x[v][e] > threshold.kth) << 8 * (v % 4);
            own_equal[v / 4] += static_cast<unsigned>(scores.x[v][e] == threshold.kth) << 8 * (v % 4);
        }
    }
    int2 total{0, 0};
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
        above_to[w] = up_to_this_lane(own_above[w]);
        equal_to[w] = up_to_this_lane(own_equal[w]);
        for (int v = 0; v < 4; v++) total.x += count_of(above_to[w], v), total.y += count_of(equal_to[w], v);
    }
    if (lane == 31) shared.sums[warp] = total;
    sync_block();
    const int2 there = lane < warp ? shared.sums[lane] : int2{0, 0};
    int above = threshold.above + warp_sum(there.x), equal = threshold.equal + warp_sum(there.y);  // before vector v
#pragma unroll
    for (int v = 0; v < V; v++) {
        int above_before = above + count_of(above_to[v / 4] - own_above[v / 4], v);
        int equal_before = equal + count_of(equal_to[v / 4] - own_equal[v / 4], v);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const bool is_above = scores.x[v][e] > threshold.kth, is_equal = scores.x[v][e] == threshold.kth;
            if (is_above || (is_equal && equal_before < threshold.taken)) {
                const int ties = equal_before < threshold.taken ? equal_before : threshold.taken;
                out[above_before + ties] = scores.position + v * 128 + e;
            }
            above_before += is_above;
            equal_before += is_equal;
        }
        above += count_of(__shfl_sync(FULL, above_to[v / 4], 31), v);
        equal += count_of(__shfl_sync(FULL, equal_to[v / 4], 31), v);
    }
}

template <int V>
__global__ void __launch_bounds__(THREADS, V <= 5 ? 3 : 1) take_best(TopKArgs args) {
    Shared& shared = block_shared<Shared>();
    const Cluster cluster;
    const int blocks = cluster.blocks(), rank = cluster.rank(), thread = thread_index(), k = args.k;
    const long long row = cluster.index();
    wait_for_kernels_before();
    const int length = args.lengths[row];
    int* out = args.out + row * k;
    if (length <= k) {  // the whole cluster leaves: these scores were never written
        for (int i = rank * THREADS + thread; i < k; i += blocks * THREADS) out[i] = i < length ? i : NONE;
        return;
    }
    const float* row_scores = args.scores + row * args.stride;
    const int share = (length + 4 * blocks - 1) / (4 * blocks) * 4;
    const int first = rank * share < length ? rank * share : length;
    const int end = first + share < length ? first + share : length;
    const float sample = row_scores[static_cast<long long>(thread) * length / THREADS];
    Scores<V> scores;
    scores.load(row_scores, first, end - first, args.stride % 4 == 0);
    clear_histogram(shared);
    const Steps steps = sample_steps(shared, sample, length, k);
    scores.each([&](float x) {
        const int bin = steps.bin(x);
        if (bin >= 0) count_bin(shared, bin);
    });
    cluster.sync();
    const Bin bin = find_bin(cluster, shared, k);
    const Threshold threshold = bin.count <= CANDIDATES ? rank_candidates(cluster, shared, scores, steps, bin, k)
                                                        : radix_select(cluster, shared, scores, k);
    cluster.arrive();  // this block has read what it needs of others
    write_positions(shared, scores, threshold, out);
    cluster.wait();
}

using Kernel = void (*)(TopKArgs);

constexpr int VECTORS[] = {1, 2, 4, 5, 8};
constexpr Kernel KERNELS[] = {take_best<1>, take_best<2>, take_best<4>, take_best<5>, take_best<8>};

// The kernel whose blocks hold the fewest scores that suffice; none where no kernel's do.
Kernel kernel_for(int longest, int blocks) {
    for (int i = 0; i < 5; i++) {
        if (static_cast<long long>(VECTORS[i]) * 4 * THREADS * blocks >= longest) return KERNELS[i];
    }
    return nullptr;
}

}  // namespace

extern "C" {

const char* topk_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

#ifdef __CUDACC__
// Once for each device, before the first launch: lets clusters have 16 blocks.
int topk_prepare() {
    for (Kernel kernel : KERNELS) {
        cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

// `blocks` of each row; `longest` is the most that a length may be.
int topk_launch(const TopKArgs* args, int rows, int longest, int blocks, cudaStream_t stream) {
    const Kernel kernel = kernel_for(longest, blocks);
    if (kernel == nullptr) return cudaErrorInvalidValue;
    cudaLaunchAttribute attributes[2]{};
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(rows * blocks);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, kernel, *args);
}
#else  // tests
int topk_prepare() { return cudaSuccess; }

int topk_launch(const TopKArgs* args, int rows, int longest, int blocks, cudaStream_t) {
    const Kernel kernel = kernel_for(longest, blocks);
    if (kernel == nullptr) return cudaErrorInvalidValue;
    cluster_on_cpu::run(kernel, rows, blocks, *args);
    return cudaSuccess;
}
#endif

}  // extern "C"
