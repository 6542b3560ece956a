// Exact top-k of each row of scores: ascending positions, ties to the smaller position. One launch.
//
// A cluster of 1 to 16 blocks has a row: each block keeps a contiguous segment of it in shared memory, so that scores are
// read once. What blocks find out about their segments, they read from each other's shared memory.
//   1. the row's least and greatest score;
//   2. a histogram of equal steps between them: the bin of the k-th best score;
//   3. that bin's scores (usually a few) of all blocks: the k-th best itself, and how many equal to it are taken. Where
//      there are too many (one outlier among the scores, or ties), a radix select over the whole row finds it;
//   4. each block writes its positions, at a place that follows from the counts of the blocks before it.
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

// Copy a segment to shared memory, -0 becoming +0, and leave its least and greatest score in `shared`.
__device__ void load_segment(Shared& shared, Segment segment, const float* row, bool aligned) {
    const int thread = thread_index(), warp = thread / 32, count = segment.count;
    float least = INFINITE, greatest = -INFINITE;
    for (int i = thread * 4; i < count; i += THREADS * 4) {
        float4 x;
        if (aligned && i + 4 <= count) {
            x = *reinterpret_cast<const float4*>(row + i);
        } else {
            x.x = row[i];
            x.y = i + 1 < count ? row[i + 1] : x.x;
            x.z = i + 2 < count ? row[i + 2] : x.x;
            x.w = i + 3 < count ? row[i + 3] : x.x;
        }
        x = float4{x.x + 0.0f, x.y + 0.0f, x.z + 0.0f, x.w + 0.0f};
        *reinterpret_cast<float4*>(segment.scores + i) = x;
        least = fminf(fminf(fminf(least, x.x), fminf(x.y, x.z)), x.w);
        greatest = fmaxf(fmaxf(fmaxf(greatest, x.x), fmaxf(x.y, x.z)), x.w);
    }
    least = warp_least(least);
    greatest = -warp_least(-greatest);
    if (thread % 32 == 0) {
        shared.extremes[warp] = least;
        shared.extremes[WARPS + warp] = greatest;
    }
    sync_block();
    if (thread == 0) {
        for (int i = 1; i < WARPS; i++) {
            least = fminf(least, shared.extremes[i]);
            greatest = fmaxf(greatest, shared.extremes[WARPS + i]);
        }
        shared.least = least;
        shared.greatest = greatest;
    }
}

// Each warp has a contiguous part of the segment, and counts it before it writes.
__device__ void write_positions(Shared& shared, Segment segment, Threshold threshold, int* out) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    const int share = (segment.count + WARPS * 32 - 1) / (WARPS * 32) * 32;
    const int begin = warp * share, end = begin + share < segment.count ? begin + share : segment.count;
    int above = 0, equal = 0;
    for (int i = begin + lane; i < end; i += 32) {
        above += segment.scores[i] > threshold.kth;
        equal += segment.scores[i] == threshold.kth;
    }
    above = warp_sum(above);
    equal = warp_sum(equal);
    if (lane == 0) {
        shared.sums[warp] = above;
        shared.sums[WARPS + warp] = equal;
    }
    sync_block();
    above = threshold.above;
    equal = threshold.equal;
    for (int before = 0; before < warp; before++) {
        above += shared.sums[before];
        equal += shared.sums[WARPS + before];
    }
    const unsigned lower = (1u << lane) - 1;
    for (int i = begin; i < end; i += 32) {
        const float x = i + lane < end ? segment.scores[i + lane] : -INFINITE;
        const unsigned is_above = __ballot_sync(FULL, x > threshold.kth);
        const unsigned is_equal = __ballot_sync(FULL, x == threshold.kth);
        const int equals = equal + __popc(is_equal & lower);
        if (x > threshold.kth || (x == threshold.kth && equals < threshold.taken)) {
            const int ties = equals < threshold.taken ? equals : threshold.taken;
            out[above + __popc(is_above & lower) + ties] = segment.first + i + lane;
        }
        above += __popc(is_above);
        equal += __popc(is_equal);
    }
}

__global__ void __launch_bounds__(THREADS) take_best(TopKArgs args) {
    const Cluster cluster;
    Shared& shared = *reinterpret_cast<Shared*>(block_memory());
    const int blocks = cluster.blocks(), rank = cluster.rank(), k = args.k;
    const long long row = cluster.index();
    const int length = args.lengths[row];
    int* out = args.out + row * k;
    if (length <= k) {  // the whole cluster leaves: these scores were never written
        for (int i = rank * THREADS + thread_index(); i < k; i += blocks * THREADS) out[i] = i < length ? i : NONE;
        return;
    }
    const int share = (length + 4 * blocks - 1) / (4 * blocks) * 4;
    const int first = rank * share < length ? rank * share : length;
    const int end = first + share < length ? first + share : length;
    const Segment segment{reinterpret_cast<float*>(block_memory() + sizeof(Shared)), first, end - first};
    load_segment(shared, segment, args.scores + row * args.stride + first, args.stride % 4 == 0);
    clear_histogram(shared);
    cluster.sync();
    const Steps steps = make_steps(cluster, shared);
    for (int i = thread_index(); i < segment.count; i += THREADS) count_bin(shared, steps.bin(segment.scores[i]));
    cluster.sync();
    const Bin bin = find_bin(cluster, shared, k);
    const Threshold threshold = bin.count <= CANDIDATES
                                    ? rank_candidates(cluster, shared, segment, steps, bin, k)
                                    : radix_select(cluster, shared, segment, k);
    write_positions(shared, segment, threshold, out);
    cluster.sync();  // nobody leaves while others may read its memory
}

static_assert(sizeof(Shared) % 16 == 0);

}  // namespace

extern "C" {

const char* topk_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

// Shared memory that a block needs for its part of a row of `length`, in bytes.
int topk_shared_bytes(int length, int blocks) {
    return sizeof(Shared) + (length + 4 * blocks - 1) / (4 * blocks) * 4 * sizeof(float);
}

#ifdef __CUDACC__
// Once for each device, before the first launch: lets blocks use `bytes` of shared memory and clusters have 16 blocks.
int topk_prepare(int bytes) {
    cudaError_t error = cudaFuncSetAttribute(take_best, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return error;
    return cudaFuncSetAttribute(take_best, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

// `blocks` of each row; `longest` is the most that a length may be.
int topk_launch(const TopKArgs* args, int rows, int longest, int blocks, cudaStream_t stream) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(rows * blocks);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = topk_shared_bytes(longest, blocks);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, take_best, *args);
}
#else  // tests
int topk_prepare(int) { return cudaSuccess; }

int topk_launch(const TopKArgs* args, int rows, int longest, int blocks, cudaStream_t) {
    cluster_on_cpu::run(take_best, rows, blocks, topk_shared_bytes(longest, blocks), *args);
    return cudaSuccess;
}
#endif

}  // extern "C"
