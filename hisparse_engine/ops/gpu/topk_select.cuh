// The k-th best score of a row that a cluster's blocks hold in segments, and how many scores above and equal to it the
// blocks before this one have. Counts are integers: no result depends on an order of execution.
#pragma once
#include "topk_cluster.cuh"

namespace {

constexpr int WARPS = THREADS / 32;  // at least as many as blocks in a cluster: a warp fetches what a block has
constexpr int BINS_A_THREAD = 4;
constexpr int BINS = BINS_A_THREAD * THREADS;  // of a histogram; two 16-bit counts a word: a segment has less than 65536
constexpr int CANDIDATES = 1024;               // the most scores of a bin that are ranked by comparing them all
constexpr int LOADS = 8;                       // of other blocks' memory, in flight at once
constexpr unsigned FULL = 0xffffffffu;
constexpr float INFINITE = __builtin_huge_valf();

struct Shared {
    uint2 histogram[THREADS];
    float candidates[CANDIDATES];  // this block's scores in the bin of the k-th best
    float gathered[CANDIDATES];    // all blocks', in the order of the blocks
    float least, greatest;
    int num_candidates;
    int num_above;  // scores of this block above the bin, or above the k-th best
    int num_equal;  // scores of this block equal to the k-th best
    int sums[2 * WARPS];
    float extremes[2 * WARPS];
    int found[3];
    int before[2];
    float kth;
};

// A block's contiguous part of a row, in shared memory.
struct Segment {
    float* scores;
    int first, count;
};

// Where the k-th best is among bins: its bin, how many scores lie in higher bins, how many in its own.
struct Bin {
    int bin, above, count;
};

// The k-th best score; how many equal to it are taken; how many above and equal to it lie before this segment.
struct Threshold {
    float kth;
    int taken, above, equal;
};

// Equal steps from the least to the greatest score of the row: rounding never reverses two scores' bins.
struct Steps {
    float least, a_score;

    __device__ int bin(float x) const {
        const int step = static_cast<int>((x - least) * a_score);
        return step < 0 ? 0 : step < BINS ? step : BINS - 1;
    }
};

__device__ inline int warp_sum(int x) { return __reduce_add_sync(FULL, x); }

__device__ inline float warp_least(float x) {
    for (int step = 16; step > 0; step /= 2) x = fminf(x, __shfl_xor_sync(FULL, x, step));
    return x;
}

// `own` as the block of this lane's number has it; `other` where there is no such block.
template <class T>
__device__ T of_lanes_block(Cluster cluster, T& own, T other) {
    const int lane = thread_index() % 32;
    return lane < cluster.blocks() ? *cluster.of(&own, lane) : other;
}

__device__ inline void clear_histogram(Shared& shared) { shared.histogram[thread_index()] = uint2{0, 0}; }

__device__ inline void count_bin(Shared& shared, int bin) {
    unsigned* words = &shared.histogram[0].x;
    atomicAdd(&words[bin / 2], 1u << 16 * (bin % 2));
}

// All blocks' histograms must be complete.
__device__ inline Bin find_bin(Cluster cluster, Shared& shared, int k) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32;
    int counts[BINS_A_THREAD] = {};
    for (int first = 0; first < cluster.blocks(); first += LOADS) {
        uint2 words[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            words[i] = uint2{0, 0};
            if (first + i < cluster.blocks()) words[i] = cluster.of(shared.histogram, first + i)[thread];
        }
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            counts[0] += words[i].x & 0xffff;
            counts[1] += words[i].x >> 16;
            counts[2] += words[i].y & 0xffff;
            counts[3] += words[i].y >> 16;
        }
    }
    const int own = counts[0] + counts[1] + counts[2] + counts[3];
    int at_least = own;  // scores in this thread's bins and in those of higher threads
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_down_sync(FULL, at_least, step);
        if (lane + step < 32) at_least += other;
    }
    if (lane == 0) shared.sums[warp] = at_least;
    sync_block();
    for (int higher = warp + 1; higher < WARPS; higher++) at_least += shared.sums[higher];
    int above = at_least - own;
#pragma unroll
    for (int i = BINS_A_THREAD - 1; i >= 0; i--) {
        if (above < k && above + counts[i] >= k) {  // true in one place of one thread
            shared.found[0] = thread * BINS_A_THREAD + i;
            shared.found[1] = above;
            shared.found[2] = counts[i];
        }
        above += counts[i];
    }
    sync_block();
    return {shared.found[0], shared.found[1], shared.found[2]};
}

__device__ inline Steps make_steps(Cluster cluster, Shared& shared) {
    const float least = warp_least(of_lanes_block(cluster, shared.least, INFINITE));
    const float greatest = -warp_least(-of_lanes_block(cluster, shared.greatest, -INFINITE));
    const float a_score = BINS / (greatest - least);
    // a range too small or too large for floats: all in one bin, for the radix select
    return {least, a_score > 0.0f && a_score <= 3.0e38f ? a_score : 0.0f};
}

__device__ inline unsigned ordered(float x) {  // a < b as floats exactly when ordered(a) < ordered(b)
    const unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float unordered(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Count the segment's scores above and equal to the k-th best, and add up those of the blocks before.
__device__ inline void count_before(Cluster cluster, Shared& shared, Segment segment, Threshold& threshold) {
    const int thread = thread_index();
    int above = 0, equal = 0;
    for (int i = thread; i < segment.count; i += THREADS) {
        above += segment.scores[i] > threshold.kth;
        equal += segment.scores[i] == threshold.kth;
    }
    above = warp_sum(above);
    equal = warp_sum(equal);
    if (thread == 0) shared.num_above = shared.num_equal = 0;
    sync_block();
    if (thread % 32 == 0) {
        atomicAdd(&shared.num_above, above);
        atomicAdd(&shared.num_equal, equal);
    }
    cluster.sync();
    const bool before = thread % 32 < cluster.rank();
    const int above_there = of_lanes_block(cluster, shared.num_above, 0);
    const int equal_there = of_lanes_block(cluster, shared.num_equal, 0);
    threshold.above = warp_sum(before ? above_there : 0);
    threshold.equal = warp_sum(before ? equal_there : 0);
}

// By the scores' bits, as many at a time as a histogram has bins for. Whatever the scores are, this ends.
__device__ inline Threshold radix_select(Cluster cluster, Shared& shared, Segment segment, int k) {
    unsigned prefix = 0, mask = 0;
    for (unsigned weight = 0x80000000u; weight > 0;) {  // of the highest bit still open
        const unsigned lowest = weight >= BINS / 2 ? weight / (BINS / 2) : 1;
        const unsigned digits = weight / lowest * 2 - 1;
        cluster.sync();  // all have read the histograms of the pass before
        clear_histogram(shared);
        sync_block();
        for (int i = thread_index(); i < segment.count; i += THREADS) {
            const unsigned key = ordered(segment.scores[i]);
            if ((key & mask) == prefix) count_bin(shared, key / lowest & digits);
        }
        cluster.sync();
        const Bin bin = find_bin(cluster, shared, k);
        k -= bin.above;
        prefix |= bin.bin * lowest;
        mask |= digits * lowest;
        weight = lowest / 2;
    }
    Threshold threshold{unordered(prefix), k, 0, 0};
    count_before(cluster, shared, segment, threshold);
    return threshold;
}

// By comparing a bin's scores with each other, where it has at most CANDIDATES.
__device__ inline Threshold rank_candidates(
    Cluster cluster, Shared& shared, Segment segment, Steps steps, Bin bin, int k) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, rank = cluster.rank();
    if (thread == 0) shared.num_candidates = shared.num_above = shared.before[0] = shared.before[1] = 0;
    sync_block();
    int higher = 0;
    for (int i = thread; i < segment.count; i += THREADS) {
        const int own = steps.bin(segment.scores[i]);
        higher += own > bin.bin;
        if (own == bin.bin) shared.candidates[atomicAdd(&shared.num_candidates, 1)] = segment.scores[i];
    }
    higher = warp_sum(higher);
    if (lane == 0) atomicAdd(&shared.num_above, higher);
    cluster.sync();
    const int size = of_lanes_block(cluster, shared.num_candidates, 0);
    const int higher_there = of_lanes_block(cluster, shared.num_above, 0);
    const int higher_before = warp_sum(lane < rank ? higher_there : 0);
    const int own_first = warp_sum(lane < rank ? size : 0), first = warp_sum(lane < warp ? size : 0);
    const int fetched = __shfl_sync(FULL, size, warp);
    if (warp < cluster.blocks()) {
        const float* theirs = cluster.of(shared.candidates, warp);
        for (int i = lane; i < fetched; i += 32) shared.gathered[first + i] = theirs[i];
    }
    sync_block();
    for (int i = thread; i < bin.count; i += THREADS) {
        const float x = shared.gathered[i];
        int above = bin.above, equal = 0;
        for (int j = 0; j < bin.count; j++) {
            above += shared.gathered[j] > x;
            equal += shared.gathered[j] == x;
        }
        if (above < k && above + equal >= k) {  // every such i writes the same
            atomicExch(&shared.kth, x);
            atomicExch(&shared.found[0], k - above);
        }
    }
    sync_block();
    const float kth = shared.kth;
    for (int i = thread; i < own_first; i += THREADS) {
        if (shared.gathered[i] > kth) atomicAdd(&shared.before[0], 1);
        if (shared.gathered[i] == kth) atomicAdd(&shared.before[1], 1);
    }
    sync_block();
    return {kth, shared.found[0], higher_before + shared.before[0], shared.before[1]};
}

}  // namespace
