// A block's part of a row of scores, in the registers of its threads, and what the block's threads add up.
#pragma once
#include "topk_cluster.cuh"

namespace {

constexpr int WARPS = THREADS / 32;  // at least as many as blocks in a cluster: a warp fetches what a block has
constexpr int BINS_A_THREAD = 2;
constexpr int BINS = BINS_A_THREAD * THREADS;  // of a histogram; two 16-bit counts a word: a block has less than 65536
constexpr int CANDIDATES = 1024;               // the most scores of a bin that are ranked by comparing them all
constexpr int MANY = 0x7fffffff;
constexpr unsigned FULL = 0xffffffffu;
constexpr float NOTHING = -__builtin_huge_valf();  // in place of a score: no score is this

struct Shared {
    unsigned histogram[THREADS];
    float candidates[CANDIDATES];  // this block's scores in the bin of the k-th best
    float gathered[CANDIDATES];    // all blocks', in the order of the blocks
    int2 counts;                   // of this block: scores above the bin, and in it; or above and equal to the k-th best
    int2 sums[WARPS];
    float2 range[WARPS];
    int found[3];
    int before[2];
    float kth;
};

// A warp has adjacent scores, a lane four adjacent ones of each of its V vectors.
template <int V>
struct Scores {
    float x[V][4];
    int position;  // of the first; a vector later is 128 later

    __device__ void load(const float* row, int first, int count, bool aligned) {
        const int lane = thread_index() % 32, warp = thread_index() / 32;
        const int share = (count + WARPS * 128 - 1) / (WARPS * 128) * 128;
        const int begin = warp * share, end = begin + share < count ? begin + share : count;
        position = first + begin + lane * 4;
#pragma unroll
        for (int v = 0; v < V; v++) {
            const int i = begin + v * 128 + lane * 4;
            if (aligned && i + 4 <= end) {
                const float4 four = *reinterpret_cast<const float4*>(row + first + i);
                x[v][0] = four.x, x[v][1] = four.y, x[v][2] = four.z, x[v][3] = four.w;
            } else {
#pragma unroll
                for (int e = 0; e < 4; e++) x[v][e] = i + e < end ? row[first + i + e] : NOTHING;
            }
        }
    }

    template <class Do>
    __device__ void each(Do act) const {
#pragma unroll
        for (int v = 0; v < V; v++) {
#pragma unroll
            for (int e = 0; e < 4; e++) act(x[v][e]);
        }
    }
};

__device__ inline int warp_sum(int x) { return __reduce_add_sync(FULL, x); }

__device__ inline float warp_greatest(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, step));
    return x;
}

__device__ inline float warp_least(float x) { return -warp_greatest(-x); }

// Sums over the block; every thread gets them.
__device__ inline int2 block_sums(Shared& shared, int x, int y) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    x = warp_sum(x);
    y = warp_sum(y);
    if (lane == 0) shared.sums[warp] = int2{x, y};
    sync_block();
    const int2 sums = lane < WARPS ? shared.sums[lane] : int2{0, 0};
    return {warp_sum(sums.x), warp_sum(sums.y)};
}

// Equal steps from `least` up; scores below it have none, those above the last are in the last. Rounding never reverses
// the bins of two scores.
struct Steps {
    float least, a_score;

    __device__ int bin(float x) const {
        return x >= least ? static_cast<int>(fminf((x - least) * a_score, BINS - 1)) : -1;
    }
};

// Steps that very likely hold the k-th best of a row's `length` scores, and few below it: from a sample of the row, the
// same in all blocks. Each warp has 32 of it and takes those as great as a share of k / length, and one more.
__device__ inline Steps sample_steps(Shared& shared, float sample, int length, int k) {
    const int lane = thread_index() % 32, warp = thread_index() / 32;
    const float greatest = warp_greatest(sample);
    float least = greatest;
    const int more = 32u * k / length;
    if (more > 8) least = warp_least(sample);
    for (int i = 0; i < more && more <= 8; i++) {
        if (sample == least) sample = NOTHING;
        const float next = warp_greatest(sample);
        if (next != NOTHING) least = next;
    }
    if (lane == 0) shared.range[warp] = float2{least, greatest};
    sync_block();
    const float2 range = shared.range[lane % WARPS];
    least = warp_least(range.x);
    const float above = warp_greatest(range.y) - least;  // a little more than the sample's greatest is likely, too
    const float a_score = BINS / (above * 1.25f);
    // a range too small or too large for floats: all in one bin, for the radix select
    return {least, a_score > 0.0f && a_score <= 3.0e38f ? a_score : 0.0f};
}

}  // namespace
