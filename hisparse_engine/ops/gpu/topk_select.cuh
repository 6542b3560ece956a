// The k-th best score of a row that a cluster's blocks share, and how many scores above and equal to it the blocks before
// this one have. Counts are integers: no result depends on an order of execution.
#pragma once
#include "topk_block.cuh"

namespace {

constexpr int LOADS = 8;  // of other blocks' memory, in flight at once

// Where the k-th best is among bins: its bin, how many scores lie in higher bins, how many in its own (MANY: in no bin).
struct Bin {
    int bin, above, count;
};

// The k-th best score; how many equal to it are taken; how many above and equal to it lie in the blocks before.
struct Threshold {
    float kth;
    int taken, above, equal;
};

// `own` as the block of this lane's number has it, nothing where there is no such block.
__device__ inline int2 of_lanes_block(Cluster cluster, int2& own) {
    const int lane = thread_index() % 32;
    return lane < cluster.blocks() ? *cluster.of(&own, lane) : int2{0, 0};
}

__device__ inline void clear_histogram(Shared& shared) { shared.histogram[thread_index()] = 0; }

__device__ inline void count_bin(Shared& shared, int bin) { atomicAdd(&shared.histogram[bin / 2], 1u << 16 * (bin % 2)); }

// Where scores tie, all lanes have one bin: then one lane counts for all. A bin below 0 is not counted.
__device__ inline void count_bin_of_warp(Shared& shared, int bin) {
    const int first = __shfl_sync(FULL, bin, 0);
    if (__ballot_sync(FULL, bin == first) == FULL) {
        if (first >= 0 && thread_index() % 32 == 0) atomicAdd(&shared.histogram[first / 2], 32u << 16 * (first % 2));
    } else if (bin >= 0) {
        count_bin(shared, bin);
    }
}

// All blocks' histograms must be complete.
__device__ inline Bin find_bin(Cluster cluster, Shared& shared, int k) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32;
    int low = 0, high = 0;  // of the thread's two bins
    for (int first = 0; first < cluster.blocks(); first += LOADS) {
        unsigned words[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            words[i] = first + i < cluster.blocks() ? cluster.of(shared.histogram, first + i)[thread] : 0;
        }
#pragma unroll
        for (int i = 0; i < LOADS; i++) low += words[i] & 0xffff, high += words[i] >> 16;
    }
    int at_least = low + high;  // scores in this thread's bins and in those of higher threads
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_down_sync(FULL, at_least, step);
        if (lane + step < 32) at_least += other;
    }
    if (lane == 0) shared.sums[warp] = int2{at_least, 0};
    if (thread == 0) shared.found[2] = MANY;
    sync_block();
    const int theirs = lane < WARPS && lane > warp ? shared.sums[lane].x : 0;
    at_least += warp_sum(theirs);
    const int above_high = at_least - low - high, above_low = at_least - low;
    const bool in_high = above_high < k && above_low >= k, in_low = above_low < k && at_least >= k;
    if (in_high || in_low) {  // one thread
        shared.found[0] = 2 * thread + in_high;
        shared.found[1] = in_high ? above_high : above_low;
        shared.found[2] = in_high ? high : low;
    }
    sync_block();
    return {shared.found[0], shared.found[1], shared.found[2]};
}

__device__ inline unsigned ordered(float x) {  // a < b as floats exactly when ordered(a) < ordered(b); -0 is +0
    const unsigned bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float unordered(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// By the scores' bits, as many at a time as a histogram has bins for. Whatever the scores are, this ends.
template <int V>
__device__ Threshold radix_select(Cluster cluster, Shared& shared, const Scores<V>& scores, int k) {
    unsigned prefix = 0, mask = 0;
    for (unsigned weight = 0x80000000u; weight > 0;) {  // of the highest bit still open
        const unsigned lowest = weight >= BINS / 2 ? weight / (BINS / 2) : 1;
        const unsigned digits = weight / lowest * 2 - 1;
        cluster.sync();  // all have read the histograms of the pass before
        clear_histogram(shared);
        sync_block();
        scores.each([&](float x) {
            const unsigned key = ordered(x);
            count_bin_of_warp(shared, x != NOTHING && (key & mask) == prefix ? key / lowest & digits : -1);
        });
        cluster.sync();
        const Bin bin = find_bin(cluster, shared, k);
        k -= bin.above;
        prefix |= bin.bin * lowest;
        mask |= digits * lowest;
        weight = lowest / 2;
    }
    const float kth = unordered(prefix);
    int above = 0, equal = 0;
    scores.each([&](float x) { above += x > kth, equal += x == kth; });
    const int2 own = block_sums(shared, above, equal);
    if (thread_index() == 0) shared.counts = own;
    cluster.sync();
    const int2 there = of_lanes_block(cluster, shared.counts);
    const bool before = thread_index() % 32 < cluster.rank();
    return {kth, k, warp_sum(before ? there.x : 0), warp_sum(before ? there.y : 0)};
}

// By comparing a bin's scores with each other, where it has at most CANDIDATES.
template <int V>
__device__ Threshold rank_candidates(
    Cluster cluster, Shared& shared, const Scores<V>& scores, Steps steps, Bin bin, int k) {
    const int thread = thread_index(), lane = thread % 32, warp = thread / 32, rank = cluster.rank();
    if (thread == 0) shared.counts = int2{0, 0}, shared.before[0] = shared.before[1] = 0;
    sync_block();
    int higher = 0;
    scores.each([&](float x) {
        const int own = steps.bin(x);
        higher += own > bin.bin;
        if (own == bin.bin) shared.candidates[atomicAdd(&shared.counts.y, 1)] = x;
    });
    higher = warp_sum(higher);
    if (lane == 0 && higher > 0) atomicAdd(&shared.counts.x, higher);
    cluster.sync();
    const int2 there = of_lanes_block(cluster, shared.counts);
    const float* theirs = cluster.of(shared.candidates, warp < cluster.blocks() ? warp : rank);
    const float theirs_early = theirs[lane];  // before it is known how many there are
    const int higher_before = warp_sum(lane < rank ? there.x : 0), own_first = warp_sum(lane < rank ? there.y : 0);
    const int first = warp_sum(lane < warp ? there.y : 0), size = __shfl_sync(FULL, there.y, warp);
    if (lane < size) shared.gathered[first + lane] = theirs_early;
    for (int i = lane + 32; i < size; i += 32) shared.gathered[first + i] = theirs[i];
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
